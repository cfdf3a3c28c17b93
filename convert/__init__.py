"""A GLM-4 checkpoint becomes a model folder. Imports `runtime`, never `edge`."""

import runtime  # noqa: F401 - turns telemetry off before OpenVINO is imported here
