"""The fake engine that ships: scripted replies, for the tests of applications and our own."""

import time
from collections.abc import Generator, Sequence
from typing import Self

from ..cancellation import Cancellation
from ..errors import PromptTooLong
from ..events import Finish, TokenLogprob, Usage
from ..grammar.grammar import Grammar
from ..prompt.template import Prompt
from ..source import ModelSource
from .backend import Backend, Delta, Options, Request


class Echo(Backend):
    """An engine that replies with the texts of its script in turn, then with the length of the prompt.

    A token is a character, so streams come in the smallest pieces. `requests` records the requests.
    """

    max_requests = 16
    reads_ids = True
    reads_pictures = True

    def __init__(self, replies: Sequence[str] = (), *, max_prompt_tokens: int = 100_000) -> None:
        self.max_prompt_tokens = max_prompt_tokens
        self.requests: list[Request] = []
        self._replies = list(replies)

    @classmethod
    def devices(cls) -> tuple[str, ...]:
        return ("ECHO",)

    @classmethod
    def load(cls, source: ModelSource, device: str, options: Options) -> Self:
        return cls(max_prompt_tokens=source.manifest.context_length)

    @classmethod
    def accepts(cls, source: ModelSource) -> bool:
        return True

    def encode(self, prompt: Prompt) -> list[int]:
        """Return the code points of the prompt's text; a picture counts as one."""
        return list(map(ord, spelled(prompt)))

    def admit(self, grammar: Grammar, cancellation: Cancellation) -> None:
        pass

    def generate(self, request: Request) -> Generator[Delta | Finish, None, None]:
        prompt_tokens = len(request.prompt_ids) + self.count_tokens(request.prompt)
        if prompt_tokens > self.max_prompt_tokens:
            raise PromptTooLong(prompt_tokens, self.max_prompt_tokens)
        start = time.perf_counter()
        reply = self.reply_to(request, prompt_tokens)
        limit = request.sampling.max_new_tokens
        text = reply[:limit]
        if request.sampling.prompt_logprobs:
            yield Delta("", 0, prompt=tuple(map(_certain, (*request.prompt_ids, *self.encode(request.prompt)))))
        for count, char in enumerate(text):
            if request.cancellation.cancelled:
                yield Finish("cancelled", Usage(prompt_tokens, count, 0.0, time.perf_counter() - start))
                return
            yield Delta(char, 1, _certain(ord(char)) if request.sampling.logprobs else None)
        usage = Usage(prompt_tokens, len(text), 0.0, time.perf_counter() - start)
        yield Finish("stop" if text == reply else "length", usage)

    def reply_to(self, request: Request, prompt_tokens: int) -> str:
        """Return the whole text of the reply."""
        self.requests.append(request)
        return self._replies.pop(0) if self._replies else f"\nI was sent {prompt_tokens} characters."

    def close(self) -> None:
        pass


def spelled(prompt: Prompt) -> str:
    """Return the prompt's text, with U+FFFC in the place of a picture."""
    return "".join(piece if isinstance(piece, str) else "\ufffc" for piece in prompt)


def _certain(token: int) -> TokenLogprob:
    """Return a token, a code point, that the model was certain of."""
    return TokenLogprob(chr(token).encode(errors="replace"), 0.0, token)
