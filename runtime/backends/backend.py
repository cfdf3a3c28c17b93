"""The protocol that every engine implements. Nothing above this folder depends on which engine runs.

The smallest engine is in docs/contributing.md.
"""

from collections.abc import Callable, Collection, Generator, Mapping
from dataclasses import dataclass, field, fields
from typing import ClassVar, Literal, NamedTuple, Protocol, Self

from ..cancellation import Cancellation
from ..checkpoint.adapters.reference import AdapterReference, parse_adapters
from ..checks import require, require_integer, require_number
from ..errors import RequestError, UnsupportedGrammar, UnsupportedSetting
from ..events import Finish, PictureProgress, TokenLogprob
from ..grammar.grammar import Grammar, to_tree
from ..grammar.printers.ebnf import EngineGrammar
from ..grammar.rest import Rest
from ..progress import Progress
from ..prompt.template import Prompt
from ..sampling import SamplingParams
from ..source import ModelSource
from ..text import quoted

CORES = ("all", "performance")
_HANDLED_ABOVE = ("max_new_tokens", "stop")  # every engine limits tokens; stop strings are cut by `runtime.reply`


@dataclass(frozen=True, slots=True)
class Request:
    """A prompt to continue, and how.

    `prompt` is complete, special tokens spelled out; the engine adds none, and tokenizes each piece by itself.
    `stop_tokens` are names, whose ids the engine looks up; they end the reply and are not part of it. Under a `grammar`
    the reply ends, with "stop", where the grammar does. Once `cancellation` is cancelled the reply ends, with
    "cancelled", after the engine's current step. `generated` are ids of the reply so far, which is continued: they
    follow the prompt's. Only an engine that `reports_ids` is sent any. An application that tokenizes its prompts itself
    has `prompt_ids`, which precede those of `prompt`, and `stop_ids`, further stop tokens; only an engine that
    `reads_ids` is sent these.
    """

    prompt: Prompt
    stop_tokens: tuple[str, ...]
    sampling: SamplingParams = field(default_factory=SamplingParams)
    grammar: Grammar | Rest | EngineGrammar | None = None
    cancellation: Cancellation = field(default_factory=Cancellation, compare=False)
    generated: tuple[int, ...] = ()
    prompt_ids: tuple[int, ...] = ()
    stop_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Delta:
    """The text that `tokens` more tokens add: whole characters, perhaps none. Special tokens are spelled out.

    One without a token comes from an engine that is still busy: a place where it can be closed. Where the request asks
    for `logprobs`, each token of the text has a delta of its own, with its `logprob`.

    `ids` are those of the text's tokens, from an engine that `reports_ids`; they come with the token that completes the
    last character. An engine that `masks_wider` gives each token under a grammar a delta of its own, too, and none to a
    special token that it wrote for its text.

    Where the request asks for `prompt_logprobs`, the first deltas have further tokens of the prompt in `prompt`, and
    nothing else. While the engine reads a picture, deltas without tokens have its `progress`.
    """

    text: str
    tokens: int = 1
    logprob: TokenLogprob | None = None
    ids: tuple[int, ...] = ()
    prompt: tuple[TokenLogprob, ...] = ()
    progress: PictureProgress | None = None


@dataclass(frozen=True, slots=True)
class Options:
    """Settings with which an engine loads a model; None leaves the choice to the engine.

    `threads` is a number of CPU threads, `kv_precision` the KV cache's element type ("u8", "f16", "f32", …), and
    `precision` the type that it computes in ("bf16", "f16", "f32"). `activation_scale` divides activations in f16,
    which overflow in GLM-4 without it; the IR names 8. A CPU rounds activations that meet compressed weights to int8,
    in groups of `activation_group` values that share a scale; 0 disables that. `pinning` binds CPU threads to cores;
    `cores` are those that they run on, "all" or "performance". For what is not set, `tuned` takes what `edge bench
    FOLDER --tune` has found on this machine. Memory is planned for `context` tokens, of which `reply_tokens` are the
    reply's; an NPU supports no more. `cache` keeps the compiled model for the next load. `verify` checks a model folder
    against the hashes in its manifest first, the weights only if they changed. Compiled grammars stay in an engine's
    memory; once they take more than `grammar_memory` MB (512), its process is restarted between two requests.

    `adapters` are LoRA adapters, as the argument `adapter` of Chat: they act as long as the model is loaded.

    Prompt lookup drafts up to `lookup` tokens: those that followed the last few words where they occurred before, in
    the prompt or the reply. The model verifies them in one step, so replies stay the same. It pays if a reply quotes
    its prompt, and costs the next turn of a chat, which reads that reply again (docs/devices.md). Only OpenVINO
    supports it, and not on an NPU. "auto" drafts as many as have been accepted so far, where a step of several tokens
    is cheap: for an int4 or int8 model on a CPU with AVX512-VNNI whose replies are generated one at a time. `running`
    is how many replies are generated at once, if that is known; a chat that loads its own model has one.

    `int4_kernel` chooses who multiplies int4 matrices on a CPU: True for the kernel that `edge kernel` builds, False
    for OpenVINO. None takes the kernel where it is built and the model and the other options allow it.

    Raises RequestError for a value out of range or of the wrong type.

    Example:
        with edge.Chat("./glm4-int4", device="CPU", options=edge.Options(threads=2, context=2048)) as small:
            print(small.send("Who are you?"))
    """

    threads: int | None = None
    kv_precision: str | None = None
    precision: str | None = None
    activation_scale: float | None = None
    activation_group: int | None = None
    pinning: bool | None = None
    cores: str | None = None
    tuned: bool = True
    context: int | None = None
    reply_tokens: int | None = None
    lookup: int | Literal["auto"] = 0
    running: int | None = None
    int4_kernel: bool | None = None
    cache: bool = True
    grammar_memory: int | None = None
    verify: bool = True
    adapters: tuple[AdapterReference, ...] = ()

    def __post_init__(self) -> None:
        """Raises RequestError where a value is of another type or out of its range."""
        object.__setattr__(self, "adapters", parse_adapters(self.adapters))
        least = {
            "threads": 1,
            "activation_group": 0,
            "context": 1,
            "reply_tokens": 1,
            "grammar_memory": 1,
            "running": 1,
        }
        for name, smallest in least.items():
            if (value := getattr(self, name)) is not None:
                require_integer(name, value, smallest, 2**31 - 1)
        if self.lookup != "auto":
            require_integer("lookup", self.lookup, 0, 2**31 - 1)
        for name in ("kv_precision", "precision"):
            require(name, getattr(self, name), str | None, "the name of a type, such as f16")
        if self.activation_scale is not None:
            require_number("activation_scale", self.activation_scale)
            if self.activation_scale <= 0:
                raise RequestError(f"activation_scale is {self.activation_scale}", hint="it may be more than 0")
        for name in ("cache", "verify", "tuned"):
            require(name, getattr(self, name), bool, "True or False")
        require("int4_kernel", self.int4_kernel, bool | None, "True, False or None")
        require("pinning", self.pinning, bool | None, "True or False")
        if self.cores not in (None, *CORES):
            raise RequestError(f"cores is {quoted(str(self.cores))}", hint=f"it may be {' or '.join(CORES)}")


def require_supported(
    sampling: SamplingParams, supported: Collection[str], engine: str, reasons: Mapping[str, str] = {}
) -> None:
    """Raise UnsupportedSetting for a setting of `sampling` that asks for something and is not among those `supported`.

    `reasons` maps settings to the reason why the engine does not support them.
    """
    plain = SamplingParams()
    for setting in fields(SamplingParams):
        name = setting.name
        if name in supported or name in _HANDLED_ABOVE or getattr(sampling, name) == getattr(plain, name):
            continue
        why = f": {reasons[name]}" if name in reasons else ""
        raise UnsupportedSetting(
            f"{name} is not supported {engine}{why}", hint="leave it out, or choose another device", setting=name
        )


def require_prompt(ids: Collection[int]) -> None:
    """Raise RequestError for a prompt without a token."""
    if not ids:
        raise RequestError("the prompt is empty", hint="it needs at least one token")


def require_tree(grammar: Grammar) -> None:
    """Raise UnsupportedGrammar for a grammar that is not supported."""
    try:
        to_tree(grammar)
    except RequestError as exc:
        raise UnsupportedGrammar(str(exc), hint=exc.hint, grammar=grammar) from exc


class FoundDevice(NamedTuple):
    """A device by the name under which an engine loads a model onto it, and why it is the one that was meant. `kind` is
    CPU, GPU or NPU where OpenVINO's memory estimates apply to it, else ""."""

    name: str
    reason: str = "it was asked for"
    kind: str = ""


class Backend(Protocol):
    """An engine with a model loaded. Its errors are BackendError and the others of `runtime.errors`, nothing else.

    An engine inherits from this class, implements what has no body here, and stands in the table of `registry` or
    under the entry point group `edge.backends`.
    """

    runs_checkpoints: ClassVar[bool] = False  # it loads a checkpoint as it is, without a conversion
    reads_weights: ClassVar[bool] = True  # False: the weights are elsewhere, as on a server
    isolated: ClassVar[bool] = False  # it runs in a process of its own, so that damaged files cannot harm this one
    runs_adapters: ClassVar[bool] = False  # `load` applies the options' LoRA adapters
    reports_ids: ClassVar[bool] = False  # its deltas carry token ids, and it continues a reply from them
    reads_ids: ClassVar[bool] = False  # it reads a request's `prompt_ids` and `stop_ids`
    reads_pictures: ClassVar[bool] = False  # it takes prompts with pictures, if the model does
    keeps_prefixes: ClassVar[bool] = False  # it has what it read of several prompts, also of cancelled ones
    masks_wider: ClassVar[bool] = False  # its mask may allow more than a grammar does: `runtime.reply` checks the text

    max_prompt_tokens: int
    max_requests: int = 1  # replies generated at once; further requests wait for their turn

    @classmethod
    def devices(cls) -> tuple[str, ...]:
        """The devices that it can use on this machine; () if the engine is not installed."""
        ...

    @classmethod
    def find_device(cls, name: str) -> FoundDevice | None:
        """The device that a person means by `name`; None if that is not one of this engine's."""
        return FoundDevice(name.upper()) if name.upper() in cls.devices() else None

    @classmethod
    def require_installed(cls, device: str) -> None:
        """Raise DeviceError, with the command that installs them, if packages for `device` are missing."""
        return None

    @classmethod
    def accepts(cls, source: ModelSource) -> bool:
        """Return whether this engine runs sources of this kind. `load` may still reject one, with the reason."""
        return (source.checkpoint is not None) == cls.runs_checkpoints

    @classmethod
    def load(cls, source: ModelSource, device: str, options: Options) -> Self:
        """Load the model. Raises DeviceError, BackendError, or what opening the source's files raises."""
        ...

    @classmethod
    def load_with_progress(
        cls, source: ModelSource, device: str, options: Options, progress: Callable[[Progress], None]
    ) -> Self:
        """Load the model, and report the progress, if the engine can: four times a second, in the caller's thread. What
        `progress` raises ends the load, and is raised."""
        return cls.load(source, device, options)

    @property
    def alive(self) -> bool:
        """Whether the engine accepts requests. One that died does not come back; load the model again."""
        return True

    @property
    def responds(self) -> bool:
        """Whether the engine is alive and makes progress with its requests."""
        return self.alive

    def encode(self, prompt: Prompt) -> list[int]:
        """Tokenize a prompt, each piece by itself. The tokens of a picture have negative ids, which tell it from any
        other picture."""
        ...

    def count_tokens(self, prompt: Prompt) -> int:
        return len(self.encode(prompt))

    def kv_cache_bytes(self) -> int | None:
        """Bytes of the KV cache that requests use now; None if the engine does not tell."""
        return None

    def admit(self, grammar: Grammar, cancellation: Cancellation) -> None:
        """Check that `generate` will accept the grammar. Raises UnsupportedGrammar if it will not, or if compiling it
        would make other requests wait."""
        require_tree(grammar)

    def require_unconstrained(self, sampling: SamplingParams) -> None:
        """Check the settings of a reply that a grammar constrains, or may constrain later. Raises UnsupportedSetting
        for one that the engine supports without a grammar only."""
        return None

    def generate(self, request: Request) -> Generator[Delta | Finish, None, None]:
        """Generate a reply: its deltas, and at last a Finish whose reason is "stop", "length" or "cancelled".

        Closing the generator cancels within a token or two; so does `request.cancellation`, from any thread. Raises
        PromptTooLong, before anything is generated, for a prompt of more than `max_prompt_tokens`.
        """
        ...

    def close(self) -> None:
        """Free the model's memory. The engine cannot be used afterwards."""
        ...
