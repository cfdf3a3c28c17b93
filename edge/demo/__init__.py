"""The embedded checkpoint: a tiny trained GLM-4 that chats and calls tools, to check an installation."""

from pathlib import Path

CHECKPOINT = Path(__file__).parent / "checkpoint"
