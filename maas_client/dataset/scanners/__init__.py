"""Scan the content of valid rows: duplicates, secrets, personal data, quality, tokens."""
