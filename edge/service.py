"""User services that start the server at login: systemd on Linux, launchd on macOS, a scheduled task on Windows.

Each is a configuration file, and the commands that install, query and remove it.
"""

import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from runtime.errors import RequestError
from runtime.system.files import write_atomically
from runtime.system.program_output import ProgramResult, run_program
from runtime.text import replace_controls

from .user_services import launch_agent, windows_task
from .user_services.state import ServiceState

NAME = "glm4-edge"
LOG_FLAG = "--log-file"  # of `edge serve`, where no journal takes the standard error of a service
Command = tuple[str, ...]
# In a systemd unit a line break would start another directive; XML allows no control characters.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True, slots=True)
class Service:
    """A user service: its configuration file, and the commands that install, query and remove it.

    `stop` ends it where it runs, and fails where it does not.
    """

    path: Path
    text: str
    encoding: str
    install: tuple[Command, ...]
    status: Command
    remove: tuple[Command, ...]
    read_state: Callable[[ProgramResult], ServiceState]
    stop: tuple[Command, ...] = ()


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
        return _systemd_service(command, home)
    if LOG_FLAG not in serve:
        command = (*command, LOG_FLAG)
    if platform == "darwin":
        return _launch_agent(command, home)
    if platform == "win32":
        return _windows_task(command, home)
    raise RequestError(
        f"user services are not supported on {platform}",
        hint="start `edge serve` with that system's own service manager",
    )


def _systemd_service(command: Command, home: Path) -> Service:
    unit = f"{NAME}.service"
    control = ("systemctl", "--user")
    return Service(
        home / ".config/systemd/user" / unit,
        systemd_unit(command),
        "utf-8",
        ((*control, "daemon-reload"), (*control, "enable", "--now", unit)),
        (*control, "status", "--no-pager", unit),
        ((*control, "disable", "--now", unit),),
        lambda result: ServiceState(result.code == 0, result.output.strip() or result.errors.strip()),
    )


def _launch_agent(command: Command, home: Path) -> Service:
    path = home / "Library/LaunchAgents" / f"{launch_agent.LABEL}.plist"
    unload = ("launchctl", "unload", "-w", str(path))
    return Service(
        path,
        launch_agent.agent_plist(command),
        "utf-8",
        (("launchctl", "load", "-w", str(path)),),
        ("launchctl", "list", launch_agent.LABEL),
        (unload,),
        launch_agent.read_state,
        stop=(unload,),
    )


def _windows_task(command: Command, home: Path) -> Service:
    path = home / "AppData/Local" / NAME / "task.xml"
    return Service(
        path,
        windows_task.task_xml((windows_task.windowless(command[0]), *command[1:]), windows_task.current_user()),
        "utf-16",
        (("schtasks", "/Create", "/F", "/TN", NAME, "/XML", str(path)), ("schtasks", "/Run", "/TN", NAME)),
        ("schtasks", "/Query", "/V", "/FO", "CSV", "/NH", "/TN", NAME),
        (("schtasks", "/Delete", "/F", "/TN", NAME),),
        windows_task.read_state,
        stop=(("schtasks", "/End", "/TN", NAME),),
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


def install(service: Service) -> None:
    """Write the service's file and start it. Raises RequestError where a command fails."""
    try:
        service.path.parent.mkdir(parents=True, exist_ok=True)
        text = service.text.encode(service.encoding, "surrogateescape")  # a path's own bytes
        write_atomically(service.path, text, private=True)
    except OSError as exc:
        raise RequestError(
            f"{service.path} cannot be written: {exc.strerror}", hint="start `edge serve` by hand"
        ) from exc
    _stop(service)
    for command in service.install:
        _run(command)


def remove(service: Service) -> None:
    """Stop the service and remove its file. Raises RequestError where it is not installed or a command fails."""
    if not os.path.lexists(service.path):
        raise RequestError("the service is not installed", hint="install it: edge service install FOLDER")
    _stop(service)
    for command in service.remove:
        _run(command)
    service.path.unlink()


def status(service: Service) -> ServiceState | None:
    """Return whether the service runs, and the system's report on it; None where it is not installed."""
    if not service.path.exists():
        return None
    return service.read_state(_run(service.status, may_fail=True))


def _stop(service: Service) -> None:
    """Stop a service that runs, perhaps with other settings than those it is installed with now."""
    for command in service.stop:
        _run(command, may_fail=True)


def _run(command: Command, *, may_fail: bool = False) -> ProgramResult:
    try:
        done = run_program(command)
    except OSError as exc:
        raise RequestError(f"{command[0]} cannot be run: {exc.strerror}", hint="start `edge serve` by hand") from exc
    if done.code and not may_fail:
        raise RequestError(f"{' '.join(command)}: {done.first_line}", hint="start `edge serve` by hand")
    return done
