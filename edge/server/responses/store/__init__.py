"""The bounded store of responses and conversations: in memory, or in a SQLite file."""
