"""The methods of ``client.sessions``: interactive training."""
