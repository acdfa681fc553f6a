"""HTTP and nothing else: connections, hosts, credentials, and routes built from the wire tables."""
