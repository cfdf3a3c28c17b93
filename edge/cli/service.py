"""`edge service`: start the server at every login."""

import argparse

from .numbers import integer
from .output import print_text
from .shared_flags import add_context


def add(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the arguments of `edge service`."""
    verb = verbs.add_parser(
        "service",
        help="start the server at every login",
        description="Start `edge serve` at every login, as a user service: systemd on Linux, launchd on macOS, a "
        "scheduled task on Windows. For kiosks and machines that serve others.",
        epilog="Examples:\n\n    edge service install ./glm4-int4 --port 8000\n"
        "    edge service status\n    edge service remove",
    )
    verb.add_argument("what", choices=("install", "status", "remove"), help="what to do with the service")
    verb.add_argument("folder", nargs="*", help="the model folders to serve, for install")
    verb.add_argument("--host", help="the address to bind; any other needs an API key (default: 127.0.0.1)")
    verb.add_argument("--port", type=integer("--port", 1, 65535), help="the port to bind (default: 8000)")
    verb.add_argument("--device", help="a device, as in `edge serve` (default: auto)")
    add_context(verb)
    verb.add_argument(
        "--api-key-file", metavar="FILE", help="a file with the API key that clients must send (default: no key)"
    )
    verb.add_argument(
        "--kiosk", metavar="FILE", help="serve the page for a public screen, set up by this file (default: no kiosk)"
    )
    verb.add_argument("--print", action="store_true", help="print the service's definition and change nothing")
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
        print_text(service.status(described))
    return 0
