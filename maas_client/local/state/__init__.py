"""The server's state on disk: records in SQLite, bytes in files."""
