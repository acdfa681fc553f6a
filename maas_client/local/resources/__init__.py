"""The server's resources (jobs, data, models, blobs, deployments): records and state machines."""
