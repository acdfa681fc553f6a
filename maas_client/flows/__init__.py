"""What each verb of a client does, step by step, as coroutines over the ``IO`` protocol of ``_io``."""
