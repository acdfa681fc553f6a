"""The user's local server: the record of the running one, what it answers, and its process."""
