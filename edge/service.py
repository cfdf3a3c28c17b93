"""The server at every login of the user: systemd on Linux, launchd on macOS, a scheduled task on Windows.

Each is a text that the system reads, and the commands that make it do so.
"""

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from runtime.errors import RequestError
from runtime.system.files import write_atomically
from runtime.text import replace_controls

NAME = "glm4-edge"
LABEL = "io.glm4-edge.serve"
Command = tuple[str, ...]
# A line break would begin a directive of its own in a unit of systemd; XML has none of the others.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True, slots=True)
class Service:
    """A service of this user: the file that describes it, and the commands of its three verbs."""

    path: Path
    text: str
    encoding: str
    install: tuple[Command, ...]
    status: Command
    remove: tuple[Command, ...]


def describe_service(serve: Sequence[str], platform: str = sys.platform, home: Path | None = None) -> Service:
    """The service that runs `edge serve` with these arguments. Raises RequestError where the system has none,
    or an argument has a control character."""
    home = home or _home_folder()
    for word in serve:
        if _CONTROL.search(word):
            raise RequestError(
                f"{replace_controls(word)!r} has a line break or another control character in it",
                hint="rename the folder; no file of a service can name it",
            )
    command = (sys.executable, "-m", "edge", "serve", *serve)
    if platform.startswith("linux"):
        unit = f"{NAME}.service"
        control = ("systemctl", "--user")
        return Service(
            home / ".config/systemd/user" / unit,
            systemd_unit(command),
            "utf-8",
            ((*control, "daemon-reload"), (*control, "enable", "--now", unit)),
            (*control, "status", "--no-pager", unit),
            ((*control, "disable", "--now", unit),),
        )
    if platform == "darwin":
        path = home / "Library/LaunchAgents" / f"{LABEL}.plist"
        return Service(
            path,
            launchd_plist(command, home),
            "utf-8",
            (("launchctl", "load", "-w", str(path)),),
            ("launchctl", "list", LABEL),
            (("launchctl", "unload", "-w", str(path)),),
        )
    if platform == "win32":
        path = home / "AppData/Local" / NAME / "task.xml"
        return Service(
            path,
            windows_task(command),
            "utf-16",
            (("schtasks", "/Create", "/F", "/TN", NAME, "/XML", str(path)), ("schtasks", "/Run", "/TN", NAME)),
            ("schtasks", "/Query", "/V", "/FO", "LIST", "/TN", NAME),
            (("schtasks", "/End", "/TN", NAME), ("schtasks", "/Delete", "/F", "/TN", NAME)),
        )
    raise RequestError(f"no services are known on {platform}", hint="start `edge serve` as that system starts programs")


def _home_folder() -> Path:
    try:
        return Path.home()
    except RuntimeError:
        raise RequestError(
            "this user has no home folder", hint="start `edge serve` as the system starts programs"
        ) from None


def systemd_unit(command: Sequence[str]) -> str:
    """A user unit. SIGTERM goes to the server alone, which ends its engine itself."""
    return f"""[Unit]
Description=GLM-4 for OpenAI's clients (glm4-edge)

[Service]
ExecStart={" ".join(map(_quote_for_systemd, command))}
KillMode=mixed
TimeoutStopSec=30
Restart=on-failure
NoNewPrivileges=yes

[Install]
WantedBy=default.target
"""


def _quote_for_systemd(word: str) -> str:
    """As systemd.service(5) and systemd.unit(5) have it: quotes, and % and $ doubled."""
    for char, written in (("\\", "\\\\"), ('"', '\\"'), ("%", "%%"), ("$", "$$")):
        word = word.replace(char, written)
    return f'"{word}"'


def launchd_plist(command: Sequence[str], home: Path) -> str:
    """A launch agent, as launchd.plist(5) has it."""
    words = "\n".join(f"        <string>{escape(word)}</string>" for word in command)
    log = escape(str(home / "Library/Logs" / f"{NAME}.log"))
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
    <key>Label</key>
    <string>{LABEL}</string>
    <key>ProgramArguments</key>
    <array>
{words}
    </array>
    <key>RunAtLoad</key>
    <true/>
    <key>KeepAlive</key>
    <dict>
        <key>SuccessfulExit</key>
        <false/>
    </dict>
    <key>StandardErrorPath</key>
    <string>{log}</string>
</dict>
</plist>
"""


def windows_task(command: Sequence[str]) -> str:
    """A task at logon, in the schema of the Task Scheduler. PT0S: it may run for ever."""
    program, *rest = command
    return f"""<?xml version="1.0" encoding="UTF-16"?>
<Task version="1.2" xmlns="http://schemas.microsoft.com/windows/2004/02/mit/task">
  <Triggers>
    <LogonTrigger><Enabled>true</Enabled></LogonTrigger>
  </Triggers>
  <Settings>
    <MultipleInstancesPolicy>IgnoreNew</MultipleInstancesPolicy>
    <DisallowStartIfOnBatteries>false</DisallowStartIfOnBatteries>
    <StopIfGoingOnBatteries>false</StopIfGoingOnBatteries>
    <ExecutionTimeLimit>PT0S</ExecutionTimeLimit>
    <RestartOnFailure><Interval>PT1M</Interval><Count>3</Count></RestartOnFailure>
  </Settings>
  <Actions>
    <Exec>
      <Command>{escape(program)}</Command>
      <Arguments>{escape(subprocess.list2cmdline(rest))}</Arguments>
    </Exec>
  </Actions>
</Task>
"""


def install(wanted: Service) -> None:
    """Writes the file and starts the service. Raises RequestError where the system refuses."""
    try:
        wanted.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(wanted.path, wanted.text.encode(wanted.encoding, "surrogateescape"))  # a path's own bytes
    except OSError as exc:
        raise RequestError(
            f"{wanted.path} cannot be written: {exc.strerror}", hint="start `edge serve` by hand"
        ) from exc
    for command in wanted.install:
        _run(command)


def remove(wanted: Service) -> None:
    """Stops the service and removes its file."""
    if not os.path.lexists(wanted.path):
        raise RequestError("the service is not installed", hint="`edge service install FOLDER` does that")
    for command in wanted.remove:
        _run(command)
    wanted.path.unlink()


def status(wanted: Service) -> str:
    """What the system says of it."""
    if not wanted.path.exists():
        return "not installed"
    return _run(wanted.status, may_fail=True)


def _run(command: Command, *, may_fail: bool = False) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as exc:
        raise RequestError(f"{command[0]} cannot be run: {exc.strerror}", hint="start `edge serve` by hand") from exc
    if done.returncode and not may_fail:
        words = (done.stderr or done.stdout).strip().splitlines() or [f"status {done.returncode}"]
        raise RequestError(f"{' '.join(command)}: {words[0]}", hint="start `edge serve` by hand")
    return done.stdout.strip() or done.stderr.strip()
