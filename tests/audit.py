"""Everything that a process and its children ask of the network, and every file they leave: an audit hook that
Python's `sitecustomize` installs, and a home, a temporary folder and a working folder of their own.
"""

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_HOOK = """
import os, sys

_NETWORK = (
    "socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.getnameinfo",
    "socket.sendto", "socket.sendmsg", "urllib.Request", "http.client.connect", "ftplib.connect", "smtplib.connect",
)
_LOG = os.open(os.environ["AUDIT_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def _note(event, args):
    if event in _NETWORK:
        what = [arg for arg in args if isinstance(arg, (str, bytes, int, tuple))]
        os.write(_LOG, f"{event} {what}\\n".encode("utf-8", "replace"))

sys.addaudithook(_note)
os.write(_LOG, b"process\\n")
"""
# Libraries that report on their use do not in these, nor where the user has switched it off.
_QUIETING = (
    "CI", "TF_BUILD", "JENKINS_URL", "NNCF_CI", "NNCF_DEV", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE",
    "HF_HUB_DISABLE_TELEMETRY", "DISABLE_TELEMETRY", "DO_NOT_TRACK", "EDGE_CACHE", "EDGE_MODELS",
)  # fmt: skip


@dataclass(frozen=True)
class Place:
    """Where audited programs run."""

    root: Path
    allowed: list[str] = field(default_factory=list)  # patterns of what was asked for

    @property
    def work(self) -> Path:
        return self.root / "work"

    def environment(self, more: Mapping[str, str] = {}) -> dict[str, str]:
        for name in ("home", "tmp", "work", "site"):
            (self.root / name).mkdir(exist_ok=True)
        (self.root / "site" / "sitecustomize.py").write_text(_HOOK, encoding="utf-8")
        ours = {name: value for name, value in os.environ.items() if name not in _QUIETING and "XDG" not in name}
        home, tmp = str(self.root / "home"), str(self.root / "tmp")
        ours |= dict.fromkeys(("HOME", "USERPROFILE", "APPDATA", "LOCALAPPDATA"), home)
        ours |= dict.fromkeys(("TMPDIR", "TEMP", "TMP"), tmp)
        ours["PYTHONPATH"] = os.pathsep.join([str(self.root / "site"), str(ROOT)])
        return ours | {"AUDIT_LOG": str(self.root / "log")} | dict(more)

    def python(self, *arguments: str, text: str = "", more: Mapping[str, str] = {}) -> str:
        """Run Python with these arguments and return what it prints. Whatever it does is noted."""
        done = subprocess.run(
            [sys.executable, *arguments],
            input=text,
            capture_output=True,
            encoding="utf-8",
            env=self.environment(more),
            cwd=self.work,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    @property
    def processes(self) -> int:
        return self._log().count("process")

    @property
    def asked(self) -> list[str]:
        """Connections, messages and name look-ups that are not allowed."""
        return [
            line for line in self._log() if not any(re.fullmatch(known, line) for known in ("process", *self.allowed))
        ]

    def left(self, ours: Sequence[str] = ("glm4-edge",)) -> list[str]:
        """Files in the home folder and temporary folder, but for those in folders of these names."""
        return [
            path.relative_to(self.root).as_posix()
            for folder in ("home", "tmp")
            for path in (self.root / folder).rglob("*")
            if path.is_file() and not set(ours) & set(path.parts)
        ]

    def _log(self) -> list[str]:
        log = self.root / "log"
        return log.read_text(encoding="utf-8").splitlines() if log.exists() else []
