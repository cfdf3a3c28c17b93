"""A model folder chats: engines behind one protocol. Imports nothing of `convert` or `edge`."""

from .system import telemetry

telemetry.disable_telemetry()  # before any module of ours imports OpenVINO
