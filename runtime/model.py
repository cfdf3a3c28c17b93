"""A model folder on an engine: messages in, the events of one reply out. It calls no tools and keeps no history."""

import os
from collections.abc import Generator, Mapping, Sequence
from functools import cached_property
from types import TracebackType
from typing import Any, Self

from . import families
from .backends.backend import Backend, Delta, Options, Request
from .devices import choose
from .messages import Finish, Message, Text, ToolCall
from .model_folder import ModelFolder
from .parsing import ReplyParser
from .sampling import Sampling
from .template import Prompt, Template


class Model:
    """A loaded model. Several threads and chats may share it.

    `device` is "auto" or a device's name. A `backend` that is loaded already is taken as it is.
    Raises ModelFolderError, DeviceError or BackendError.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str] | ModelFolder,
        *,
        device: str = "auto",
        options: Options = Options(),
        backend: Backend | None = None,
    ) -> None:
        self.folder = folder if isinstance(folder, ModelFolder) else ModelFolder.open(folder)
        self.family = families.named(self.folder.manifest.family)
        self.sampling = self.folder.sampling()
        if backend is None:
            choice = choose(device)
            backend = choice.backend.load(self.folder, choice.device, options)
        self.backend = backend

    @cached_property
    def template(self) -> Template:
        """The chat template, compiled. Raises ModelFolderError for a base model, TemplateError for a bad template."""
        return Template(self.folder.chat_template(), self.family, self.folder.manifest.special_tokens)

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
    ) -> Generator[Text | ToolCall | Finish, None, None]:
        """The events of one reply, the last a Finish. `tools` are JSON: name, description, parameters (a JSON schema).

        Closing the generator stops the engine within a token or two. Raises PromptTooLong, TemplateError, BackendError.
        """
        request = Request(self.prompt(messages, tools), self.family.stop_tokens, sampling or self.sampling)
        said_before = sum(len(message.tool_calls) for message in messages)
        parser = ReplyParser([tool["name"] for tool in tools], self.family.call_start, first_call=said_before + 1)
        generation = self.backend.generate(request)
        try:
            for part in generation:
                if isinstance(part, Delta):
                    yield from parser.feed(part.text)
                else:
                    yield from parser.finish()
                    yield part
        finally:
            generation.close()

    def close(self) -> None:
        """Frees the engine's memory; the model cannot be used any more."""
        self.backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
