"""What Windows makes of a name that is harmless elsewhere: devices such as AUX, names cut at the end, long paths.

Microsoft: "Naming Files, Paths, and Namespaces", and "Maximum Path Length Limitation".
"""

import re
from pathlib import PurePath

LONGEST = 259  # characters of a path that native libraries open
_DEVICE = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])(?:[ .].*)?", re.IGNORECASE)
_FORBIDDEN = re.compile(r'[<>:"|?*\x00-\x1f]')


def name_problem(name: str) -> str:
    """Return why Windows cannot have a file or folder of this name; "" if it can."""
    if _DEVICE.fullmatch(name):
        return f"{name} is the name of a device on Windows"
    if found := _FORBIDDEN.search(name):
        return f"a name on Windows has no {found[0]!r}"
    if name.endswith((" ", ".")) and name.strip("."):
        return "Windows drops a blank or a dot at the end of a name"
    return ""


def path_problem(path: PurePath, room: int = 0) -> str:
    """Return why Windows cannot have a file or folder at this absolute path, with names of `room` characters in it; ""
    if it can."""
    if problem := name_problem(path.name):
        return problem
    if (length := len(str(path))) + room > LONGEST:
        return f"a path of {length} characters is too long for Windows: at most {LONGEST - room} are possible"
    return ""
