"""`edge serve`: a local server for OpenAI's clients, with a chat page."""

import argparse
import os
import sys
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from .numbers import integer
from .output import print_text
from .shared_flags import add_context, add_device, add_no_verify


def add(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the arguments of `edge serve`."""
    verb = verbs.add_parser(
        "serve",
        help="serve models to OpenAI's clients, with a chat page",
        description="Serve models on this machine: OpenAI's API at /v1, and a chat page at /. For other programs, for "
        "several people, or for a public screen (--kiosk).",
        epilog="Examples:\n\n    edge serve ./glm4-int4 --port 8000\n    edge serve ./glm4-int4 --kiosk kiosk.toml\n"
        "    edge serve ./glm4-int4 --adapter legal=./lora",
    )
    verb.add_argument("folder", nargs="*", help="model folders; the first is loaded now, the others when requested")
    verb.add_argument("--host", default="127.0.0.1", help="the address to bind; any other needs an API key")
    verb.add_argument("--port", type=integer("--port", 0), default=8000, help="the port to bind; 0 picks a free one")
    add_device(verb)
    verb.add_argument(
        "--adapter",
        action="append",
        default=[],
        metavar="NAME=DIR[@WEIGHT]",
        help="serve the model with a LoRA adapter under a NAME of its own, too; may be repeated, adapters of one NAME "
        "add up (default: none)",
    )
    add_context(verb)
    add_no_verify(verb)
    verb.add_argument(
        "--api-key-file",
        metavar="FILE",
        help="a file with the API key that clients must send (default: the variable EDGE_API_KEY, or no key)",
    )
    verb.add_argument(
        "--allow-origin",
        action="append",
        default=[],
        metavar="URL",
        help="the origin of a web page that may send requests; may be repeated (default: the server's own)",
    )
    verb.add_argument(
        "--tools",
        metavar="MODULE:FUNCTION",
        action="append",
        default=[],
        help="a Python function that the chat page's model may call; may be repeated (default: none)",
    )
    verb.add_argument(
        "--kiosk",
        nargs="?",
        const="",
        metavar="FILE",
        help="serve the page for a public screen alone, set up by a TOML file (default: the chat page and the API)",
    )
    verb.add_argument(
        "--exit-with-parent",
        action="store_true",
        help="exit when standard input is closed or the program that started the server ends",
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
        raise RequestError(
            "there is no model to serve", hint="run edge serve FOLDER; `edge convert` makes a model folder"
        )
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
        adapters=server.parse_named_adapters(args.adapter),
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
