"""Engines on OpenVINO GenAI."""
