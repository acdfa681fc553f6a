"""HTTP layer of the local server: connections, credentials, and routes built from the wire tables."""
