"""Interactive training: sessions that a program trains step by step (docs/interactive-training.md)."""
