"""`edge chat`: chat in the terminal, or answer piped input."""

import argparse
import sys
from contextlib import closing
from typing import TYPE_CHECKING

from runtime.errors import EdgeError, RequestError

from .attachments import Attachments, describe_documents
from .background_load import BackgroundLoad, prefill
from .chat_commands import EXITS, ChatCommands, is_command
from .chat_commands import NAMES as COMMAND_NAMES
from .cited_sources import CitedSources
from .config_flags import add_settings, load_config
from .kept_pictures import keep_pictures
from .output import print_text
from .prompt_input import open_input
from .reply_output import ReplyOutput
from .streams import is_terminal, read_stdin
from .tool_calls import CallApproval, describe_call, describe_result

if TYPE_CHECKING:
    from collections.abc import Callable

    from runtime.backends.backend import Options
    from runtime.chat import Chat
    from runtime.events import PictureProgress
    from runtime.messages import Message
    from runtime.progress import Progress

    from ..config.sections import ChatSection
    from ..config.settings_file import Config

SECTIONS = ("options", "sampling", "chat", "tools", "mcp")
SHOWN = ("--device", "--system", "--temperature", "--tool")
_AT_ONCE = 1.0  # seconds that a small model takes to load; what takes longer is loaded while a person types
HELP = "/help lists the commands, /file FILE sends a document along, Ctrl-C stops a reply, /exit ends."


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
        help="a model folder, a name in `edge list`, or one of the file's [models]; for PyTorch or a server, a "
        "checkpoint or the name of a model in `edge models` (default: the first of the file's models)",
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
    config = load_config(args)
    models = config.models.folders
    if args.folder is None and not models:
        raise RequestError("there is no model to chat with", hint="run edge chat FOLDER")
    question = read_question("edge chat FOLDER")
    name = next(iter(models)) if args.folder is None else args.folder
    return start_chat(config, models.get(name, name), question, Attachments(args.file, args.picture))


def read_question(command: str) -> str:
    """Return the question on standard input, "" if that is a terminal. Raises RequestError if there is none."""
    question = "" if is_terminal(sys.stdin) else read_stdin().strip()
    if not question and not is_terminal(sys.stdin):
        raise RequestError(
            "there is no question: standard input is empty",
            hint=f'run it in a terminal, or pipe a question: echo "Who are you?" | {command}',
        )
    return question


def start_chat(config: "Config", model: str, question: str, attachments: Attachments) -> int:
    """Answer the question, or chat in the terminal if it is empty; return the exit code."""
    from runtime.chat import Chat

    from ..config.named_tools import load_servers, load_tools
    from ..hub.resolve import resolve_model

    device, fallback, options = config.options.device, config.options.fallback, config.options.options()
    folder = resolve_model((device, *fallback), model)
    sampling = folder.sampling().merge(config.sampling.sampling())
    unattended = "" if is_terminal(sys.stdin) else "nobody approves calls without a terminal"
    tools = load_tools(config.chat.tool, config.tools, unattended=unattended)
    servers = load_servers(config.mcp.servers, unattended=unattended)
    approval = CallApproval()

    def load(progress: "Callable[[Progress], None] | None" = None) -> Chat:
        return Chat(
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
            progress=progress,
        )

    if question:
        with load() as chat:
            approval.chat = chat
            print_reply(chat, question, approval, attachments, markdown=not config.chat.plain)
    else:
        with BackgroundLoad(load, prefill) as loading:
            _chat_loop(loading, _Conversation(config.chat, options, approval, attachments))
    return 0


def _chat_loop(loading: BackgroundLoad, conversation: "_Conversation") -> None:
    """Read messages and print the replies. What is typed before the model is loaded waits for it."""
    if loading.wait(_AT_ONCE):
        conversation.open(loading)
    typed = open_input(COMMAND_NAMES, keep_history=conversation.settings.keep_history)
    print(" ".join(filter(None, (HELP, typed.hint))))
    if conversation.chat is None:
        typed.status, typed.failed = lambda: loading.status, lambda: loading.failed
        if not typed.shows_status:
            print("The model is being loaded; type already.")
    for text in typed:
        if text in EXITS:
            return
        try:
            if conversation.chat is None:
                conversation.open(loading)
                typed.status = str
            conversation.answer(text, loading.end_prefill)
        except KeyboardInterrupt:
            print(" [stopped]")
        except EdgeError as exc:
            if loading.failed:
                raise
            print_text(f"{exc}\n{exc.hint}")
    if loading.failed:
        conversation.open(loading)  # raises why


class _Conversation:
    """The chat, once it is loaded, and what goes with its next message."""

    def __init__(
        self, settings: "ChatSection", options: "Options", approval: CallApproval, attachments: Attachments
    ) -> None:
        self.settings = settings
        self.chat: Chat | None = None
        self._options = options
        self._approval = approval
        self._attachments = attachments
        self._sources = CitedSources()
        self._dropped = 0  # messages of which was told that they no longer fit

    def open(self, loading: BackgroundLoad) -> None:
        """Wait for the chat, and print what it is. Raises what opening it raised."""
        output = ReplyOutput()
        try:
            chat = loading.result(output.write_status)
        finally:
            output.begin_line()
        manifest, choice = chat.model.source.manifest, chat.model.choice
        adapters = "".join(f", with {adapter}" for adapter in self._options.adapters)
        if choice:
            print_text(f"{manifest.source.name}, {manifest.recipe}{adapters}, on {choice.device}: {choice.reason}.")
        if tools := chat.tools:
            print_text(f"The model may call {', '.join(tools)}.")
        self.chat = self._approval.chat = chat
        self._commands = ChatCommands(chat, self._attachments)

    def answer(self, text: str, begin: "Callable[[], None]") -> None:
        """Run a command, or print the reply to a message, for which `begin` is called first. Raises EdgeError."""
        chat = self.chat
        assert chat is not None
        before = chat.history
        message = self._commands.run(text) if is_command(text) else text
        if message is None:
            return
        begin()
        shortened = chat.history
        try:
            self._dropped = print_reply(
                chat,
                message,
                self._approval,
                self._attachments,
                dropped=self._dropped,
                markdown=not self.settings.plain,
                sources=self._sources,
            )
            if warning := "" if self._dropped else self._commands.describe_context():
                print_text(warning)
        finally:
            self._attachments.clear()  # what was rejected would be rejected again
            if chat.history == shortened:  # there is no other reply: /regenerate took nothing back
                chat.history = before


def print_reply(
    chat: "Chat",
    message: "str | Message",
    approval: CallApproval | None = None,
    attachments: Attachments | None = None,
    *,
    dropped: int = 0,
    markdown: bool = False,
    sources: CitedSources | None = None,
) -> int:
    """Print a reply as it streams, its `markdown` formatted if the terminal can show that. On a terminal, reasoning
    appears dimmed before the answer, and so do documents, tool calls and their results; a call that needs approval
    appears in the question, and what the reply cites of the chat's `sources` below it. Returns the number of the chat's
    oldest messages that no longer fit, told where there are more than `dropped`."""
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
    sources = (sources or CitedSources()) if interactive else None
    output = ReplyOutput(markdown=markdown, sources=sources)
    try:
        pictures, documents = (attachments.pictures, attachments.documents) if attachments else ((), ())
        with closing(chat.stream(message, pictures=pictures, documents=documents)) as events:
            for event in events:
                if sources:
                    sources.take(event)
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
                        output.write_line("\n".join((describe_result(event), *keep_pictures(event.pictures))))
                    case Finish(reason="length", usage=usage) if interactive:
                        output.write(f" [cut off after {usage.completion_tokens:,} tokens]")
    finally:
        output.end()
    return dropped


def _describe_progress(progress: "PictureProgress") -> str:
    which = "the picture" if progress.total == 1 else f"picture {progress.number} of {progress.total}"
    expected = f" of about {progress.expected:.0f} s" if progress.expected else " s"
    return f"reading {which}: {progress.seconds:.0f}{expected}"
