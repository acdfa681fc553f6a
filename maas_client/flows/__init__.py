"""What each verb does, step by step: coroutines over the port of ``_io``."""
