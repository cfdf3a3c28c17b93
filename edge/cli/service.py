"""`edge service`: start the server at every login."""

import argparse

from .numbers import integer
from .output import print_text


def add(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the arguments of `edge service`."""
    verb = verbs.add_parser("service", help="start the server at every login: install, status, remove")
    verb.add_argument("what", choices=("install", "status", "remove"))
    verb.add_argument("folder", nargs="*", help="model folders, for install")
    verb.add_argument("--host", help="as `edge serve` has it, and so are the others")
    verb.add_argument("--port", type=integer("--port", 1, 65535))
    verb.add_argument("--device")
    verb.add_argument("--context", type=integer("--context"), metavar="N")
    verb.add_argument("--api-key-file", metavar="FILE")
    verb.add_argument("--kiosk", metavar="FILE")
    verb.add_argument("--print", action="store_true", help="print the service's file and change nothing")
    verb.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run `edge service`; return the exit code."""
    from runtime.backends.backend import Options
    from runtime.backends.choose import require_context
    from runtime.errors import RequestError
    from runtime.source import open_source
    from runtime.system.files import expand_user

    from .. import service

    folders = [open_source(folder) for folder in args.folder]
    for folder in folders:
        require_context(folder.manifest, Options(context=args.context))
    serve = [str(folder.path.resolve()) for folder in folders]
    for flag in ("host", "port", "device", "context"):
        if (value := getattr(args, flag)) is not None:
            serve += [f"--{flag}", str(value)]
    for flag, file in (("--api-key-file", args.api_key_file), ("--kiosk", args.kiosk)):
        if file:
            serve += [flag, str(expand_user(file).resolve())]
    described = service.describe_service(serve)
    if args.what == "install" and not args.folder:
        raise RequestError("there is no model to serve", hint="edge service install FOLDER")
    if args.print:
        print(described.text, end="")
    elif args.what == "install":
        service.install(described)
        print_text(f"{described.path} is installed, and the server started")
    elif args.what == "remove":
        service.remove(described)
        print_text(f"{described.path} is removed")
    else:
        print_text(service.status(described))
    return 0
