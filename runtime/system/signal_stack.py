"""The stack on which this thread takes signals.

OpenVINO's CPU plugin (2026.4) gives the thread that loads it one of its own. Where several instances of the plugin come
and go, as in loading one model after another, the thread is left with one that is gone: the next Ctrl-C, or any signal
that Python handles, is then a segmentation fault.
"""

import ctypes
import sys

_SS_DISABLE = 2


class _SignalStack(ctypes.Structure):
    """`stack_t` of sigaltstack(2), on Linux."""

    _fields_ = (("pointer", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


def disable_alternate_signal_stack() -> None:
    """Signals come on the thread's own stack from here on; the plugin leaves that as it is. Call it after a load."""
    if sys.platform == "linux":
        ctypes.CDLL(None).sigaltstack(ctypes.byref(_SignalStack(None, _SS_DISABLE, 0)), None)
