"""A model folder chats: engines behind one protocol. Imports nothing of `convert` or `edge`."""
