"""A chat with tools: render, generate, parse, call the tools, go on."""

import json
import os
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from . import families, tools
from .backends.backend import Backend, Delta, Options, Request
from .devices import choose
from .errors import RequestError
from .messages import Event, Finish, FinishReason, Message, Reasoning, Text, ToolCall, ToolResult, Usage
from .model_folder import ModelFolder
from .parsing import ReplyParser
from .sampling import Sampling
from .template import Template
from .tools import Tool, toolbox

AnyTool = Callable[..., Any] | Tool


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole reply: what its events add up to."""

    text: str
    reasoning: str
    tool_calls: tuple[ToolCall, ...]
    tool_results: tuple[ToolResult, ...]
    finish_reason: FinishReason
    usage: Usage

    @classmethod
    def of(cls, events: Iterable[Event]) -> Self:
        """Collects the events of a reply, to its Finish."""
        text, reasoning, finish = "", "", Finish("stop")
        calls: list[ToolCall] = []
        results: list[ToolResult] = []
        for event in events:
            match event:
                case Text(piece):
                    text += piece
                case Reasoning(piece):
                    reasoning += piece
                case ToolCall():
                    calls.append(event)
                case ToolResult():
                    results.append(event)
                case Finish():
                    finish = event
        return cls(text, reasoning, tuple(calls), tuple(results), finish.reason, finish.usage)


class Chat:
    """A conversation with a model folder. Not for several threads at once: give each a chat of its own.

    `tools` are typed Python functions that the model may call, at most `max_rounds` times before it has to answer.
    `sampling` is the checkpoint's own where none is given. A `backend` that is loaded already is used, and not closed.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | ModelFolder,
        *,
        device: str = "auto",
        system: str = "",
        tools: Iterable[AnyTool] = (),
        max_rounds: int = 8,
        sampling: Sampling | None = None,
        options: Options = Options(),
        backend: Backend | None = None,
    ) -> None:
        self.folder = model if isinstance(model, ModelFolder) else ModelFolder.open(model)
        self.sampling = sampling or self.folder.sampling()
        self.max_rounds = max_rounds
        self._family = families.named(self.folder.manifest.family)
        self._template = Template(self.folder.chat_template(), self._family, self.folder.manifest.special_tokens)
        self._tools = toolbox(tools)
        self._system = (Message("system", system),) if system else ()
        self._messages: list[Message] = list(self._system)
        self._busy = False
        self._owns_backend = backend is None
        if backend is None:
            choice = choose(device)
            backend = choice.backend.load(self.folder, choice.device, options)
        self._backend = backend

    @property
    def history(self) -> tuple[Message, ...]:
        """All messages so far, the system's included."""
        return tuple(self._messages)

    def send(self, text: str, *, tools: Iterable[AnyTool] | None = None, sampling: Sampling | None = None) -> Reply:
        """Says `text` and waits for the whole reply. Otherwise as `stream`."""
        return Reply.of(self.stream(text, tools=tools, sampling=sampling))

    def stream(
        self, text: str, *, tools: Iterable[AnyTool] | None = None, sampling: Sampling | None = None
    ) -> Generator[Event, None, None]:
        """Says `text` and yields the reply's events, the last a Finish.

        `tools` and `sampling` are for this reply only. Closing the generator stops the model; what it had said stays in
        the history. A reply that fails (PromptTooLong, BackendError) before anything is said leaves no trace in it.
        """
        box = self._tools if tools is None else toolbox(tools)
        return self._converse(Message("user", text), box, sampling or self.sampling)

    def _converse(self, user: Message, box: dict[str, Tool], sampling: Sampling) -> Generator[Event, None, None]:
        if self._busy:
            raise RequestError("the chat is still replying", hint="read that reply to its end, or close it")
        self._busy = True
        turn, usage, said = [user], Usage(), ""
        try:
            for _ in range(self.max_rounds):
                said, calls, finish = "", [], Finish("stop")
                for event in self._round(turn, box, sampling):
                    match event:
                        case Text(piece):
                            said += piece
                        case ToolCall():
                            calls.append(event)
                        case Finish():
                            finish = event
                            continue
                    yield event
                usage += finish.usage
                cut_off = finish.reason == "length"
                turn.append(Message("assistant", said, tool_calls=() if cut_off else tuple(calls)))
                said = ""
                if cut_off or not calls:
                    break
                for call in calls:
                    result = tools.call(box, call)
                    turn.append(Message("tool", result.content, tool_call_id=result.call_id, name=result.name))
                    yield result
            else:
                finish = Finish("rounds")
        except GeneratorExit:
            if said:
                turn.append(Message("assistant", said))
            raise
        finally:
            self._busy = False
            if len(turn) > 1:
                self._messages += turn
        yield Finish(finish.reason, usage)

    def _round(
        self, turn: Sequence[Message], box: dict[str, Tool], sampling: Sampling
    ) -> Generator[Text | ToolCall | Finish, None, None]:
        messages = (*self._messages, *turn)
        prompt = self._template.render(messages, [tool.to_json() for tool in box.values()])
        parser = ReplyParser(box, self._family.call_start, 1 + sum(len(message.tool_calls) for message in messages))
        generation = self._backend.generate(Request(prompt, self._family.stop_tokens, sampling))
        try:
            for part in generation:
                if isinstance(part, Delta):
                    yield from parser.feed(part.text)
                else:
                    yield from parser.finish()
                    yield part
        finally:
            generation.close()

    def reset(self) -> None:
        """Forgets everything but the system message."""
        self._messages = list(self._system)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the history as JSON, in the layout of OpenAI's messages; the file appears whole or not at all."""
        target = Path(path)
        scratch = target.with_name(f".{target.name}.{os.getpid()}")
        text = json.dumps({"messages": [message.to_json() for message in self._messages]}, indent=2, ensure_ascii=False)
        try:
            scratch.write_text(text + "\n", encoding="utf-8")
            scratch.replace(target)
        except OSError as exc:
            scratch.unlink(missing_ok=True)
            raise RequestError(f"{target} cannot be written: {exc.strerror}", hint="choose another place") from exc

    def load(self, path: str | os.PathLike[str]) -> None:
        """Takes up a saved history. Raises RequestError where the file is not one; the chat then stays as it was."""
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
            messages = [Message.from_json(item) for item in data["messages"]]
        except OSError as exc:
            raise RequestError(f"{path} cannot be read: {exc.strerror}", hint="`save` writes such a file") from exc
        except (ValueError, KeyError, TypeError, AttributeError) as exc:
            raise RequestError(f"{path} is not a saved chat: {exc!r}", hint="`save` writes such a file") from exc
        self._messages = messages

    def close(self) -> None:
        """Frees the model, if this chat loaded it."""
        if self._owns_backend:
            self._backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
