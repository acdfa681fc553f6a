"""Facts in SQLite and bytes in files, whole or absent."""
