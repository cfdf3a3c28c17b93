"""The fake that ships: no engine, scripted replies. Applications test their own code with it, and so do we."""

import time
from collections.abc import Generator, Sequence
from typing import Self

from ..cancellation import Cancellation
from ..checkpoint.checkpoint import Folder
from ..errors import PromptTooLong
from ..grammar import Grammar
from ..messages import Finish, TokenLogprob, Usage
from ..prompt.template import Prompt
from .backend import Delta, Options, Request


class Echo:
    """Gives the replies of its script in turn, and when none is left, says how long the prompt was.

    A token is a character, so every stream is as finely cut as can be. `requests` holds what was asked.
    """

    def __init__(self, replies: Sequence[str] = (), *, max_prompt_tokens: int = 100_000) -> None:
        self.max_prompt_tokens = max_prompt_tokens
        self.requests: list[Request] = []
        self._replies = list(replies)

    @classmethod
    def devices(cls) -> tuple[str, ...]:
        return ("ECHO",)

    @classmethod
    def load(cls, folder: Folder, device: str, options: Options) -> Self:
        return cls(max_prompt_tokens=folder.manifest.context_length)

    def count_tokens(self, prompt: Prompt) -> int:
        return sum(map(len, prompt))

    def admit(self, grammar: Grammar, cancellation: Cancellation) -> None:
        pass

    def generate(self, request: Request) -> Generator[Delta | Finish, None, None]:
        prompt_tokens = self.count_tokens(request.prompt)
        if prompt_tokens > self.max_prompt_tokens:
            raise PromptTooLong(prompt_tokens, self.max_prompt_tokens)
        self.requests.append(request)
        start = time.perf_counter()
        reply = self._replies.pop(0) if self._replies else f"\nI was sent {prompt_tokens} characters."
        limit = request.sampling.max_new_tokens
        said = reply[:limit]
        for written, char in enumerate(said):
            if request.cancellation.cancelled:
                yield Finish("cancelled", Usage(prompt_tokens, written, 0.0, time.perf_counter() - start))
                return
            yield Delta(char, 1, TokenLogprob(char.encode(), 0.0) if request.sampling.logprobs else None)
        usage = Usage(prompt_tokens, len(said), 0.0, time.perf_counter() - start)
        yield Finish("stop" if said == reply else "length", usage)

    def close(self) -> None:
        pass
