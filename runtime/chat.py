"""A chat with tools: prompt the model, run the tools it calls, return their results to it, keep the history."""

import os
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack

from . import tool_run
from .backends.backend import Options
from .cancellation import Cancellable, Cancellation
from .checkpoint.adapters.reference import AdapterLike, parse_adapters
from .checks import require, require_integer, require_seconds
from .context_window import OVERFLOWS, ContextWindow, Overflow
from .documents.reader import DocumentLike, to_documents
from .errors import RequestError, ToolError
from .events import Event, ToolCall
from .grammar.grammar import AnswerLike
from .history import History
from .messages import Message, MessageLike, with_pictures
from .model import Model
from .pictures import PictureLike
from .progress import Progress
from .reply.constraint import Constraint
from .reply.reply import Reply
from .reply.tool_choice import ToolChoice
from .sampling import Sampling, SamplingSettings, merge_settings
from .source import ModelSource, open_source, require_chat_model
from .toolbox import OfferedTools, Toolbox, ToolSource
from .tools import Tool, ToolLike
from .turn import ToolPolicy, Turn

if TYPE_CHECKING:
    import asyncio

    from .documents.search import Embed


class Chat:
    """A conversation with a model. Not thread-safe: give each thread a chat of its own; they can share one Model.

    `model` is a model folder, a checkpoint, or a Model. A path is loaded onto `device` ("auto", a name such as "CPU",
    or a server's URL), or onto the first device of `fallback` that works, with the LoRA adapters that `adapter` names,
    and closed with the chat; a Model stays open.

    `tools` are typed Python functions that the model may call, in at most `max_rounds` rounds before it has to answer.
    A definition in OpenAI's layout is a tool that the application runs: a call of it ends the reply, and the next
    `send` takes its result. `edge.mcp` offers the tools of MCP servers, which run as long as the chat is open. With
    `strict` the arguments of each call are constrained to its tool's schema. `approve` is
    called with each ToolCall before it runs, in the thread that reads the reply; where it returns False, the model
    reads that the user declined.

    Tools run one after the other in a thread of the chat's own, not in the caller's: an object bound to one thread,
    such as a sqlite3 connection, has to be opened inside a tool (the next call can use it) or made for any thread
    (`check_same_thread=False`). A tool that takes longer than `tool_timeout` seconds (None: no limit) is reported to
    the model as failed; its late result is dropped, and the next tool gets a new thread. Results are truncated to
    `max_tool_characters`. A Tool may have limits of its own.

    `sampling`, and keywords such as `temperature=0.2`, override the checkpoint's own settings one by one. `history` is
    where the chat continues from: Messages, or dicts in the layout of OpenAI's messages. `template_variables` are
    further variables of the checkpoint's chat template, such as {"enable_thinking": False}. `embedding_model` is the
    folder of a model whose vectors help to search documents that are too long for the context, or a function that
    returns the vector of each text, of length 1. The engine runs in a
    process of its own, so that a window or an event loop stays responsive; `in_process` keeps it in this one.
    `progress` is that of Model: how far the loading is.

    A chat that outgrows the context is refused with PromptTooLong, or with `overflow` "drop" its oldest turns are left
    out of the prompt, and told in a DroppedMessages event: as a whole, never the system message or the last message,
    and those with pictures or documents last if `keep_attachments`. The history keeps them. A cut leaves half of the
    context free for the turns to come.

    Raises RequestError for an argument of the wrong type or out of range, ToolError for a function that cannot become a
    tool, and whatever loading the model raises.

    Example:
        with edge.Chat("./glm4-int4", system="Answer in one sentence.", temperature=0.2) as session:
            print(session.send("Why is the sky blue?"))
    """

    _loop: "asyncio.AbstractEventLoop | None" = None  # of an AsyncChat, for its async tools

    def __init__(
        self,
        model: str | os.PathLike[str] | ModelSource | Model,
        *,
        device: str = "auto",
        fallback: Sequence[str] = (),
        system: str = "",
        tools: Iterable[ToolLike | ToolSource] = (),
        approve: Callable[[ToolCall], bool] | None = None,
        max_rounds: int = 8,
        strict: bool = False,
        tool_timeout: float | None = tool_run.TIMEOUT,
        max_tool_characters: int = tool_run.MAX_CHARACTERS,
        sampling: Sampling | None = None,
        options: Options = Options(),
        adapter: AdapterLike | Sequence[AdapterLike] = (),
        in_process: bool = False,
        history: Iterable[MessageLike] = (),
        template_variables: Mapping[str, Any] | None = None,
        embedding_model: "str | os.PathLike[str] | Embed | None" = None,
        overflow: Overflow = "refuse",
        keep_attachments: bool = False,
        progress: Callable[[Progress], None] | None = None,
        **settings: Unpack[SamplingSettings],
    ) -> None:
        require("system", system, str, "text")
        require("approve", approve, Callable | None, "a function that takes a ToolCall")  # type: ignore[arg-type]
        require_integer("max_rounds", max_rounds, 1)
        require("strict", strict, bool, "True or False")
        require("template_variables", template_variables, Mapping | None, "a dict")
        require("keep_attachments", keep_attachments, bool, "True or False")
        if overflow not in OVERFLOWS:
            raise RequestError(f"unknown overflow {overflow!r}", hint=f"choose one of {', '.join(OVERFLOWS)}")
        if not callable(embedding_model):
            require("embedding_model", embedding_model, str | os.PathLike | None, "the path of a folder")
        require_seconds("tool_timeout", tool_timeout)
        require_integer("max_tool_characters", max_tool_characters, 100)
        sampling = merge_settings(sampling, settings)
        self._history = History(system, history)
        self._toolbox = Toolbox(tools)
        self._require_runnable(self._toolbox.fixed)
        self._owns_model = not isinstance(model, Model)
        self.model = self._open_model(
            model, device, fallback, options, adapter, in_process=in_process, progress=progress
        )
        self.sampling = self.model.sampling.merge(sampling)
        self.approve = approve
        self.max_rounds = max_rounds
        self.strict = strict
        self.tool_timeout = tool_timeout
        self.max_tool_characters = max_tool_characters
        self.template_variables = template_variables
        self.embedding_model = embedding_model
        self.overflow = overflow
        self.keep_attachments = keep_attachments
        self._embed: Embed | None = embedding_model if callable(embedding_model) else None
        self._worker = tool_run.ToolWorker()
        self._cancellation = Cancellation()  # of the last reply

    def _open_model(
        self,
        model: str | os.PathLike[str] | ModelSource | Model,
        device: str,
        fallback: Sequence[str],
        options: Options,
        adapter: AdapterLike | Sequence[AdapterLike],
        *,
        in_process: bool,
        progress: Callable[[Progress], None] | None,
    ) -> Model:
        """Open the tools, and load the model unless it is loaded already."""
        if isinstance(model, Model):
            if parse_adapters(adapter):
                raise RequestError(
                    "a loaded Model cannot take an adapter", hint="pass it to Model, or pass the folder here"
                )
            self._toolbox.open()
            return model
        source = open_source(model)
        require_chat_model(source)
        source.chat_template()  # a base model is refused before it is loaded
        require("options", options, Options, "an Options, such as edge.Options(threads=4)")
        if options.running is None:
            options = replace(options, running=1)
        self._toolbox.open()
        try:
            return Model(
                source,
                device=device,
                fallback=fallback,
                options=options,
                adapter=adapter,
                in_process=in_process,
                progress=progress,
            )
        except BaseException:
            self._toolbox.close()
            raise

    @property
    def history(self) -> tuple[Message, ...]:
        """All messages so far, including the system message.

        It can be replaced between two replies, by Messages or dicts; the chat's system message stays, unless the new
        ones begin with one. Keep a call and its result together.

        Example:
            chat.history = chat.history[-6:]
        """
        return self._history.messages

    @history.setter
    def history(self, messages: Iterable[MessageLike]) -> None:
        self._history.replace(messages)

    @property
    def system(self) -> str:
        """The system message, "" if there is none. It can be replaced between two replies; the other messages stay.

        Example:
            chat.system = "Answer in Chinese."
        """
        return self._history.system

    @system.setter
    def system(self, text: str) -> None:
        require("system", text, str, "text")
        self._history.system = text

    def send(
        self,
        message: str | MessageLike | Iterable[MessageLike],
        *,
        pictures: Iterable[PictureLike] = (),
        tools: Iterable[ToolLike | ToolSource] | None = None,
        tool_choice: str | Mapping[str, Any] = "auto",
        answer: AnswerLike | None = None,
        documents: Iterable[DocumentLike] = (),
        sampling: Sampling | None = None,
        **settings: Unpack[SamplingSettings],
    ) -> Reply:
        """Send a message and wait for the complete reply. Arguments and errors are those of `stream`.

        Example:
            chat.send("Is it raining?", answer=["yes", "no"], temperature=0)
        """
        return Reply.from_events(
            self.stream(
                message,
                pictures=pictures,
                tools=tools,
                tool_choice=tool_choice,
                answer=answer,
                documents=documents,
                sampling=sampling,
                **settings,
            )
        )

    def stream(
        self,
        message: str | MessageLike | Iterable[MessageLike],
        *,
        pictures: Iterable[PictureLike] = (),
        tools: Iterable[ToolLike | ToolSource] | None = None,
        tool_choice: str | Mapping[str, Any] = "auto",
        answer: AnswerLike | None = None,
        documents: Iterable[DocumentLike] = (),
        sampling: Sampling | None = None,
        **settings: Unpack[SamplingSettings],
    ) -> Cancellable[Event]:
        """Send a message and yield the reply's events, the last a Finish.

        `message` is the user's text, or one or more messages: dicts with role and content, or Messages. `pictures`
        stand before the text: paths, bytes, PIL images and what else `Picture.open` takes; a Message has its own. The
        settings apply to this reply only, over the chat's own; its token limit covers all rounds together.
        `tool_choice` is "auto", "none", "required", a tool's name, or OpenAI's dict with a tool's name. The arguments
        of a required call follow its tool's schema if that is supported. `answer` constrains an answer in words, and
        excludes calls: a Regex, Choice, Ebnf, JsonObject or JsonSchema, a list of texts, a pydantic model, or a JSON
        schema as a dict.

        `documents` are paths of files, or pairs of a name and bytes. Those that fit the context become part of the
        message as a whole; in longer ones the passages that match the question are searched. The first event is then a
        Documents with the passages and their places. A document that cannot be read is a RequestError.

        Closing the generator stops the model, and so does `cancel`, of the chat or of the generator, from any thread;
        the last event then is a Finish with the reason "cancelled". Text generated so far stays in the history. A reply
        that fails before its first text (RequestError, PromptTooLong, BackendError) leaves the history unchanged.

        Example:
            for event in chat.stream("Tell me a story."):
                if isinstance(event, edge.Text):
                    print(event.text, end="", flush=True)
        """
        messages = with_pictures(message, pictures)
        self._history.require_results(messages)
        sampling = self.sampling.merge(merge_settings(sampling, settings))
        offered = self._offer(tools, tool_choice)
        definitions = [tool.to_json() for tool in offered.by_name.values()]
        constraint = Constraint.for_reply(definitions, tool_choice, answer, strict=self.strict, lenient=offered.lenient)
        if not self._history.busy:
            self._cancellation = Cancellation()
        turn = Turn(
            self.model,
            self._history,
            messages,
            offered.by_name,
            sampling,
            constraint,
            ToolPolicy(self._worker, self.tool_timeout, self.max_tool_characters, self.approve, self._loop),
            self._cancellation,
            self._window(definitions, sampling),
            self.overflow,
            self.template_variables,
        )
        documents = to_documents(documents)
        events = self._generate_with(documents, turn) if documents else turn.generate(self.max_rounds)
        return Cancellable(events, self._cancellation)

    def _offer(
        self, tools: Iterable[ToolLike | ToolSource] | None, tool_choice: str | Mapping[str, Any]
    ) -> OfferedTools:
        toolbox = self._toolbox if tools is None else Toolbox(tools)
        offered = OfferedTools({}) if ToolChoice.parse(tool_choice).mode == "none" else toolbox.offered()
        self._require_runnable(offered.by_name.values())
        return offered

    def _window(self, tools: Sequence[Mapping[str, Any]], sampling: Sampling) -> ContextWindow:
        return ContextWindow.create(
            self.model, tools, sampling.max_new_tokens, self.template_variables, keep_attachments=self.keep_attachments
        )

    def _generate_with(self, documents: Sequence[DocumentLike], turn: Turn) -> Generator[Event, None, None]:
        if self._embed is None and isinstance(self.embedding_model, str | os.PathLike):
            from .documents.embedding import PassageEmbedding

            self._embed = PassageEmbedding(self.embedding_model)
        yield from turn.generate_with(documents, self._embed, self.max_rounds)

    @property
    def tools(self) -> Mapping[str, Tool]:
        """The tools that the model may call now, by name: those of MCP servers may change between two replies."""
        return self._toolbox.offered().by_name

    def _require_runnable(self, tools: Iterable[Tool]) -> None:
        for tool in tools:
            if tool.is_async and tool.loop is None and self._loop is None:
                raise ToolError(f"the tool {tool.name} is async", hint="use edge.AsyncChat")

    def cancel(self) -> None:
        """Cancel the current reply, from any thread; it ends within one step of the engine. Does not wait for the
        engine, nor for a running tool."""
        self._cancellation.cancel()

    def reset(self) -> None:
        """Drop the history, except for the system message. Raises RequestError while the chat replies."""
        self._history.reset()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the history as JSON, in the layout of OpenAI's messages. The file is replaced atomically. Raises
        RequestError."""
        self._history.save(path)

    def load(self, path: str | os.PathLike[str]) -> None:
        """Replace the history by a saved one. Raises RequestError for a file that is not one; the history then stays
        unchanged."""
        self._history.load(path)

    def close(self) -> None:
        """Close the model if this chat loaded it, and end the tools' thread and MCP servers."""
        self._worker.close()
        self._toolbox.close()
        if self._owns_model:
            self.model.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
