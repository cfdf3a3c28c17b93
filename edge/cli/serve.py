"""`edge serve`: a local server for OpenAI's clients, with a chat page."""

import argparse
import os
import sys
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from .numbers import integer
from .output import print_text


def add(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the arguments of `edge serve`."""
    verb = verbs.add_parser(
        "serve", help="serve models to OpenAI's clients and a chat page, on this machine alone by default"
    )
    verb.add_argument("folder", nargs="*", help="model folders; all but the first are loaded at their first request")
    verb.add_argument("--host", default="127.0.0.1", help="the address (127.0.0.1); any other asks for an API key")
    verb.add_argument("--port", type=integer("--port", 0), default=8000, help="8000 by default")
    verb.add_argument("--device", default="auto", help="auto (the default) or a device's name, such as CPU")
    verb.add_argument(
        "--context", type=integer("--context"), metavar="N", help="tokens of prompt and reply that must have room"
    )
    verb.add_argument(
        "--no-verify", dest="verify", action="store_false", help="load the folder without a look at its files' hashes"
    )
    verb.add_argument("--api-key-file", metavar="FILE", help="what clients must show; or the variable EDGE_API_KEY")
    verb.add_argument(
        "--allow-origin", action="append", default=[], metavar="URL", help="a web page that may ask; may be given again"
    )
    verb.add_argument(
        "--tools", metavar="MODULE:FUNCTION", action="append", default=[], help="a tool of /chat; as above"
    )
    verb.add_argument(
        "--kiosk",
        nargs="?",
        const="",
        metavar="FILE",
        help="the page for a public screen, set up by a TOML file (docs/server.md); nothing else is served",
    )
    verb.add_argument(
        "--exit-with-parent", action="store_true", help="end when standard input closes or the program that started it"
    )
    verb.add_argument(
        "--ready-json",
        action="store_true",
        help="for a program that starts the server: once it is ready, print one line of JSON with url, api, pid and "
        "models; everything else goes to standard error; implies --exit-with-parent",
    )
    verb.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run `edge serve`; return the exit code."""
    from runtime.backends.backend import Options
    from runtime.errors import RequestError
    from runtime.system.installation import install_hint

    if any(find_spec(name) is None for name in ("starlette", "uvicorn", "prometheus_client")):
        raise RequestError("the server's packages are not installed", hint=install_hint("serve"))
    folders = list(args.folder)
    if args.kiosk and Path(args.kiosk).is_dir():  # edge serve --kiosk FOLDER
        folders.append(args.kiosk)
        args.kiosk = ""
    if not folders:
        raise RequestError("no model folder is named", hint="edge serve FOLDER; `edge convert` makes one")
    from ..server import log
    from ..server import run as server
    from ..server.page.kiosk import Kiosk
    from ..server.page.tools import load_tools
    from ..server.ready import ReadyOutput

    output = ReadyOutput() if args.ready_json else None
    if args.exit_with_parent or args.ready_json:
        from ..server.parent import exit_with_parent

        exit_with_parent()
    log.configure(quiet=bool(os.environ.get("EDGE_QUIET")))
    server.run(
        folders,
        host=args.host,
        port=args.port,
        device=args.device,
        options=Options(context=args.context, verify=args.verify),
        api_key=server.read_api_key(args.api_key_file),
        origins=args.allow_origin,
        tools=load_tools(args.tools),
        kiosk=None if args.kiosk is None else Kiosk.load(args.kiosk) if args.kiosk else Kiosk(),
        report=partial(print_text, file=sys.stderr if output else None),
        on_ready=output.write if output else None,
    )
    return 0
