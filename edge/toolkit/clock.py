"""The clock: the date and the time, here or in another time zone."""

from datetime import datetime
from zoneinfo import ZoneInfo

from runtime.text import quoted
from runtime.tool_call import ToolFailure


def clock(zone: str = "") -> str:
    """The date, the day of the week and the time now.

    Args:
        zone: a time zone such as Europe/Berlin or Asia/Shanghai; without it, that of this computer
    """
    if not zone.strip():
        now = datetime.now().astimezone()
    else:
        try:
            now = datetime.now(ZoneInfo(zone.strip()))
        except (LookupError, ValueError, OSError) as exc:  # no such file, a path, a folder
            raise ToolFailure(f"there is no time zone {quoted(zone)}; one is Europe/Berlin") from exc
    return now.strftime("%A, %Y-%m-%d %H:%M:%S, UTC%z")
