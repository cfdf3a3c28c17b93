"""`edge serve`: a local server for OpenAI's clients, with a chat page."""

import argparse
import os
import sys
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.errors import RequestError

from .config_flags import add_settings, load_config
from .output import print_text

if TYPE_CHECKING:
    import logging
    from collections.abc import Mapping, Sequence

    from runtime.tools import Tool

    from ..config.settings_file import Config
    from ..server.pool.model_pool import ModelPool
    from ..server.pool.models_file import ModelsFile
    from ..server.settings import ServerSettings

SECTIONS = ("server", "models", "options", "limits", "sampling", "responses", "tools", "mcp")
SHOWN = ("--host", "--port", "--device", "--api-key-file", "--allow-host", "--docs", "--kiosk")


def add(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the arguments of `edge serve`."""
    verb = verbs.add_parser(
        "serve",
        help="serve models to OpenAI's clients, with a chat page",
        description="Serve models on this machine: OpenAI's API at /v1, and a chat page at /. For other programs, for "
        "several people, or for a public screen (--kiosk).",
        epilog="Examples:\n\n    edge serve ./glm4-int4 --port 8000\n"
        "    edge serve ./glm4-int4 --kiosk kiosk.toml\n    edge serve --config edge.toml",
    )
    verb.add_argument(
        "folder",
        nargs="*",
        help="model folders or names in `edge list`, each FOLDER or NAME=FOLDER; the first is loaded now, the others "
        "when requested",
    )
    add_settings(verb, SECTIONS, SHOWN)
    verb.add_argument("--exit-with-parent", action="store_true", help=argparse.SUPPRESS)
    verb.add_argument("--ready-json", action="store_true", help=argparse.SUPPRESS)
    # Start all but the models, and exit; a service that is "replaced" has the address still.
    verb.add_argument("--check", choices=("new", "replaced"), help=argparse.SUPPRESS)
    verb.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run `edge serve`; return the exit code."""
    from runtime.system.installation import install_hint

    if any(find_spec(name) is None for name in ("starlette", "uvicorn", "prometheus_client", "python_multipart")):
        raise RequestError("the server's packages are not installed", hint=install_hint("serve"))
    handler = None
    if not args.check:
        handler = _open_log(getattr(args, "server.log_file", None))  # first: the file gets all errors that follow
    config = load_config(args)
    if not args.check:
        handler = handler or _open_log(config.server.log_file)
    folders, kiosk = served_folders(args.folder, config)
    if args.check:
        from ..server.start_check import check_start

        check_start(open_pool(config, folders), server_settings(config, kiosk), replaces=args.check == "replaced")
        return 0
    from ..server import run as server
    from ..server.logs import log
    from ..server.transport.ready import ReadyOutput

    output = ReadyOutput() if args.ready_json else None
    if args.exit_with_parent or args.ready_json:
        from ..server.transport.parent import exit_with_parent

        exit_with_parent()
    quiet = bool(os.environ.get("EDGE_QUIET"))
    log.configure(quiet=quiet, json_lines=config.server.log_format == "json", handler=handler)
    server.run(
        open_pool(config, folders),
        server_settings(config, kiosk),
        report=log.LOG.info if handler else partial(print_text, file=sys.stderr if output else None),
        on_ready=output.write if output else None,
    )
    return 0


def _open_log(name: str | None) -> "logging.Handler | None":
    """Open the log file of this name, "" for the user's own, and send standard error there."""
    if name is None:
        return None
    from ..server.logs.log_file import LogFile, redirect_stderr

    handler = LogFile(name)
    redirect_stderr(handler)
    return handler


def served_folders(
    folders: "Sequence[str]", config: "Config"
) -> tuple["Sequence[str] | Mapping[str, str]", str | None]:
    """Return the models to serve, of the command line, the settings or the models file, and the kiosk's file, "" for
    its defaults. Raises RequestError if there is no model."""
    kiosk, file = config.server.kiosk, config.server.models_file
    if kiosk and Path(kiosk).is_dir():  # edge serve --kiosk FOLDER
        folders, kiosk = [*folders, kiosk], ""
    found = resolve_folders(folders) or config.models.folders
    if file:
        if found:
            raise RequestError(
                f"models are named here and in {file}", hint="write all of them into the file, or leave out the file"
            )
        return _models_file(file).read(), kiosk
    if not found:
        raise RequestError(
            "there is no model to serve", hint="run edge serve FOLDER; `edge convert` makes a model folder"
        )
    return found, kiosk


def resolve_folders(words: "Sequence[str]") -> list[str]:
    """Return the words, each FOLDER or NAME=FOLDER, with the paths of the models that are named in the store; their
    names are as they were typed."""
    from ..server.pool.model_names import parse_folder
    from ..store.model_store import resolve_folder

    parsed = [(word, *parse_folder(word)) for word in words]
    return [word if (found := resolve_folder(folder)) == folder else f"{name}={found}" for word, name, folder in parsed]


def _models_file(path: str) -> "ModelsFile":
    from runtime.system.files import expand_user

    from ..server.pool.models_file import ModelsFile

    return ModelsFile(expand_user(path).absolute())


def open_pool(config: "Config", folders: "Sequence[str] | Mapping[str, str]") -> "ModelPool":
    """Return the models of these folders: paths, NAME=FOLDER, or paths by name. Raises EdgeError for a folder, an
    adapter or a name that cannot be served."""
    from runtime.checkpoint.adapters.reference import parse_adapters

    from ..server.pool.model_pool import ModelPool

    return ModelPool(
        folders,
        adapters={name: parse_adapters(value) for name, value in config.models.adapter.items()},
        aliases=config.models.alias,
        device=config.options.device,
        fallback=config.options.fallback,
        options=config.options.options(),
        sampling=config.sampling.sampling(),
        limits=config.limits.limits(),
        idle_seconds=None if config.models.idle is None else config.models.idle * 60,
    )


def server_settings(config: "Config", kiosk: str | None) -> "ServerSettings":
    """Return the server's settings. `kiosk` is its file, "" for its defaults; None is the table [kiosk], if there is
    one. Raises EdgeError for a file, a key or a tool that cannot be used."""
    from ..config.named_tools import load_servers, load_tools
    from ..server.guard.api_keys import read_api_keys
    from ..server.page.kiosk import Kiosk
    from ..server.settings import ServerSettings

    section = config.server
    found = Kiosk.load(kiosk) if kiosk else None if kiosk is None else Kiosk()
    if kiosk is None and config.kiosk is not None:
        found = Kiosk.parse(config.kiosk, f"{config.path}: [kiosk] ")
    documents: tuple[Tool, ...] = ()
    if section.docs:
        from ..documents import open_folder

        if "simple_browser" in section.tools:
            raise RequestError(
                "--docs and the tool simple_browser search documents in different ways",
                hint="leave out --docs, and name the folder of simple_browser: --tool-documents FOLDER",
            )
        documents = open_folder(section.docs, section.docs_embedding_model).tools()
    visitors = "no visitor of a kiosk does" if found else ""
    tools = load_tools(section.tools, config.tools, unattended=visitors)
    servers = load_servers(
        config.mcp.servers, unattended="nobody approves the calls of the chat page", every=found is None
    )
    return ServerSettings(
        host=section.host,
        port=section.port,
        uds=section.uds,
        root_path=section.root_path,
        ssl_cert=section.ssl_cert,
        ssl_key=section.ssl_key,
        keys=read_api_keys(section.api_key_file),
        hosts=section.allow_host,
        origins=section.allow_origin,
        tools=(*tools, *documents, *servers),
        kiosk=found,
        models_file=_models_file(section.models_file) if section.models_file else None,
        keep_alive=section.keep_alive,
        log_format=section.log_format,
        store=config.responses.store,
        store_count=config.responses.store_count,
        store_bytes=config.responses.store_bytes,
    )
