"""Ollama's API under /api: chats, completions, and what its clients want to know of the models."""
