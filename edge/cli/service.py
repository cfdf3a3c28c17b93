"""`edge service`: start the server at every login."""

import argparse

from .config_flags import add_settings, flag_words, load_config
from .output import print_text
from .serve import SECTIONS, resolve_folders

NOT_RUNNING, NOT_INSTALLED = 3, 4  # exit codes of `edge service status`, as systemctl's
SHOWN = ("--host", "--port", "--device", "--api-key-file", "--allow-host", "--kiosk")


def add(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the arguments of `edge service`."""
    verb = verbs.add_parser(
        "service",
        help="start the server at every login",
        description="Start `edge serve` at every login, as a user service: systemd on Linux, launchd on macOS, a "
        "scheduled task on Windows. For kiosks and machines that serve others. `status` exits with 0 if the server "
        "runs, 3 if it does not, and 4 if the service is not installed.",
        epilog="Examples:\n\n    edge service install ./glm4-int4 --port 8000\n"
        "    edge service status\n    edge service remove",
    )
    verb.add_argument("what", choices=("install", "status", "remove"), help="what to do with the service")
    verb.add_argument("folder", nargs="*", help="the model folders or names in `edge list` to serve, for install")
    add_settings(verb, SECTIONS, SHOWN)
    verb.add_argument("--print", action="store_true", help="print the service's definition and change nothing")
    verb.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run `edge service`; return the exit code."""
    from runtime.backends.choose import require_context
    from runtime.errors import RequestError
    from runtime.source import open_source
    from runtime.system.files import expand_user

    from .. import service
    from ..server.pool.model_names import folder_name, parse_folder

    config = load_config(args)
    if config.server.port == 0:
        raise RequestError("--port is 0", hint="choose one from 1 to 65535, which clients can know")
    folders = [parse_folder(folder) for folder in resolve_folders(args.folder)]
    for _, folder in folders or config.models.folders.items():
        require_context(open_source(folder).manifest, config.options.options())
    paths = [(name, expand_user(folder).absolute()) for name, folder in folders]
    named = [str(path) if name == folder_name(path) else f"{name}={path}" for name, path in paths]
    serve = [*named, *flag_words(args)]
    if args.config:
        serve += ["--config", str(expand_user(args.config).resolve())]
    described = service.describe_service(serve)
    if args.what == "install" and not args.folder and not config.models.folders:
        raise RequestError("there is no model to serve", hint="run edge service install FOLDER")
    if args.print:
        print(described.text, end="")
    elif args.what == "install":
        service.install(described)
        print_text(f"{described.path} is installed, and the server started")
    elif args.what == "remove":
        service.remove(described)
        print_text(f"{described.path} is removed")
    else:
        state = service.status(described)
        print_text(state.text if state else "not installed")
        return NOT_INSTALLED if state is None else 0 if state.running else NOT_RUNNING
    return 0
