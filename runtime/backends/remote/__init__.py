"""Engines on a server with the OpenAI API: ours, vLLM and others."""
