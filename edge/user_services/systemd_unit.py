"""A user unit of systemd: its text, and what starts it without a login."""

import getpass
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

_LINGERING = Path("/var/lib/systemd/linger")  # a file for each user whose services start at boot


def unit_text(command: Sequence[str]) -> str:
    """Return a systemd user unit.

    - SIGTERM goes to the server alone, which then ends its engine process.
    - The server comes back whatever ended it, as often as that happens: by default systemd gives up after five starts
      within ten seconds.
    """
    return f"""[Unit]
Description=GLM-4 for OpenAI's clients (glm4-edge)
StartLimitIntervalSec=0

[Service]
ExecStart={" ".join(map(_quote, command))}
KillMode=mixed
TimeoutStopSec=30
Restart=always
RestartSec=5
NoNewPrivileges=yes

[Install]
WantedBy=default.target
"""


def _quote(word: str) -> str:
    """Quote a word as systemd.service(5) and systemd.unit(5) require: in quotes, with % and $ doubled."""
    for char, escaped in (("\\", "\\\\"), ('"', '\\"'), ("%", "%%"), ("$", "$$")):
        word = word.replace(char, escaped)
    return f'"{word}"'


def linger_command(lingering: Path = _LINGERING) -> str:
    """Return the command by which this user's services start at boot, without a login; "" where they do."""
    with suppress(OSError, KeyError, ImportError):
        user = getpass.getuser()
        return "" if os.path.exists(lingering / user) else f"loginctl enable-linger {user}"
    return ""
