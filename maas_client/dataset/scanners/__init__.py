"""Look for problems in the content of rows: duplicates, secrets, personal data, quality, tokens."""
