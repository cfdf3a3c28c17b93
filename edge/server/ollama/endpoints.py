"""The table of Ollama's endpoints."""

from . import chat, embed, generate, library, models

ENDPOINTS = (chat.ENDPOINT, generate.ENDPOINT, *embed.ENDPOINTS, *models.ENDPOINTS, *library.ENDPOINTS)
