"""`edge mcp`: offer a model and local documents to other programs, as an MCP server."""

import argparse
from pathlib import Path

from .numbers import integer
from .shared_flags import add_device


def add(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the arguments of `edge mcp`."""
    verb = verbs.add_parser(
        "mcp",
        help="offer a model and local documents to other programs, as an MCP server",
        description="Offer a model and local documents as the tools of an MCP server: ask, search_documents and "
        "open_document. A desktop app, an editor or an agent starts it, and talks to it over the standard streams. The "
        "model is loaded by its first question.",
        epilog="Examples:\n\n    edge mcp ./glm4-int4 --documents ./documents\n    edge mcp --documents ./documents",
    )
    verb.add_argument("folder", nargs="?", help="the model folder, or the name in `edge list`, that answers questions")
    verb.add_argument(
        "--documents",
        type=Path,
        metavar="FOLDER",
        help="documents to search and read: PDF, DOCX, PPTX, XLSX, HTML, Markdown and text (default: none)",
    )
    add_device(verb)
    verb.add_argument(
        "--http",
        type=integer("--http", 1, 65535),
        metavar="PORT",
        help="serve programs of this machine at http://127.0.0.1:PORT/mcp (default: the standard streams)",
    )
    verb.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run `edge mcp`; return the exit code."""
    from runtime.source import open_source

    from ..documents import DocumentIndex
    from ..mcp_server import SharedModel, create_server
    from ..store.model_store import resolve_folder

    model = None if args.folder is None else SharedModel(open_source(resolve_folder(args.folder)), args.device)
    server = create_server(model, None if args.documents is None else DocumentIndex(args.documents))
    try:
        if args.http is None:
            server.run("stdio")
        else:
            server.run("streamable-http", host="127.0.0.1", port=args.http)
    finally:
        if model is not None:
            model.close()
    return 0
