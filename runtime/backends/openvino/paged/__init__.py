"""Engines on GenAI's continuous batching: requests join and leave between two steps."""
