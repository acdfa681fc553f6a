"""Judge rows by the chat format and by what the training service does with them."""
