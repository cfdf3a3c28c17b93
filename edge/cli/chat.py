"""`edge chat`: chat in the terminal, or answer piped input."""

import argparse
import sys
from contextlib import closing
from typing import TYPE_CHECKING

from runtime.errors import EdgeError, RequestError

from .attachments import Attachments, describe_documents
from .config_flags import add_settings, load_config
from .message_input import MessageInput
from .output import print_text
from .streams import is_terminal, read_stdin, supports_ansi
from .tool_calls import CallApproval, describe_call, describe_result

if TYPE_CHECKING:
    from runtime.backends.backend import Options
    from runtime.chat import Chat
    from runtime.events import PictureProgress

_DIM, _PLAIN = "\x1b[2m", "\x1b[0m"
SECTIONS = ("options", "sampling", "chat", "tools", "mcp")
SHOWN = ("--device", "--system", "--temperature", "--tool")
_COMMANDS = ("/exit", "/file", "/load", "/picture", "/reset", "/save")
HELP = (
    "/file FILE and /picture FILE go with the next message; /reset starts a new chat; /save FILE and /load FILE store "
    "and restore it; Ctrl-C stops a reply; /exit ends."
)


def add(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the arguments of `edge chat`."""
    verb = verbs.add_parser(
        "chat",
        help="chat with a model in the terminal",
        description="Chat with a model in the terminal. With a question on standard input, print the answer alone, for "
        "scripts and pipes.",
        epilog=f"{HELP}\n\nExamples:\n\n    edge chat ./glm4-int4\n"
        '    echo "What is 6 times 7?" | edge chat ./glm4-int4 --temperature 0',
    )
    verb.add_argument(
        "folder",
        nargs="?",
        help="a model folder, or a name of the file's [models]; for PyTorch or a server, a checkpoint or the name of a "
        "model in `edge models` (default: the first of the file's models)",
    )
    add_settings(verb, SECTIONS, SHOWN)
    verb.add_argument(
        "--adapter",
        action="append",
        dest="options.adapters",
        metavar="DIR[@WEIGHT]",
        help="a LoRA adapter to load with the model; may be repeated, the updates add up (default: none)",
    )
    verb.add_argument(
        "--picture",
        action="append",
        default=[],
        metavar="FILE",
        help="a picture for the first message, if the model reads pictures; may be repeated (default: none)",
    )
    verb.add_argument(
        "--file",
        action="append",
        default=[],
        metavar="FILE",
        help="a document for the first message: PDF, DOCX, PPTX, XLSX, HTML, Markdown or text; may be repeated "
        "(default: none)",
    )
    verb.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run `edge chat`; return the exit code."""
    from runtime.chat import Chat

    from ..config.named_tools import load_servers, load_tools
    from ..hub.resolve import resolve_model

    config = load_config(args)
    models = config.models.folders
    if args.folder is None and not models:
        raise RequestError("there is no model to chat with", hint="run edge chat FOLDER")
    piped = "" if is_terminal(sys.stdin) else read_stdin().strip()
    if not piped and not is_terminal(sys.stdin):
        raise RequestError(
            "there is no question: standard input is empty",
            hint='run it in a terminal, or pipe a question: echo "Who are you?" | edge chat FOLDER',
        )
    device, fallback, options = config.options.device, config.options.fallback, config.options.options()
    name = next(iter(models)) if args.folder is None else args.folder
    folder = resolve_model((device, *fallback), models.get(name, name))
    sampling = folder.sampling().merge(config.sampling.sampling())
    unattended = "nobody approves calls without a terminal" if piped else ""
    tools = load_tools(config.chat.tool, config.tools, unattended=unattended)
    servers = load_servers(config.mcp.servers, unattended=unattended)
    approval = CallApproval()
    attachments = Attachments(args.file, args.picture)
    with Chat(
        folder,
        device=device,
        fallback=fallback,
        system=config.chat.system,
        tools=(*tools, *servers),
        approve=approval,
        sampling=sampling,
        options=options,
        embedding_model=config.chat.embedding_model,
        overflow=config.chat.overflow,
        keep_attachments=config.chat.keep_attachments,
    ) as chat:
        approval.chat = chat
        if piped:
            print_reply(chat, piped, approval, attachments)
        else:
            _chat_loop(chat, options, approval, attachments)
    return 0


def _chat_loop(chat: "Chat", options: "Options", approval: CallApproval, attachments: Attachments) -> None:
    """Read messages and print the replies. The `attachments` go with the next message."""
    manifest = chat.model.source.manifest
    choice = chat.model.choice
    adapters = "".join(f", with {adapter}" for adapter in options.adapters)
    if choice:
        print_text(f"{manifest.source.name}, {manifest.recipe}{adapters}, on {choice.device}: {choice.reason}.")
    if tools := chat.tools:
        print_text(f"The model may call {', '.join(tools)}.")
    print(HELP)
    dropped = 0
    for text in MessageInput(_COMMANDS):
        name, *value = text.split(maxsplit=1)
        if name == "/exit":
            return
        try:
            if text.startswith("/") and "\n" not in text:
                _run_command(chat, attachments, name, *value)
            else:
                try:
                    dropped = print_reply(chat, text, approval, attachments, dropped=dropped)
                finally:
                    attachments.clear()  # what was rejected would be rejected again
        except KeyboardInterrupt:
            print(" [stopped]")
        except EdgeError as exc:
            print_text(f"{exc}\n{exc.hint}")


def _run_command(chat: "Chat", attachments: Attachments, name: str, value: str = "") -> None:
    match name:
        case "/file" if value:
            attachments.add_document(value)
        case "/reset":
            chat.reset()
            attachments.clear()
        case "/picture" if value:
            attachments.add_picture(value)
        case "/save" if value:
            chat.save(value)
        case "/load" if value:
            chat.load(value)
        case _:
            print(HELP)


def print_reply(
    chat: "Chat",
    text: str,
    approval: CallApproval | None = None,
    attachments: Attachments | None = None,
    *,
    dropped: int = 0,
) -> int:
    """Print a reply as it streams. On a terminal, reasoning appears dimmed before the answer, and so do documents, tool
    calls and their results; a call that needs approval appears in the question. Returns the number of the chat's oldest
    messages that no longer fit, told where there are more than `dropped`."""
    from runtime.events import (
        Documents,
        DroppedMessages,
        Finish,
        PictureProgress,
        Reasoning,
        Text,
        ToolCall,
        ToolResult,
    )

    interactive = is_terminal(sys.stdout)
    output = _ReplyOutput()
    try:
        pictures, documents = (attachments.pictures, attachments.documents) if attachments else ((), ())
        with closing(chat.stream(text, pictures=pictures, documents=documents)) as events:
            for event in events:
                match event:
                    case PictureProgress() if interactive:
                        output.write_status(_describe_progress(event))
                    case Text(text):
                        output.write(text)
                    case Documents() if interactive:
                        output.write_line(describe_documents(event))
                    case DroppedMessages(count):
                        if interactive and count > dropped:
                            output.write_line(f"[the first {count:,} messages no longer fit, and are not read]")
                        dropped = count
                    case Reasoning(text) if interactive:
                        output.write(text, dim=True)
                    case ToolCall() if interactive and not (approval and approval.needed(event)):
                        output.write_line(describe_call(event))
                    case ToolCall() if interactive:
                        output.begin_line()
                    case ToolResult() if interactive:
                        output.write_line(describe_result(event))
                    case Finish(reason="length", usage=usage) if interactive:
                        output.write(f" [cut off after {usage.completion_tokens:,} tokens]")
    finally:
        output.end()
    return dropped


def _describe_progress(progress: "PictureProgress") -> str:
    which = "the picture" if progress.total == 1 else f"picture {progress.number} of {progress.total}"
    expected = f" of about {progress.expected:.0f} s" if progress.expected else " s"
    return f"reading {which}: {progress.seconds:.0f}{expected}"


class _ReplyOutput:
    """The lines of a reply on standard output, where reasoning and tool calls are dimmed."""

    def __init__(self) -> None:
        self._dim, self._plain = (_DIM, _PLAIN) if supports_ansi(sys.stdout) else ("", "")
        self._dimmed = False
        self._at_line_start = True
        self._status = ""

    def write_status(self, text: str) -> None:
        """Write a dimmed line that the next output replaces; on a terminal without ANSI codes, only the first one."""
        if self._dim:
            print(f"\r{self._dim}{text}{self._plain}\x1b[K", end="", flush=True)
        elif not self._status:
            print(text, flush=True)
        self._status = text

    def _clear_status(self) -> None:
        if self._status and self._dim:
            print("\r\x1b[K", end="", flush=True)
        self._status = ""

    def write(self, text: str, *, dim: bool = False) -> None:
        """Write text. A change between dimmed and plain begins a new line."""
        self._clear_status()
        if dim != self._dimmed:
            self._dimmed = dim
            print(self._dim if dim else f"{self._plain}\n", end="")
        if text:
            print_text(text, end="", flush=True)
            self._at_line_start = text.endswith("\n")

    def begin_line(self) -> None:
        """End the current line, if it has text."""
        self._clear_status()
        if not self._at_line_start:
            print(flush=True)
        self._at_line_start = True

    def write_line(self, text: str) -> None:
        """Write a dimmed line of its own."""
        self.begin_line()
        print(self._plain if self._dimmed else "", end="")
        self._dimmed = False
        print(self._dim, end="")
        print_text(text, end="")
        print(self._plain, flush=True)

    def end(self) -> None:
        """End the reply, also one that was interrupted."""
        self._clear_status()
        print(self._plain if self._dimmed else "")
