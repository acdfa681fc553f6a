"""The treaty: what Azure's HTTP says, as tables and wire models. No I/O."""
