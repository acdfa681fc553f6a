"""Plan a training job before any download: memory, time, and which method fits."""
