"""What a job will need before anything is downloaded: memory, time, and which method fits."""
