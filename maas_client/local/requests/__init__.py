"""Job and model import requests of each dialect, read into the local server's own types."""
