"""Collect problems, and locate them in the file."""
