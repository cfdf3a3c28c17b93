"""The logs: the server's own, and a line for every request."""
