"""`edge service`: start the server at every login."""

import argparse
import os
import sys
import time
from typing import TYPE_CHECKING

from .config_flags import add_settings, flag_words, load_config
from .output import print_text
from .serve import SECTIONS

if TYPE_CHECKING:
    from ..config.settings_file import Config
    from ..server.pool.models_file import ModelsFile
    from ..service import Service

NOT_RUNNING, NOT_INSTALLED = 3, 4  # exit codes of `edge service status`, as systemctl's
SHOWN = ("--host", "--port", "--device", "--api-key-file", "--allow-host", "--kiosk")
_LOAD_SECONDS = 900.0  # in which a server loads the model that it is updated to


def add(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the arguments of `edge service`."""
    verb = verbs.add_parser(
        "service",
        help="start the server at every login",
        description="Start `edge serve` at every login, as a user service: systemd on Linux, launchd on macOS, a "
        "scheduled task on Windows. For kiosks and machines that serve others. `install` refuses what could not start; "
        "`update` replaces a model while the server answers. `status` exits with 0 if the server runs, 3 if it does "
        "not, and 4 if the service is not installed.",
        epilog="Examples:\n\n    edge service install ./glm4-int4 --port 8000\n"
        "    edge service update ./glm4-new\n    edge service status\n    edge service remove",
    )
    verb.add_argument("what", choices=("install", "update", "status", "remove"), help="what to do with the service")
    verb.add_argument("folder", nargs="*", help="the model folders or names in `edge list`, to serve or to update to")
    add_settings(verb, SECTIONS, SHOWN)
    verb.add_argument("--print", action="store_true", help="print the service's definition and change nothing")
    verb.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run `edge service`; return the exit code."""
    from .. import service

    config = load_config(args)
    if args.what == "install":
        _install(args, config)
    elif args.what == "update":
        _update(args)
    elif args.print:
        print(service.describe_service(flag_words(args)).text, end="")
    elif args.what == "remove":
        described = service.describe_service(())
        service.remove(described)
        _models_file(described).remove()
        print_text(f"{described.path} is removed")
    else:
        state = service.status(service.describe_service(()))
        print_text(state.text if state else "not installed")
        return NOT_INSTALLED if state is None else 0 if state.running else NOT_RUNNING
    return 0


def _install(args: argparse.Namespace, config: "Config") -> None:
    from runtime.backends.remote.client import KEY
    from runtime.errors import RequestError
    from runtime.system.files import expand_user, write_atomically

    from .. import service
    from ..server.pool.model_names import parse_folder
    from ..user_services.systemd_unit import linger_command
    from .serve import resolve_folders, served_folders

    if config.server.port == 0:
        raise RequestError("--port is 0", hint="choose one from 1 to 65535, which clients can know")
    if os.environ.get(KEY) and not config.server.api_key_file:
        raise RequestError(
            f"a service does not have this shell's variable {KEY}", hint="write the key to a file: --api-key-file FILE"
        )
    served_folders(args.folder, config)
    words = flag_words(args)
    if args.config:
        words += ["--config", str(expand_user(args.config).resolve())]
    folders = {
        name: str(expand_user(path).absolute()) for name, path in map(parse_folder, resolve_folders(args.folder))
    }
    if len(folders) < len(args.folder):
        raise RequestError("two models have one name", hint="rename one: edge service install NAME=FOLDER")
    if folders:
        words += ["--models-file", str(service.describe_service(()).models_path)]
    described = service.describe_service(words)
    if args.print:
        print(described.text, end="")
        return
    file = _models_file(described)
    before = file.path.read_bytes() if file.path.exists() else None
    try:
        if folders:
            file.write(folders)
        service.require_startable(described)
        service.install(described)
    except BaseException:
        if before is None:
            file.remove()
        else:
            write_atomically(file.path, before, private=True)
        raise
    print_text(f"{described.path} is installed, and the server started")
    if sys.platform == "linux" and (linger := linger_command()):
        print_text(f"It starts when you log in. To start it at boot, without a login: {linger}")


def _models_file(described: "Service") -> "ModelsFile":
    from ..server.pool.models_file import ModelsFile

    return ModelsFile(described.models_path)


def _update(args: argparse.Namespace) -> None:
    """Replace models of the service: the running server loads the new one before it lets go of the old one."""
    from runtime.errors import RequestError
    from runtime.system.files import expand_user

    from .. import service
    from ..inspection import inspect
    from ..server.pool.model_names import parse_folder
    from ..store.model_store import resolve_folder

    described = service.describe_service(())
    state, file = service.status(described), _models_file(described)
    if state is None or not file.path.exists():
        raise RequestError(
            "there is no service whose model could be replaced", hint="install it: edge service install FOLDER"
        )
    before = file.read()
    wanted = dict(before)
    for text in args.folder:
        name, path = parse_folder(text)
        if name not in before and len(before) == 1 and len(args.folder) == 1 and path == text:
            (name,) = before
        if name not in before:
            raise RequestError(
                f"the service has no model {name}", hint=f"write NAME=FOLDER; there are {', '.join(before)}"
            )
        wanted[name] = str(inspect(expand_user(resolve_folder(path)).absolute()).path)
    if wanted == before:
        raise RequestError("no model changes", hint="run edge service update FOLDER, or NAME=FOLDER")
    file.write(wanted)
    if not state.running:
        print_text("the server does not run: it has the new model at its next start")
        return
    try:
        _wait_until_served(file)
    except BaseException:
        file.write(before)
        raise
    for name in (name for name in wanted if wanted[name] != before[name]):
        print_text(f"{name} is now the model of {wanted[name]}; back: edge service update {name}={before[name]}")


def _wait_until_served(file: "ModelsFile") -> None:
    """Wait until the server answers with this version of the file. Raises RequestError with its error."""
    from runtime.errors import RequestError

    version, end = file.version(), time.monotonic() + _LOAD_SECONDS
    while time.monotonic() < end:
        report = file.read_report()
        if report is not None and report.version == version:
            if report.error:
                raise RequestError(report.error, hint=report.hint)
            return
        time.sleep(0.1)
    raise RequestError("the server does not answer", hint="look at `edge service status`, and install it again")
