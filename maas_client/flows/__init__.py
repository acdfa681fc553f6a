"""What each method of a client does, step by step, as coroutines over the ``IO`` protocol of ``_io``."""
