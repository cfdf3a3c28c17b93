"""User services that start the server at login: systemd on Linux, launchd on macOS, a scheduled task on Windows.

Each is a configuration file, and the commands that install, query and remove it.
"""

import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from runtime.errors import RequestError
from runtime.system.files import write_atomically
from runtime.system.program_output import ProgramResult, run_program
from runtime.text import replace_controls

from .user_services import launch_agent, systemd_unit, windows_task
from .user_services.state import ServiceState

NAME = "glm4-edge"
LOG_FLAG = "--log-file"  # of `edge serve`, where no journal takes the standard error of a service
Command = tuple[str, ...]
_CHECK_SECONDS = 300.0  # for a large folder of documents
_VARIABLES = ("HOME", "LANG", "LOGNAME", "PATH", "SHELL", "USER")  # of a user's services on Linux and macOS
# In a systemd unit a line break would start another directive; XML allows no control characters.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True, slots=True)
class Service:
    """A user service: its configuration file, and the commands that install, query and remove it.

    `command` is what it runs. `stop` ends it where it runs, and fails where it does not; `reload` tells the system that
    the file is gone.
    """

    command: Command
    path: Path
    text: str
    encoding: str
    install: tuple[Command, ...]
    status: Command
    remove: tuple[Command, ...]
    read_state: Callable[[ProgramResult], ServiceState]
    stop: tuple[Command, ...] = ()
    reload: tuple[Command, ...] = ()

    @property
    def models_path(self) -> Path:
        """The path of the file with the folders of the models, for `--models-file`."""
        return models_path(self.path)


def models_path(path: Path) -> Path:
    """Return the path of the models file that belongs to a service's own file."""
    return path.with_name(f"{NAME}.models.json")


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
    reload = (*control, "daemon-reload")
    return Service(
        command,
        home / ".config/systemd/user" / unit,
        systemd_unit.unit_text(command),
        "utf-8",
        # restart: a service that runs already is started with its new settings
        (reload, (*control, "enable", unit), (*control, "restart", unit)),
        (*control, "status", "--no-pager", unit),
        ((*control, "disable", "--now", unit),),
        lambda result: ServiceState(result.code == 0, result.output.strip() or result.errors.strip()),
        reload=(reload,),
    )


def _launch_agent(command: Command, home: Path) -> Service:
    path = home / "Library/LaunchAgents" / f"{launch_agent.LABEL}.plist"
    unload = ("launchctl", "unload", "-w", str(path))
    return Service(
        command,
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
        command,
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


def install(service: Service) -> None:
    """Write the service's file and start it. Where that fails, the service that was installed before is there again, or
    none. Raises RequestError."""
    previous = service.path.with_name(f".{service.path.name}.previous")
    try:
        service.path.parent.mkdir(parents=True, exist_ok=True)
        if replaces := os.path.lexists(service.path):
            service.path.replace(previous)
        text = service.text.encode(service.encoding, "surrogateescape")  # a path's own bytes
        write_atomically(service.path, text, private=True)
    except OSError as exc:
        with suppress(OSError):
            previous.replace(service.path)
        raise RequestError(
            f"{service.path} cannot be written: {exc.strerror}", hint="start `edge serve` by hand"
        ) from exc
    try:
        _stop(service)
        for command in service.install:
            _run(command)
    except BaseException:
        _undo(service, previous if replaces else None)
        raise
    previous.unlink(missing_ok=True)


def require_startable(service: Service) -> None:
    """Start all of the server but its models, in the home folder and without this shell's own variables, as the system
    will. Raises RequestError with the server's error: what cannot start now would never do."""
    check = "replaced" if status(service) is not None else "new"
    command = (*(word for word in service.command if word != LOG_FLAG), "--check", check)
    try:
        done = run_program(command, _CHECK_SECONDS, folder=_home_folder(), variables=_service_variables(os.environ))
    except OSError as exc:
        raise RequestError(f"the server cannot be checked: {exc.strerror}", hint="start `edge serve` by hand") from exc
    if done.code:
        lines = done.errors.strip().splitlines()
        found = {line.partition(": ")[0]: line.partition(": ")[2] for line in lines}
        raise RequestError(
            f"the server cannot start: {found.get('error') or done.first_line}",
            hint=found.get("hint", "start `edge serve` by hand"),
        )


def _service_variables(shell: Mapping[str, str], platform: str = sys.platform) -> dict[str, str]:
    """Return the variables that a service has of those of a shell. Windows gives tasks the user's own, which we cannot
    tell from those of a shell."""
    if platform == "win32":
        return {name: value for name, value in shell.items() if not name.startswith(("PYTHON", "EDGE_", "VIRTUAL_"))}
    return {name: value for name, value in shell.items() if name in _VARIABLES or name.startswith(("LC_", "XDG_"))}


def _undo(service: Service, previous: Path | None) -> None:
    """Remove a service whose installation failed, and start the previous one again."""
    for command in (*service.stop, *service.remove):
        _try(command)
    with suppress(OSError):
        service.path.unlink()
        if previous is not None:
            previous.replace(service.path)
    for command in service.reload if previous is None else service.install:
        _try(command)


def remove(service: Service) -> None:
    """Stop the service and remove its file. Raises RequestError where it is not installed or a command fails."""
    if not os.path.lexists(service.path):
        raise RequestError("the service is not installed", hint="install it: edge service install FOLDER")
    _stop(service)
    for command in service.remove:
        _run(command)
    service.path.unlink()
    for command in service.reload:
        _run(command, may_fail=True)


def status(service: Service) -> ServiceState | None:
    """Return whether the service runs, and the system's report on it; None where it is not installed."""
    if not service.path.exists():
        return None
    return service.read_state(_run(service.status, may_fail=True))


def _stop(service: Service) -> None:
    """Stop a service that runs, perhaps with other settings than those it is installed with now."""
    for command in service.stop:
        _run(command, may_fail=True)


def _try(command: Command) -> None:
    with suppress(RequestError):
        _run(command, may_fail=True)


def _run(command: Command, *, may_fail: bool = False) -> ProgramResult:
    try:
        done = run_program(command)
    except OSError as exc:
        raise RequestError(f"{command[0]} cannot be run: {exc.strerror}", hint="start `edge serve` by hand") from exc
    if done.code and not may_fail:
        raise RequestError(f"{' '.join(command)}: {done.first_line}", hint="start `edge serve` by hand")
    return done
