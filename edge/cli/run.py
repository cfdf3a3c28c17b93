"""`edge run`: chat with a model by its name, downloaded and converted first if it is not in your store."""

import argparse

from . import chat
from .attachments import Attachments
from .config_flags import add_settings, load_config
from .pull import add_pull_flags, pull


def add(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the arguments of `edge run`."""
    verb = verbs.add_parser(
        "run",
        help="chat with a model by its name, downloaded and converted first if necessary",
        description="Chat with a model by its name. If it is not in your store, it is downloaded and converted first: "
        "with a question before a large download, and resumed after an interruption. With a QUESTION, or one on "
        "standard input, print the answer alone.",
        epilog="Examples:\n\n    edge run glm-4-9b-0414\n"
        '    edge run z1-9b "What is 6 times 7?" --yes\n    edge run glm4:9b --recipe int8',
    )
    verb.add_argument("name", help="a name in `edge list` or `edge models`, OWNER/NAME of the hub, or a model folder")
    verb.add_argument("question", nargs="?", help="a question to answer, instead of a chat")
    add_pull_flags(verb)
    # Its own --yes is for the download; that of the tools is a key of edge.toml.
    add_settings(verb, chat.SECTIONS, ("--device", "--system"), without=("--yes",))
    verb.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run `edge run`; return the exit code."""
    from ..store.model_store import is_model_folder

    config = load_config(args)
    question = args.question or chat.read_question(f"edge run {args.name}")
    folder = args.name if is_model_folder(args.name) else str(pull(args).path)
    return chat.start_chat(config, folder, question, Attachments())
