"""Batches in OpenAI's format: /v1/files, /v1/batches, and `edge batch`, which runs a file without a server."""
