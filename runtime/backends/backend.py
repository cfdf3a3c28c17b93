"""The seam: everything an engine must do. Nothing above this folder knows which engine runs."""

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Protocol, Self

from ..cancellation import Cancellation
from ..checkpoint.checkpoint import Folder
from ..checks import require, require_integer, require_number
from ..errors import RequestError, UnsupportedGrammar, UnsupportedSetting
from ..grammar import Grammar, JsonSchema
from ..messages import Finish, TokenLogprob
from ..prompt.template import Prompt
from ..sampling import Sampling


@dataclass(frozen=True, slots=True)
class Request:
    """`prompt` is complete, special tokens spelled out; the engine adds none, and tokenises each piece by itself.

    `stop_tokens` are names; the engine looks up their ids. They end the reply and are not part of it.
    Under a `grammar` the reply ends, with "stop", where the grammar does. Once its `cancellation` is cancelled it ends,
    with "cancelled", after the step that the engine is in.
    """

    prompt: Prompt
    stop_tokens: tuple[str, ...]
    sampling: Sampling = field(default_factory=Sampling)
    grammar: Grammar | None = None
    cancellation: Cancellation = field(default_factory=Cancellation, compare=False)


@dataclass(frozen=True, slots=True)
class Delta:
    """What `tokens` more tokens add to the text: whole characters, perhaps none. Special tokens are spelled out.

    One without a token comes from an engine that is still busy: a place where it can be closed. Where the request asks
    for `logprobs`, each token of the text has a delta of its own, and is its `written`.
    """

    text: str
    tokens: int = 1
    logprob: TokenLogprob | None = None


@dataclass(frozen=True, slots=True)
class Options:
    """How an engine is loaded; None leaves the choice to it.

    `threads` is a number of CPU threads, `kv_precision` the KV cache's element type ("u8", "f16", "f32", …), and
    `precision` the type that it computes in ("bf16", "f16", "f32"). `activation_scale` divides activations in f16,
    which overflow in GLM-4 without it; the IR names 8. A CPU rounds activations that meet compressed weights to int8,
    in groups of `activation_group` values that share a scale; 0 forbids it. There has to be room for `context` tokens,
    of which `reply_tokens` are the reply's: an NPU takes no more. `cache` keeps the compiled model for the next load.
    `verify` holds a model folder against its manifest's hashes first, the weights only where they have changed.
    Grammars stay in an engine's memory; where they take more than `grammar_memory` MB (512), its process is started
    again between two requests.

    Prompt lookup guesses up to `lookup` tokens ahead: what followed the last few words where they stood before, in the
    prompt or the reply. The model reads them in one step and keeps those that it would have written, so replies stay
    the same. It pays where a reply quotes its prompt. OpenVINO alone has it, and not on an NPU.
    """

    threads: int | None = None
    kv_precision: str | None = None
    precision: str | None = None
    activation_scale: float | None = None
    activation_group: int | None = None
    context: int | None = None
    reply_tokens: int | None = None
    lookup: int = 0
    cache: bool = True
    grammar_memory: int | None = None
    verify: bool = True

    def __post_init__(self) -> None:
        """Raises RequestError where a value is of another type or out of its range."""
        least = {"threads": 1, "activation_group": 0, "context": 1, "reply_tokens": 1, "grammar_memory": 1}
        for name, smallest in least.items():
            if (value := getattr(self, name)) is not None:
                require_integer(name, value, smallest, 2**31 - 1)
        require_integer("lookup", self.lookup, 0, 2**31 - 1)
        for name in ("kv_precision", "precision"):
            require(name, getattr(self, name), str | None, "the name of a type, such as f16")
        if self.activation_scale is not None:
            require_number("activation_scale", self.activation_scale)
            if self.activation_scale <= 0:
                raise RequestError(f"activation_scale is {self.activation_scale}", hint="it may be more than 0")
        for name in ("cache", "verify"):
            require(name, getattr(self, name), bool, "True or False")


def refuse(sampling: Sampling, why: str, *names: str) -> None:
    """Raises UnsupportedSetting where one of these settings of Sampling is asked for."""
    for name in names:
        if getattr(sampling, name):
            raise UnsupportedSetting(
                f"{name} is not held: {why}", hint="leave it out, or choose another device", setting=name
            )


def check_pattern(grammar: Grammar) -> None:
    """Raises UnsupportedGrammar where a schema has no pattern."""
    if isinstance(grammar, JsonSchema):
        try:
            grammar.pattern()
        except RequestError as exc:
            raise UnsupportedGrammar(str(exc), hint=exc.hint, grammar=grammar) from exc


class Backend(Protocol):
    """An engine with a model loaded. Engine errors come out as BackendError, nothing else.

    `generate` yields the deltas and at last a Finish whose reason is "stop", "length" or "cancelled"; closing it
    cancels within a token or two. A prompt of more than `max_prompt_tokens` raises PromptTooLong before anything is
    generated.
    """

    max_prompt_tokens: int

    @classmethod
    def devices(cls) -> tuple[str, ...]:
        """What it can run on here; () where the engine is not installed."""
        ...

    @classmethod
    def load(cls, folder: Folder, device: str, options: Options) -> Self: ...

    def count_tokens(self, prompt: Prompt) -> int: ...

    def admit(self, grammar: Grammar, cancellation: Cancellation) -> None:
        """Make sure that `generate` takes the grammar. Raises UnsupportedGrammar where it does not, or where it would
        take so long that others had to wait."""
        ...

    def generate(self, request: Request) -> Generator[Delta | Finish, None, None]: ...

    def close(self) -> None: ...
