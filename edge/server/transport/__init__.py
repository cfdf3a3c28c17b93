"""Sockets and connections: how the server listens, what a client may cost it, and how a parent process finds it."""
