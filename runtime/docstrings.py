"""Python without docstrings (-OO, PYTHONOPTIMIZE=2): OpenVINO's tokenizers are not imported, tools say nothing."""

import sys

from .errors import EdgeError

CURE = "unset PYTHONOPTIMIZE, or set it to 1; leave out -OO"


def are_stripped() -> bool:
    """Return whether this Python takes the docstrings away."""
    return sys.flags.optimize >= 2


def require_docstrings(kind: type[EdgeError]) -> None:
    """Raise an error of this kind where there are none: openvino_tokenizers reads its own while it is imported."""
    if are_stripped():
        raise kind("OpenVINO's tokenizers do not run without docstrings, which PYTHONOPTIMIZE=2 leaves out", hint=CURE)
