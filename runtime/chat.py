"""A chat with tools: prompt the model, run the tools it calls, return their results to it, keep the history."""

import json
import os
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from . import strict_json, tool_run, tools
from .backends.backend import Options
from .cancellation import Cancellable, Cancellation
from .checks import require, require_all, require_integer, require_seconds
from .errors import RequestError
from .grammar import Grammar
from .messages import (
    Event,
    Finish,
    FinishReason,
    Logprobs,
    Message,
    Reasoning,
    Text,
    TokenLogprob,
    ToolCall,
    ToolResult,
    Usage,
)
from .model import Model
from .reply.generation import Constraint
from .sampling import Sampling
from .source import ModelSource, open_source
from .system.files import write_atomically
from .text import one_line
from .tools import Tool, to_tools

AnyTool = Callable[..., Any] | Tool


@dataclass(frozen=True, slots=True)
class Reply:
    """A complete reply, collected from its events."""

    text: str
    reasoning: str
    tool_calls: tuple[ToolCall, ...]
    tool_results: tuple[ToolResult, ...]
    finish_reason: FinishReason
    usage: Usage
    logprobs: tuple[TokenLogprob, ...] = ()

    @classmethod
    def from_events(cls, events: Iterable[Event]) -> Self:
        """Collect the events of a reply up to its Finish."""
        finish = Finish("stop")
        text: list[str] = []
        reasoning: list[str] = []
        calls: list[ToolCall] = []
        results: list[ToolResult] = []
        logprobs: list[TokenLogprob] = []
        for event in events:
            match event:
                case Logprobs(tokens):
                    logprobs += tokens
                case Text(piece):
                    text.append(piece)
                case Reasoning(piece):
                    reasoning.append(piece)
                case ToolCall():
                    calls.append(event)
                case ToolResult():
                    results.append(event)
                case Finish():
                    finish = event
        return cls(
            "".join(text),
            "".join(reasoning),
            tuple(calls),
            tuple(results),
            finish.reason,
            finish.usage,
            tuple(logprobs),
        )


class Chat:
    """A conversation with a model. Not thread-safe: give each thread a chat of its own; they can share one Model.

    `model` is a model folder, a checkpoint, or a Model. A path is loaded onto `device` ("auto", a name such as "CPU",
    or a server's URL), or onto the first device of `fallback` that works, and closed with the chat; a Model stays open.

    `tools` are typed Python functions that the model may call, in at most `max_rounds` rounds before it has to answer.
    With `strict` the arguments of each call are constrained to its tool's schema. Tools run one after the other in a
    thread of the chat's own, not in the caller's: an object bound to one thread, such as a sqlite3 connection, has to
    be opened inside a tool (the next call can use it) or made for any thread (`check_same_thread=False`). A tool that
    takes longer than `tool_timeout` seconds (None: no limit) is reported to the model as failed; its late result is
    dropped, and the next tool gets a new thread. Results are truncated to `max_tool_characters`. A Tool may have limits
    of its own.

    `sampling` defaults to the checkpoint's own. `history` is where the chat continues from. The engine runs in a
    process of its own, so that a window or an event loop stays responsive; `in_process` keeps it in this one.

    Raises RequestError for an argument of the wrong type or out of range, and whatever loading the model raises.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | ModelSource | Model,
        *,
        device: str = "auto",
        fallback: Sequence[str] = (),
        system: str = "",
        tools: Iterable[AnyTool] = (),
        max_rounds: int = 8,
        strict: bool = False,
        tool_timeout: float | None = tool_run.TIMEOUT,
        max_tool_characters: int = tool_run.MAX_CHARACTERS,
        sampling: Sampling | None = None,
        options: Options = Options(),
        in_process: bool = False,
        history: Sequence[Message] = (),
    ) -> None:
        require("system", system, str, "text")
        require_integer("max_rounds", max_rounds, 1)
        require("strict", strict, bool, "True or False")
        require_seconds("tool_timeout", tool_timeout)
        require_integer("max_tool_characters", max_tool_characters, 100)
        require("sampling", sampling, Sampling | None, "a Sampling, such as edge.Sampling(temperature=0.7)")
        require_all("history", history, Message, "a list of Message")
        self._tools = to_tools(tools)
        self._owns_model = not isinstance(model, Model)
        if not isinstance(model, Model):
            folder = open_source(model)
            folder.chat_template()  # a base model is refused before it is loaded
            model = Model(folder, device=device, fallback=fallback, options=options, in_process=in_process)
        self.model = model
        self.sampling = sampling or self.model.sampling
        self.max_rounds = max_rounds
        self.strict = strict
        self.tool_timeout = tool_timeout
        self.max_tool_characters = max_tool_characters
        self._system = (Message("system", system),) if system else ()
        self._messages: list[Message] = [*self._system, *history]
        self._busy = False
        self._worker = tool_run.ToolWorker()
        self._cancellation = Cancellation()  # of the last reply

    @property
    def history(self) -> tuple[Message, ...]:
        """All messages so far, including the system message."""
        return tuple(self._messages)

    def send(
        self,
        text: str,
        *,
        tools: Iterable[AnyTool] | None = None,
        tool_choice: str = "auto",
        answer: Grammar | None = None,
        sampling: Sampling | None = None,
    ) -> Reply:
        """Send `text` and wait for the complete reply. Arguments and errors are those of `stream`."""
        return Reply.from_events(
            self.stream(text, tools=tools, tool_choice=tool_choice, answer=answer, sampling=sampling)
        )

    def stream(
        self,
        text: str,
        *,
        tools: Iterable[AnyTool] | None = None,
        tool_choice: str = "auto",
        answer: Grammar | None = None,
        sampling: Sampling | None = None,
    ) -> Cancellable[Event]:
        """Send `text` and yield the reply's events, the last a Finish.

        The settings apply to this reply only; its token limit covers all rounds together. `tool_choice` is "auto",
        "none", "required", or a tool's name; `answer` is the grammar of an answer in words, and excludes calls.

        Closing the generator stops the model, and so does `cancel`, of the chat or of the generator, from any thread;
        the last event then is a Finish with the reason "cancelled". Text generated so far stays in the history. A reply
        that fails before its first text (RequestError, PromptTooLong, BackendError) leaves the history unchanged.
        """
        require("sampling", sampling, Sampling | None, "a Sampling, such as edge.Sampling(temperature=0.7)")
        require("answer", answer, Grammar | None, "a Regex, Choice, JsonObject or JsonSchema")
        box = {} if tool_choice == "none" else self._tools if tools is None else to_tools(tools)
        constraint = Constraint.for_tools([tool.to_json() for tool in box.values()], tool_choice, strict=self.strict)
        if answer is not None:
            constraint = Constraint(answer=answer)
        if not self._busy:
            self._cancellation = Cancellation()
        events = self._generate_turns(
            Message("user", text), box, sampling or self.sampling, constraint, self._cancellation
        )
        return Cancellable(events, self._cancellation)

    def cancel(self) -> None:
        """Cancel the current reply, from any thread; it ends within one step of the engine. Does not wait for the
        engine, nor for a running tool."""
        self._cancellation.cancel()

    def _generate_turns(
        self,
        user: Message,
        box: dict[str, Tool],
        sampling: Sampling,
        constraint: Constraint,
        cancellation: Cancellation,
    ) -> Generator[Event, None, None]:
        if self._busy:
            raise RequestError("the chat is still replying", hint="read that reply to its end, or cancel it")
        self._busy = True
        turn, usage, events = [user], Usage(), list[Event]()
        unanswered: list[ToolCall] = []
        offered = [tool.to_json() for tool in box.values()]
        reason: FinishReason = "rounds"
        limit = sampling.max_new_tokens
        try:
            for _ in range(self.max_rounds):
                left = None if limit is None else limit - usage.completion_tokens
                if left is not None and left <= 0:
                    reason = "length"
                    break
                sampling = replace(sampling, max_new_tokens=left)
                messages = (*self._messages, *turn)
                with closing(self.model.reply(messages, offered, sampling, constraint, cancellation)) as reply:
                    for event in reply:
                        events.append(event)
                        if not isinstance(event, Finish):
                            yield event
                collected, events = Reply.from_events(events), []
                usage += collected.usage
                cut_off = collected.finish_reason != "stop"
                if collected.finish_reason == "cancelled" and not (collected.text or collected.reasoning):
                    reason = "cancelled"
                    break
                turn.append(
                    Message(
                        "assistant",
                        collected.text,
                        collected.reasoning,
                        () if cut_off else collected.tool_calls,
                    )
                )
                if cut_off or not collected.tool_calls:
                    reason = collected.finish_reason
                    break
                constraint = replace(constraint, must_call=())  # it has been
                unanswered = list(collected.tool_calls)
                yield from self._run_tools(unanswered, box, turn, cancellation)
                if cancellation.cancelled:
                    reason = "cancelled"
                    break
        except GeneratorExit:
            collected = Reply.from_events(events)
            if collected.text or collected.reasoning:
                turn.append(Message("assistant", collected.text, collected.reasoning))
            raise
        finally:
            self._busy = False
            turn += [Message("tool", "cancelled", tool_call_id=call.id, name=call.name) for call in unanswered]
            if len(turn) > 1:
                self._messages += turn
        yield Finish(reason, usage)

    def _run_tools(
        self, calls: list[ToolCall], box: dict[str, Tool], turn: list[Message], cancellation: Cancellation
    ) -> Generator[Event, None, None]:
        """Run the calls in order. Each call whose result was appended to `turn` is removed from `calls`; the others
        remain if the reply is cancelled."""
        while calls and not cancellation.cancelled:
            result = tools.run_call(
                box,
                calls[0],
                timeout=self.tool_timeout,
                max_characters=self.max_tool_characters,
                cancellation=cancellation,
                worker=self._worker,
            )
            if cancellation.cancelled and result.error:
                return
            del calls[0]
            turn.append(Message("tool", result.content, tool_call_id=result.call_id, name=result.name))
            yield result

    def reset(self) -> None:
        """Drop the history, except for the system message."""
        self._messages = list(self._system)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the history as JSON, in the layout of OpenAI's messages. The file is replaced atomically. Raises
        RequestError."""
        target = Path(path)
        text = json.dumps({"messages": [message.to_json() for message in self._messages]}, indent=2, ensure_ascii=False)
        try:
            write_atomically(target, f"{text}\n".encode())
        except OSError as exc:
            raise RequestError(f"{target} cannot be written: {exc.strerror}", hint="choose another place") from exc

    def load(self, path: str | os.PathLike[str]) -> None:
        """Replace the history by a saved one. Raises RequestError for a file that is not one; the history then stays
        unchanged."""
        try:
            data = strict_json.parse(Path(path).read_bytes())
            messages = [Message.from_json(item) for item in data["messages"]]
        except OSError as exc:
            raise RequestError(f"{path} cannot be read: {exc.strerror}", hint="`save` writes such a file") from exc
        except (ValueError, KeyError, TypeError, RequestError) as exc:
            raise RequestError(
                f"{path} is not a saved chat: {one_line(repr(exc))}", hint="`save` writes such a file"
            ) from exc
        self._messages = messages

    def close(self) -> None:
        """Close the model if this chat loaded it, and end the tools' thread."""
        self._worker.close()
        if self._owns_model:
            self.model.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
