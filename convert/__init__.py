"""Conversion of a GLM-4 checkpoint into a model folder. Imports `runtime`, never `edge`."""

import runtime  # noqa: F401 - disables telemetry before OpenVINO is imported here
