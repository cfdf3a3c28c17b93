"""Redaction of a report: the names of its user and machine, and secrets of the environment, wherever they stand.

The report is made of facts that have none of them; this is the second line of defence.
"""

import getpass
import os
import platform
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

_SECRET_NAME = re.compile(r"TOKEN|KEY|SECRET|PASS|AUTH|CREDENTIAL", re.IGNORECASE)
_MIN_SECRET = 6  # characters; shorter values are words such as "none"
_MIN_NAME = 2


class Redactor:
    """Replaces the home folder by ~, and names and secrets by what they are. `environment` is the process's own."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        found: dict[str, str] = {}
        for name, value in environment.items():
            if _SECRET_NAME.search(name) and len(value) >= _MIN_SECRET:
                found[value] = "(secret)"
        for home in _homes(environment):
            found[home] = "~"
        for user in _users(environment):
            found.setdefault(user, "(user)")
        for host in {platform.node(), platform.node().partition(".")[0]}:
            found.setdefault(host, "(host)")
        self._words = {text.lower(): what for text, what in found.items() if len(text) >= _MIN_NAME}
        longest_first = sorted(self._words, key=len, reverse=True)
        each = "|".join(rf"(?<![^\W_]){re.escape(text)}(?![^\W_])" for text in longest_first)
        self._pattern = re.compile(each, re.IGNORECASE) if each else None

    def redact(self, value: Any) -> Any:
        """Return a JSON value with all its texts redacted, those of its keys included."""
        match value:
            case str() if self._pattern is not None:
                return self._pattern.sub(lambda found: self._words[found[0].lower()], value)
            case dict():
                return {self.redact(name): self.redact(one) for name, one in value.items()}
            case list() | tuple():
                return [self.redact(one) for one in value]
        return value


def _homes(environment: Mapping[str, str]) -> set[str]:
    found = {environment.get(name, "") for name in ("HOME", "USERPROFILE")}
    with suppress(RuntimeError):
        found.add(str(Path.home()))
    return {home.rstrip("/\\") for home in found if home.strip("/\\")}


def _users(environment: Mapping[str, str]) -> set[str]:
    found = {environment.get(name, "") for name in ("USER", "LOGNAME", "USERNAME", "USERDOMAIN", "COMPUTERNAME")}
    with suppress(OSError, KeyError, ImportError):
        found.add(getpass.getuser())
    found |= {Path(home).name for home in _homes(environment)}
    return found
