"""Validate rows: the chat format, tools, other formats, and what the training service does with them."""
