"""The table of Ollama's endpoints."""

from . import chat, generate, library, models

ENDPOINTS = (chat.ENDPOINT, generate.ENDPOINT, *models.ENDPOINTS, *library.ENDPOINTS)
