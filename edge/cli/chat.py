"""`edge chat`: chat in the terminal, or answer piped input."""

import argparse
import sys
from contextlib import closing
from typing import TYPE_CHECKING

from runtime.errors import EdgeError, RequestError

from .message_input import MessageInput
from .numbers import integer, number
from .output import print_text
from .streams import is_terminal, read_stdin, supports_ansi

if TYPE_CHECKING:
    from runtime.chat import Chat

_DIM, _PLAIN = "\x1b[2m", "\x1b[0m"
_COMMANDS = ("/exit", "/load", "/reset", "/save")
HELP = "/reset forgets the chat, /save FILE and /load FILE keep it, /exit or Ctrl-D leaves; Ctrl-C stops a reply."


def add(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the arguments of `edge chat`."""
    verb = verbs.add_parser("chat", help="chat with a model in the terminal", epilog=HELP)
    verb.add_argument(
        "folder", help="a model folder; for PyTorch or a server a checkpoint, or a model of `edge models` to fetch"
    )
    verb.add_argument(
        "--device", default="auto", help="auto (the default), a device's name such as CPU or torch, or a server's URL"
    )
    verb.add_argument(
        "--fallback", action="append", default=[], metavar="DEVICE", help="where that cannot load; may be given again"
    )
    verb.add_argument("--system", default="", help="the system message")
    verb.add_argument(
        "--temperature", type=number("--temperature", 0, 5), help="0 is greedy; the default is the checkpoint's own"
    )
    verb.add_argument("--max-new-tokens", type=integer("--max-new-tokens"), help="at most so many tokens a reply")
    verb.add_argument(
        "--context", type=integer("--context"), metavar="N", help="tokens of prompt and reply that must have room"
    )
    verb.add_argument(
        "--no-verify", dest="verify", action="store_false", help="load the folder without a look at its files' hashes"
    )
    verb.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run `edge chat`; return the exit code."""
    from runtime.backends.backend import Options
    from runtime.chat import Chat

    from ..hub.resolve import resolve_model

    piped = "" if is_terminal(sys.stdin) else read_stdin().strip()
    if not piped and not is_terminal(sys.stdin):
        raise RequestError(
            "there is no question: standard input is empty",
            hint='run it in a terminal, or pipe a question: echo "Who are you?" | edge chat FOLDER',
        )
    folder = resolve_model((args.device, *args.fallback), args.folder)
    sampling = folder.sampling().override(temperature=args.temperature, max_new_tokens=args.max_new_tokens)
    options = Options(context=args.context, verify=args.verify)
    with Chat(
        folder, device=args.device, fallback=args.fallback, system=args.system, sampling=sampling, options=options
    ) as chat:
        if piped:
            print_reply(chat, piped)
        else:
            _chat_loop(chat)
    return 0


def _chat_loop(chat: "Chat") -> None:
    manifest = chat.model.source.manifest
    choice = chat.model.choice
    print_text(f"{manifest.source.name}, {manifest.recipe}, on {choice.device}: {choice.reason}." if choice else "")
    print(HELP)
    for text in MessageInput(_COMMANDS):
        name, *value = text.split(maxsplit=1)
        if name == "/exit":
            return
        try:
            if text.startswith("/") and "\n" not in text:
                _run_command(chat, name, *value)
            else:
                print_reply(chat, text)
        except KeyboardInterrupt:
            print(" [stopped]")
        except EdgeError as exc:
            print_text(f"{exc}\n{exc.hint}")


def _run_command(chat: "Chat", name: str, value: str = "") -> None:
    match name:
        case "/reset":
            chat.reset()
        case "/save" if value:
            chat.save(value)
        case "/load" if value:
            chat.load(value)
        case _:
            print(HELP)


def print_reply(chat: "Chat", text: str) -> None:
    """Print a reply as it streams. On a terminal, reasoning appears dimmed before the answer."""
    from runtime.messages import Finish, Reasoning, Text

    interactive, reasoning = is_terminal(sys.stdout), False
    dim, plain = (_DIM, _PLAIN) if supports_ansi(sys.stdout) else ("", "")
    try:
        with closing(chat.stream(text)) as events:
            for event in events:
                if interactive and reasoning != isinstance(event, Reasoning):
                    reasoning = not reasoning
                    print(dim if reasoning else f"{plain}\n", end="")
                if isinstance(event, Text) or (interactive and isinstance(event, Reasoning)):
                    print_text(event.text, end="", flush=True)
                elif interactive and isinstance(event, Finish) and event.reason == "length":
                    print(f" [cut off after {event.usage.completion_tokens:,} tokens]", end="")
    finally:
        print(plain if reasoning else "")
