"""Routes of the local server: read the request, call the services, write the response as Azure does."""
