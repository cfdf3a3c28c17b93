"""User services that start the server at login: systemd on Linux, launchd on macOS, a scheduled task on Windows.

Each is a configuration file, and the commands that install, query and remove it.
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
# In a systemd unit a line break would start another directive; XML allows no control characters.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True, slots=True)
class Service:
    """A user service: its configuration file, and the commands that install, query and remove it."""

    path: Path
    text: str
    encoding: str
    install: tuple[Command, ...]
    status: Command
    remove: tuple[Command, ...]


def describe_service(serve: Sequence[str], platform: str = sys.platform, home: Path | None = None) -> Service:
    """Return the user service that runs `edge serve` with these arguments.

    Raises RequestError on a platform without user services, and for an argument with a control character.
    """
    home = home or _home_folder()
    for word in serve:
        if _CONTROL.search(word):
            raise RequestError(
                f"{replace_controls(word)!r} contains a line break or another control character",
                hint="rename the folder: a service's file cannot refer to it",
            )
    # -P: a service starts in the home folder, whose files must not hide our modules.
    command = (sys.executable, "-P", "-m", "edge", "serve", *serve)
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
    raise RequestError(
        f"user services are not supported on {platform}",
        hint="start `edge serve` with that system's own service manager",
    )


def _home_folder() -> Path:
    try:
        return Path.home()
    except RuntimeError:
        raise RequestError(
            "this user has no home folder", hint="start `edge serve` with this system's own service manager"
        ) from None


def systemd_unit(command: Sequence[str]) -> str:
    """Return a systemd user unit. SIGTERM goes to the server alone, which then ends its engine process."""
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
    """Quote a word as systemd.service(5) and systemd.unit(5) require: in quotes, with % and $ doubled."""
    for char, escaped in (("\\", "\\\\"), ('"', '\\"'), ("%", "%%"), ("$", "$$")):
        word = word.replace(char, escaped)
    return f'"{word}"'


def launchd_plist(command: Sequence[str], home: Path) -> str:
    """Return a launch agent's property list; see launchd.plist(5)."""
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
    """Return a task that runs at logon, in the Task Scheduler's schema. PT0S: no time limit."""
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


def install(service: Service) -> None:
    """Write the service's file and start it. Raises RequestError where a command fails."""
    try:
        service.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(service.path, service.text.encode(service.encoding, "surrogateescape"))  # a path's own bytes
    except OSError as exc:
        raise RequestError(
            f"{service.path} cannot be written: {exc.strerror}", hint="start `edge serve` by hand"
        ) from exc
    for command in service.install:
        _run(command)


def remove(service: Service) -> None:
    """Stop the service and remove its file. Raises RequestError where it is not installed or a command fails."""
    if not os.path.lexists(service.path):
        raise RequestError("the service is not installed", hint="install it: edge service install FOLDER")
    for command in service.remove:
        _run(command)
    service.path.unlink()


def status(service: Service) -> str:
    """Return the service manager's report on the service."""
    if not service.path.exists():
        return "not installed"
    return _run(service.status, may_fail=True)


def _run(command: Command, *, may_fail: bool = False) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as exc:
        raise RequestError(f"{command[0]} cannot be run: {exc.strerror}", hint="start `edge serve` by hand") from exc
    if done.returncode and not may_fail:
        words = (done.stderr or done.stdout).strip().splitlines() or [f"status {done.returncode}"]
        raise RequestError(f"{' '.join(command)}: {words[0]}", hint="start `edge serve` by hand")
    return done.stdout.strip() or done.stderr.strip()
