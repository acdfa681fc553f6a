"""HTTP only: reading requests, asking the services, writing answers in Azure's words."""
