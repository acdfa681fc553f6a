"""Read lines and strict JSON from files."""
