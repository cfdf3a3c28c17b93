"""Turning messages and tools into a prompt: chat templates, their sandbox, and the families."""
