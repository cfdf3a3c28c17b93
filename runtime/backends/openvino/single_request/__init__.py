"""Engines on GenAI's pipelines for one request at a time."""
