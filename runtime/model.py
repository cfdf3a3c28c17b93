"""A loaded model: messages in, the events of one reply out. It calls no tools and keeps no history."""

import os
import time
import warnings
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, closing
from functools import cached_property
from types import TracebackType
from typing import Any, Self

from .backends.backend import Backend, Options, Request
from .backends.openvino.batched import OpenVINO
from .backends.openvino.subprocess import SubprocessBackend
from .backends.remote import Remote
from .cancellation import Cancellable, Cancellation
from .checkpoint.checkpoint import Folder, open_folder
from .checks import require, require_all
from .device.choose import DeviceChoice, choose
from .errors import BackendError, Notice
from .folder.integrity import verify_while_loading
from .folder.model_folder import ModelFolder
from .messages import Finish, Logprobs, Message, Text, Usage
from .prompt import families
from .prompt.families.layout import find_text_tools
from .prompt.template import ChatTemplate, Prompt
from .reply.generation import Constraint, StopTexts, generate, with_logprobs
from .reply.logprob_aligner import LogprobAligner
from .reply.parsing import Part, ReplyParser
from .sampling import Sampling
from .system.out_of_memory import map_out_of_memory


class Model:
    """A loaded model. Several threads and chats may share it.

    `device` is "auto", a device's name, or a server's URL; `choice` then says what was taken, and why. Where it cannot
    load the folder, those of `fallback` are tried in their order, each with a Notice that says why. OpenVINO's engine
    works in a process of its own: it would keep all threads of this one standing while it takes a step, unless
    `in_process` asks for that. A `backend` that is loaded already is taken as it is. Raises ModelFolderError,
    CheckpointError, DeviceError or BackendError.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str] | Folder,
        *,
        device: str = "auto",
        fallback: Sequence[str] = (),
        options: Options = Options(),
        in_process: bool = False,
        backend: Backend | None = None,
    ) -> None:
        require("the model folder", folder, str | os.PathLike | Folder, "a path")
        require("device", device, str, "a device's name")
        require_all("fallback", fallback, str, "a list of devices' names")
        require("options", options, Options, "an Options, such as edge.Options(threads=4)")
        self.folder = folder if isinstance(folder, Folder) else open_folder(folder)
        self.family = families.get(self.folder.manifest.family)
        self.sampling = self.folder.sampling()
        self._special_tokens = self.folder.manifest.special_tokens
        self.choice: DeviceChoice | None = None
        self._in_process = in_process
        self.backend = backend or self._load((device, *fallback), options)

    def _load(self, devices: Sequence[str], options: Options) -> Backend:
        *first, last = devices
        for device, following in zip(first, devices[1:], strict=True):
            try:
                return self._load_onto(device, options)
            except BackendError as exc:
                warnings.warn(f"{device} cannot be used: {exc}. {following} is tried instead", Notice, stacklevel=4)
        return self._load_onto(last, options)

    @map_out_of_memory(BackendError)
    def _load_onto(self, device: str, options: Options) -> Backend:
        self.choice = choose(device, self.folder, options)
        backend = self.choice.backend
        if backend is OpenVINO and not self._in_process:
            backend = SubprocessBackend
        if not options.verify or not isinstance(self.folder, ModelFolder):
            return backend.load(self.folder, self.choice.device, options)
        with ExitStack() as undo:
            # A server's model has weights of its own. In this process damaged ones must not be loaded at all.
            with verify_while_loading(
                self.folder, weights=backend is not Remote, concurrently=backend is SubprocessBackend
            ):
                loaded = backend.load(self.folder, self.choice.device, options)
                undo.callback(loaded.close)
            undo.pop_all()
        return loaded

    @cached_property
    def template(self) -> ChatTemplate:
        """The chat template, compiled. Raises ModelFolderError for a base model, TemplateError for a bad template."""
        return ChatTemplate(self.folder.chat_template(), self.family, self._special_tokens)

    def prompt(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = ()) -> Prompt:
        """The prompt of the next reply. Raises TemplateError where the template refuses the messages."""
        return self.template.render(messages, tools)

    def count_tokens(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = ()) -> int:
        """How many tokens that prompt has."""
        return self.backend.count_tokens(self.prompt(messages, tools))

    def reply(
        self,
        messages: Sequence[Message],
        tools: Sequence[Mapping[str, Any]] = (),
        sampling: Sampling | None = None,
        constraint: Constraint = Constraint(),
        cancellation: Cancellation | None = None,
    ) -> Cancellable[Part | Logprobs | Finish]:
        """The events of one reply, the last a Finish. `tools` are JSON: name, description, parameters (a JSON schema),
        and for a built-in tool its `type`.

        Closing the generator stops the engine within a token or two; its `cancel`, or that of `cancellation`, does it
        from any thread, within one step of the engine. Raises PromptTooLong, TemplateError, BackendError.
        Warns where the model's template leaves out a system message or a tool.
        """
        require("sampling", sampling, Sampling | None, "a Sampling, such as edge.Sampling(temperature=0.7)")
        self._warn(messages, tools)
        names = self.family.own_tools or [tool["name"] for tool in tools]
        said_before = sum(len(message.tool_calls) for message in messages)
        parser = ReplyParser(
            names,
            self.family.call_start,
            self.family.reasoning,
            first_call=said_before + 1,
            written=find_text_tools(tools, self.family.built_in),
        )
        request = self._request(self.prompt(messages, tools), sampling, cancellation)
        return Cancellable(generate(self.backend, request, parser, constraint), request.cancellation)

    def _request(self, prompt: Prompt, sampling: Sampling | None, cancellation: Cancellation | None) -> Request:
        return Request(
            prompt,
            self.family.stop_tokens,
            sampling or self.sampling,
            cancellation=cancellation or Cancellation(),
        )

    def plain(self, text: str) -> Prompt:
        """A text in pieces, so that special tokens spelled in it are text."""
        return self._plain.render([Message("user", text)])

    @cached_property
    def _plain(self) -> ChatTemplate:
        return ChatTemplate("{{ messages[0].content }}", self.family, self._special_tokens)

    def complete(
        self, text: str, sampling: Sampling | None = None, cancellation: Cancellation | None = None
    ) -> Cancellable[Text | Logprobs | Finish]:
        """How a text goes on: the only use of a base model. Otherwise as `reply`."""
        require("sampling", sampling, Sampling | None, "a Sampling, such as edge.Sampling(temperature=0.7)")
        prompt = (*((self.family.prefix,) if self.family.prefix else ()), *self.plain(text))
        request = self._request(prompt, sampling, cancellation)
        return Cancellable(self._complete(request), request.cancellation)

    def _complete(self, request: Request) -> Generator[Text | Logprobs | Finish, None, None]:
        stop, tokens = StopTexts(request.sampling.stop), LogprobAligner()
        start, ttft, written = time.perf_counter(), 0.0, 0
        with closing(self.backend.generate(request)) as generation:
            for part in generation:
                if isinstance(part, Finish):
                    yield from with_logprobs(stop.finish(), tokens)
                    yield part
                    return
                tokens.add(len(part.text), part.written)
                tokens.emit(len(part.text), 0)
                written += part.tokens
                if part.tokens and not ttft:
                    ttft = time.perf_counter() - start
                yield from with_logprobs(stop.feed(part.text), tokens)
                if stop.found:
                    break
        seconds = time.perf_counter() - start
        yield Finish("stop", Usage(self.backend.count_tokens(request.prompt), written, ttft, seconds))

    def _warn(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]]) -> None:
        name = self.folder.manifest.source.name
        if not self.family.system and any(message.role == "system" for message in messages):
            warnings.warn(f"{name} has a system prompt of its own: yours is ignored", Notice, stacklevel=3)
        unseen = [tool["name"] for tool in tools if tool["name"] not in self.family.own_tools]
        if not self.family.tools and unseen:
            what = (
                f"knows only the tools {', '.join(self.family.own_tools)}"
                if self.family.own_tools
                else "knows no tools"
            )
            warnings.warn(f"{name} {what}: it will not see {', '.join(unseen)}", Notice, stacklevel=3)

    def close(self) -> None:
        """Frees the engine's memory; the model cannot be used any more."""
        self.backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
