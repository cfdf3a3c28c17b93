"""Python without docstrings (-OO, PYTHONOPTIMIZE=2), where OpenVINO's tokenizers cannot be imported and tools have no
description."""

import sys

from .errors import EdgeError

CURE = "unset PYTHONOPTIMIZE, or set it to 1; leave out -OO"


def are_stripped() -> bool:
    """Return whether this Python strips docstrings."""
    return sys.flags.optimize >= 2


def require_docstrings(kind: type[EdgeError]) -> None:
    """Raise an error of this kind if docstrings are stripped: openvino_tokenizers reads its own when it is imported."""
    if are_stripped():
        raise kind("OpenVINO's tokenizers do not run without docstrings, which PYTHONOPTIMIZE=2 leaves out", hint=CURE)
