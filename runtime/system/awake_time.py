"""Time limits on a laptop: the time in which the machine sleeps, or this process is stopped, is nobody's.

Linux's and macOS's monotonic clocks stand still while the machine sleeps; Windows' goes on, so that after a night every
limit of the evening would have passed.
"""

import sys
import time
from threading import Lock

if sys.platform == "win32":

    def awake_time() -> float:
        """Return the seconds in which the machine was awake, since some moment (QueryUnbiasedInterruptTime)."""
        import ctypes

        ticks = ctypes.c_ulonglong()
        ctypes.windll.kernel32.QueryUnbiasedInterruptTime(ctypes.byref(ticks))
        return ticks.value / 1e7

else:

    def awake_time() -> float:
        """Return the seconds in which the machine was awake, since some moment."""
        return time.monotonic()


class PolledClock:
    """A clock for a loop that looks at it again and again. From one look to the next at most `longest` seconds count:
    if more have passed, this process was stopped."""

    def __init__(self, longest: float = 1.0) -> None:
        self._longest = longest
        self._last = awake_time()
        self._counted = 0.0
        self._lock = Lock()

    @property
    def seconds(self) -> float:
        """The seconds that have counted until this look."""
        with self._lock:
            now = awake_time()
            self._counted += min(now - self._last, self._longest)
            self._last = now
            return self._counted
