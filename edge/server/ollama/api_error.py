"""Errors in the format of Ollama's API: {"error": text} under an HTTP status."""

from typing import Any

from pydantic import BaseModel

from ..errors import ApiError


class OllamaError(BaseModel):
    """The body of every response of /api with a status of 400 or more, and the last line of a stream that failed."""

    error: str


def error_body(error: ApiError) -> dict[str, Any]:
    """Return an error as the JSON object that Ollama's clients parse."""
    return {"error": str(error)}
