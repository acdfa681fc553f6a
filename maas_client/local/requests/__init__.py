"""Requests as each dialect writes them, parsed into the types of the local server."""
