"""A model folder chats: engines behind one protocol. Imports nothing of `convert` or `edge`."""

from .system.native_effects import disable_telemetry

disable_telemetry()  # before any module of ours imports OpenVINO
