"""What a request has to pass before an endpoint sees it: its host, origin, key, path, and the size of its body."""
