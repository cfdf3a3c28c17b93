"""No library reports on its use to its makers.

`import openvino` posts an event with a lasting client id to a web analytics service and leaves it under ~/intel; NNCF
does the same for every compression, and the hub's library counts callers. Global effects of importing any of our
packages, on this process and, by the environment, on those it starts:

- `sys.modules["openvino_telemetry"]` is None, so that OpenVINO and NNCF, which can do without it, do not find it. Where
  an application has loaded it before us, its `Telemetry` does nothing from here on.
- The variables of ENVIRONMENT are set, unless the user has set them. huggingface_hub reads them when it is imported;
  where that has happened, its constant is set.
"""

import os
import sys
from types import FunctionType
from typing import Any

ENVIRONMENT = {
    "HF_HUB_DISABLE_TELEMETRY": "1",  # huggingface_hub, transformers, gradio
    "DO_NOT_TRACK": "1",  # whoever else keeps to https://consoledonottrack.com
}
# For a Python that we start on others' code: the first thing it runs.
PREAMBLE = "import sys; sys.modules['openvino_telemetry'] = None"


def disable_telemetry() -> None:
    """Turn telemetry off in this process. Call it before OpenVINO is imported; calling it again changes nothing."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    loaded: Any = sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    if telemetry := getattr(loaded, "Telemetry", None):
        for name, value in list(vars(telemetry).items()):
            if isinstance(value, FunctionType):
                setattr(telemetry, name, _nothing)
    hub = sys.modules.get("huggingface_hub.constants")
    if hub is not None and os.environ["HF_HUB_DISABLE_TELEMETRY"] == ENVIRONMENT["HF_HUB_DISABLE_TELEMETRY"]:
        hub.HF_HUB_DISABLE_TELEMETRY = True  # type: ignore[attr-defined]


def _nothing(*_: object, **__: object) -> None:
    pass
