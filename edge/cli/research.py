"""`edge research`: research a question in local documents, offline."""

import argparse
from contextlib import closing
from pathlib import Path

from .numbers import integer
from .output import print_text
from .shared_flags import add_device


def add(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the arguments of `edge research`."""
    verb = verbs.add_parser(
        "research",
        help="answer a question from local documents, offline",
        description="Answer a question from local documents: the model searches, reads and cites them, offline. "
        "GLM-Z1-Rumination is trained for it.",
        epilog='Example:\n\n    edge research "When do ferries leave?" --model ./glm4-int4 --docs ./documents',
    )
    verb.add_argument("question", help="the question to answer")
    verb.add_argument("--model", required=True, metavar="FOLDER", help="a model folder, or a name in `edge list`")
    verb.add_argument(
        "--docs",
        required=True,
        type=Path,
        metavar="FOLDER",
        help="documents: PDF, DOCX, PPTX, XLSX, HTML, Markdown and text",
    )
    add_device(verb)
    verb.add_argument(
        "--rounds",
        type=integer("--rounds"),
        default=12,
        metavar="N",
        help="most rounds of searching and reading before the model has to answer",
    )
    verb.add_argument(
        "--max-tokens",
        type=integer("--max-tokens"),
        metavar="N",
        help="most tokens to generate in all (default: what fits in the context)",
    )
    verb.add_argument(
        "--language",
        metavar="CODE",
        help="the language in which GLM-Z1-Rumination searches and thinks, such as zh (default: its template's)",
    )
    verb.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run `edge research`; return the exit code."""
    from runtime.errors import RequestError
    from runtime.events import Reasoning, Text, ToolCall, ToolResult
    from runtime.model import Model

    from ..documents import DocumentIndex
    from ..research import ResearchSession, research
    from ..store.model_store import resolve_folder

    if not args.question.strip():
        raise RequestError("the question is empty", hint='write one, such as "When do ferries leave?"')
    session = ResearchSession(DocumentIndex(args.docs))
    with Model(resolve_folder(args.model), device=args.device) as model:
        events = research(
            model,
            args.question,
            session,
            max_rounds=args.rounds,
            max_tokens=args.max_tokens,
            language=args.language,
        )
        with closing(events):
            for event in events:
                match event:
                    case Text(text) | Reasoning(text):
                        print_text(text, end="", flush=True)
                    case ToolCall(name, arguments):
                        print_text(f"\n[{name} {arguments}]", flush=True)
                    case ToolResult(content=content):
                        print_text(f"[{len(content):,} characters]", flush=True)
    print("\n\nSources:" if session.read_pages else "\n\nNothing was read.")
    for page in session.read_pages.values():
        print_text(f"- {page.name}")
    return 0
