"""A loaded model: messages in, the events of one reply out. It runs no tools and keeps no history."""

import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import cached_property
from types import TracebackType
from typing import Any, Self, Unpack

from .backends.backend import Backend, Options, Request
from .backends.choose import DeviceChoice
from .backends.load import load_first
from .cancellation import Cancellable, Cancellation
from .chat_templates import DEFAULT
from .checkpoint.adapters.reference import AdapterLike, parse_adapters
from .checks import require, require_all
from .errors import Notice, RequestError, UnsupportedSetting
from .events import Event
from .grammar.grammar import AnswerLike, to_grammar
from .messages import Message, MessageLike, to_messages
from .progress import Progress
from .prompt.families import BASE, ReasoningMarks
from .prompt.template import ChatTemplate, Prompt, require_text
from .reply.calls.syntaxes import create_nearby, create_syntaxes
from .reply.constraint import Constraint
from .reply.generation import generate, skip_prompt_tokens
from .reply.parser import PlainText
from .reply.reply_parser import ReplyParser
from .sampling import Sampling, SamplingSettings, merge_settings
from .source import ModelSource, open_source, read_family, require_chat_model, stop_tokens
from .text import replace_surrogates
from .tools import ToolLike, to_definitions

_REMEMBERED_COUNTS = 100_000


class Model:
    """A loaded model, which several threads and chats may share.

    `device` is "auto", a device's name, or a server's URL; `choice` records the engine and device that were chosen, and
    why. If that device cannot load the model, those of `fallback` are tried in order, each with a Notice that gives the
    reason. `adapter` is the folder of a LoRA adapter (PEFT's), or several, each with an optional @WEIGHT: their updates
    are added to the model's for as long as it is loaded. OpenVINO's engine runs in a process of its own, since it
    blocks all Python threads of its process during a step; `in_process` keeps it in this one. A `backend` that is
    already loaded is used as it is.

    To load takes half a second for each layer of an int4 9B on two cores, as the weights are repacked: `progress` is
    called with a Progress four times a second meanwhile, in the thread that loads. What it raises ends the load, and is
    raised here. Engines in this process report nothing.

    Raises ModelFolderError, CheckpointError, DeviceError or BackendError.

    Example:
        with edge.Model("./glm4-int4", device="CPU") as loaded:
            first, second = edge.Chat(loaded), edge.Chat(loaded, system="Answer in Chinese.")
            print(first.send("Who are you?"), second.send("Who are you?"))
    """

    def __init__(
        self,
        source: str | os.PathLike[str] | ModelSource,
        *,
        device: str = "auto",
        fallback: Sequence[str] = (),
        options: Options = Options(),
        adapter: AdapterLike | Sequence[AdapterLike] = (),
        in_process: bool = False,
        backend: Backend | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> None:
        require("progress", progress, Callable | None, "a function that takes a Progress")  # type: ignore[arg-type]
        require("device", device, str, "a device's name")
        require_all("fallback", fallback, str, "a list of devices' names")
        require("options", options, Options, "an Options, such as edge.Options(threads=4)")
        if adapters := parse_adapters(adapter):
            options = replace(options, adapters=(*options.adapters, *adapters))
        self.source = open_source(source)
        require_chat_model(self.source)
        self.family = read_family(self.source)
        self.sampling = self.source.sampling()
        self.stop_tokens = stop_tokens(self.source)
        self._special_tokens = self.source.manifest.special_tokens
        self.choice: DeviceChoice | None = None
        self._text_tokens: dict[tuple[int, int], int] = {}  # by the text's hash and length
        if backend is not None and options.adapters:
            raise RequestError("a loaded engine cannot take an adapter", hint="leave out the adapter or the backend")
        if backend is None:
            devices = (device, *fallback)
            backend, self.choice = load_first(self.source, devices, options, in_process=in_process, progress=progress)
        self.backend = backend

    @cached_property
    def template(self) -> ChatTemplate:
        """The compiled chat template. Raises ModelFolderError for a base model, TemplateError for a template that is
        invalid."""
        return ChatTemplate(self.source.chat_templates(), self.family, self._special_tokens)

    def with_template(self, source: str) -> "Model":
        """Return this model with another chat template of its family. Both share the engine: closing one closes both.
        Raises TemplateError if the template is not valid."""
        templates = replace(self.source.chat_templates(), named={DEFAULT: source})
        found = copy(self)
        found.__dict__["template"] = ChatTemplate(templates, self.family, self._special_tokens)
        return found

    def prompt(
        self,
        messages: str | MessageLike | Iterable[MessageLike],
        tools: Iterable[ToolLike] = (),
        *,
        template_variables: Mapping[str, Any] | None = None,
    ) -> Prompt:
        """Render the prompt of the next reply, in pieces whose concatenation is its text. `template_variables` are
        those of `reply`. Raises TemplateError if the template rejects the messages."""
        return self._render(to_messages(messages), to_definitions(tools), template_variables)

    @property
    def reads_result_pictures(self) -> bool:
        """Whether the model reads pictures in the results of tools, on this device."""
        pictures = self.family.pictures
        return pictures is not None and "tool" in pictures.roles and self.backend.reads_pictures

    def _render(
        self,
        messages: Sequence[Message],
        tools: Sequence[Mapping[str, Any]],
        template_variables: Mapping[str, Any] | None,
    ) -> Prompt:
        name, pictures = self.source.manifest.source.name, self.family.pictures
        if pictures is not None:
            pictures.require_supported(name, messages, tools)
        prompt = self.template.render(messages, tools, variables=template_variables)
        if pictures is None or not self.backend.reads_pictures:
            require_text(prompt, name if pictures is None else f"{name} on this device")
        return prompt

    def count_tokens(self, messages: str | MessageLike | Iterable[MessageLike], tools: Iterable[ToolLike] = ()) -> int:
        """Return the number of tokens in the prompt of the next reply."""
        return self.backend.count_tokens(self.prompt(messages, tools))

    def count_text(self, text: str) -> int:
        """Return the number of tokens of a plain text. The counts of the last texts are remembered: those of a chat
        are needed again in each of its turns."""
        key = hash(text), len(text)
        if key not in self._text_tokens:
            if len(self._text_tokens) >= _REMEMBERED_COUNTS:
                self._text_tokens.clear()
            self._text_tokens[key] = self.backend.count_tokens(self.plain(text))
        return self._text_tokens[key]

    def reply(
        self,
        messages: str | MessageLike | Iterable[MessageLike],
        tools: Iterable[ToolLike] = (),
        sampling: Sampling | None = None,
        constraint: Constraint | None = None,
        cancellation: Cancellation | None = None,
        *,
        tool_choice: str | Mapping[str, Any] = "auto",
        answer: AnswerLike | None = None,
        strict: bool = False,
        template_variables: Mapping[str, Any] | None = None,
        **settings: Unpack[SamplingSettings],
    ) -> Cancellable[Event]:
        """Generate the events of one reply, the last a Finish. Tools are offered to the model, and not run.

        `messages` are dicts with role and content, or Messages; a text is one message of the user. `tools` are typed
        functions, Tools, or definitions in OpenAI's layout. `sampling` and the keywords override the checkpoint's own
        settings. `tool_choice`, `answer` and `strict` are those of Chat; a `constraint` combines them otherwise.
        `template_variables` are further variables of the checkpoint's chat template, as one trained for them reads:
        `documents`, `enable_thinking`.

        Closing the generator stops the engine within a token or two; its `cancel`, or that of `cancellation`, does so
        from any thread, within one step of the engine. Warns if the model's template leaves out a system message or a
        tool. Raises PromptTooLong, TemplateError, UnsupportedGrammar, BackendError; RequestError or ToolError for
        arguments that are not valid.

        Example:
            messages = [{"role": "user", "content": "Who are you?"}]
            reply = edge.Reply.from_events(model.reply(messages, max_new_tokens=50))
            messages.append(reply.to_message())
        """
        sampling = merge_settings(sampling, settings)
        messages, tools = to_messages(messages), to_definitions(tools)
        if constraint is None:
            constraint = Constraint.for_reply(tools, tool_choice, answer, strict=strict)
        prompt = self._render(messages, tools, template_variables)
        self._warn(messages, tools)
        free = constraint.answer is None  # an answer under a grammar may look like a call
        parser = ReplyParser(
            create_syntaxes(self.family, tools) if free or constraint.may_call else (),
            self.family.call_start,
            self._reasoning(prompt),
            nearby=create_nearby(self.family, tools) if free else None,
        )
        request = self._request(prompt, sampling, cancellation)
        return Cancellable(generate(self.backend, request, parser, constraint), request.cancellation)

    def prefill(
        self,
        messages: Iterable[MessageLike] = (),
        tools: Iterable[ToolLike] = (),
        cancellation: Cancellation | None = None,
    ) -> None:
        """Read the beginning that later prompts have in common, such as a system message and tools, so that the first
        reply need not wait for it. The first prompt of all takes longest: it prepares the weights.

        Raises what `reply` does.

        Example:
            model.prefill([{"role": "system", "content": "You are the guide of a museum."}])
        """
        sampling = Sampling(max_new_tokens=1)
        if self.family is BASE:
            events = self.complete("?", sampling, cancellation)
        else:
            events = self.reply([*messages, Message("user", "?")], tools, sampling, cancellation=cancellation)
        for _ in events:
            pass

    def _reasoning(self, prompt: Prompt) -> ReasoningMarks | None:
        """Return the marks of the reasoning in a reply, and whether this prompt opens it."""
        marks = self.family.reasoning
        return marks and replace(
            marks,
            prompted="".join(piece for piece in prompt[-1:] if isinstance(piece, str)).rstrip().endswith(marks.open),
        )

    def _request(self, prompt: Prompt, sampling: Sampling | None, cancellation: Cancellation | None) -> Request:
        return Request(
            prompt,
            self.stop_tokens,
            self.sampling.merge(sampling).resolve(),
            cancellation=cancellation or Cancellation(),
        )

    def plain(self, text: str) -> Prompt:
        """Return a text in pieces, so that special tokens spelled out in it are tokenized as text."""
        return self._plain.render([Message("user", text)])

    def completion_prompt(self, text: str, *, add_special_tokens: bool = True) -> Prompt:
        """Return the prompt by which `complete` continues a text: the text as `plain` returns it, after the special
        tokens with which the family's texts begin."""
        prefix = self.family.prefix if add_special_tokens else ""
        return (*((prefix,) if prefix else ()), *self.plain(text))

    @cached_property
    def _plain(self) -> ChatTemplate:
        return ChatTemplate("{{ messages[0].content }}", self.family, self._special_tokens)

    def complete(
        self,
        text: str | Sequence[int],
        sampling: Sampling | None = None,
        cancellation: Cancellation | None = None,
        *,
        answer: AnswerLike | None = None,
        add_special_tokens: bool = True,
        stop_token_ids: Sequence[int] = (),
        ignore_eos: bool = False,
        raw: bool = False,
        **settings: Unpack[SamplingSettings],
    ) -> Cancellable[Event]:
        """Continue a text, or token ids: the only use of a base model. `answer` constrains what follows.

        With `add_special_tokens` the family's prefix precedes a text; special tokens inside the text are plain text,
        among token ids they are what they are. A `raw` text is a whole prompt: special tokens spelled out in it are
        read as such, and nothing is put before it. The continuation ends at the model's stop tokens, unless it should
        `ignore_eos`, and at those of `stop_token_ids`. Otherwise like `reply`; raises UnsupportedSetting for token ids
        on an engine that takes text alone.
        """
        sampling = merge_settings(sampling, settings)
        constraint = Constraint(answer=to_grammar(answer))
        is_text = isinstance(text, str)
        for name, ids in (("prompt", () if is_text else text), ("stop_token_ids", stop_token_ids)):
            require_all(name, ids, int, "a list of token ids")
            if ids and not self.backend.reads_ids:
                raise UnsupportedSetting(
                    f"token ids are not supported as {name} on this device", hint="send text", setting=name
                )
        pieces: Prompt = ()
        prefix = self.family.prefix if is_text and add_special_tokens and not raw else ""
        if isinstance(text, str):
            plain = self.completion_prompt(text, add_special_tokens=add_special_tokens)
            pieces = (replace_surrogates(text),) if raw else plain
        request = replace(
            self._request(pieces, sampling, cancellation),
            stop_ids=tuple(stop_token_ids),
            prompt_ids=() if isinstance(text, str) else tuple(text),
        )
        if ignore_eos:
            request = replace(request, stop_tokens=())
        events = generate(self.backend, request, PlainText(), constraint)
        if prefix and request.sampling.prompt_logprobs:
            events = skip_prompt_tokens(events, self.backend.count_tokens((prefix,)))
        return Cancellable(events, request.cancellation)

    def _warn(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]]) -> None:
        name = self.source.manifest.source.name
        if not self.family.system and any(message.role == "system" for message in messages):
            warnings.warn(f"{name} has a system prompt of its own: yours is ignored", Notice, stacklevel=3)
        unseen = [tool["name"] for tool in tools if tool["name"] not in self.family.own_tools]
        if not self.family.tools and unseen:
            what = (
                f"supports only the tools {', '.join(self.family.own_tools)}"
                if self.family.own_tools
                else "supports no tools"
            )
            warnings.warn(f"{name} {what}: it will not see {', '.join(unseen)}", Notice, stacklevel=3)

    def close(self) -> None:
        """Free the engine's memory. The model cannot be used afterwards."""
        self.backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
