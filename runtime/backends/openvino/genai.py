"""Shared parts of the engines on OpenVINO GenAI: loading, tokenizing, sampling settings, grammars, errors."""

import re
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from secrets import randbits
from threading import Lock
from typing import Any, TypeVar

from ...cancellation import Cancellation
from ...docstrings import require_docstrings
from ...errors import BackendError, DeviceError, EdgeError, PromptTooLong, RequestError, UnsupportedGrammar
from ...folder.compile_cache import caching
from ...folder.ir_files import DECODER
from ...folder.model_folder import ModelFolder
from ...grammar.grammar import Grammar
from ...grammar.printers.ebnf import EngineGrammar
from ...pictures import Picture
from ...prompt.template import Prompt, require_text
from ...source import ModelSource
from ...system.files import read_model_properties
from ...system.native_effects import disable_alternate_signal_stack, set_mmap_threshold
from ...system.out_of_memory import HINT, MESSAGE, is_out_of_memory, map_out_of_memory, require_addresses
from ...text import one_line, quoted
from ...vocabulary import TextDecoder, Vocabulary
from ..backend import Backend, FoundDevice, Options, Request, require_prompt, require_supported
from .grammar.admission import GrammarAdmission
from .text_slices import split_batches

T = TypeVar("T")
_COUNTED = 4  # times the context to which a prompt's tokens are counted, for the error that tells them


class GenAIBackend(Backend):
    """A loaded pipeline. A prompt may have `prompt_tokens` tokens; together with the reply, at most `room`.

    The pipeline's own tokenizer encodes prompts; ours decodes replies.
    """

    reports_ids = True
    masks_wider = True
    reads_ids = True

    def __init__(self, pipeline: Any, folder: ModelFolder, prompt_tokens: int, room: int) -> None:
        self.max_prompt_tokens = prompt_tokens
        self._room = room
        self.pipeline = pipeline
        self._tokenizer: Any = pipeline.get_tokenizer()
        self._encoding = Lock()
        self._vocabulary = Vocabulary.read(folder.path / "tokenizer.json")
        self._longest_token = self._vocabulary.longest
        self.admission = GrammarAdmission(folder)
        self._special_tokens = folder.manifest.special_tokens
        self.special_ids = frozenset(self._special_tokens.values())
        self.encode(("a",))  # the first call from several threads at once can wait for ever
        disable_alternate_signal_stack()

    @classmethod
    def find_device(cls, name: str) -> FoundDevice | None:
        wanted = name.upper()
        return FoundDevice(wanted, kind=wanted.partition(".")[0]) if wanted in cls.devices() else None

    def encode(self, prompt: Prompt) -> list[int]:
        return run_to_end(self.encode_slices(prompt))

    def encode_slices(self, prompt: Prompt, limit: int | None = None) -> Generator[None, None, list[int]]:
        """Tokenize a prompt; the generator's value is the ids. It yields after each slice of text, which takes some
        milliseconds.

        Raises PromptTooLong as soon as it is certain that there are more than `limit` tokens: at once if the text has
        more bytes than that many tokens can have, else when a multiple of them was counted.
        """
        if (
            limit is not None
            and (size := sum(_nbytes(piece) for piece in prompt if isinstance(piece, str)))
            > limit * self._longest_token
        ):
            raise PromptTooLong((size - 1) // self._longest_token, limit, cut=True)
        ids: list[int] = []
        for pieces in _split_at_pictures(prompt):
            if isinstance(pieces, Picture):
                ids += self.picture_ids(pieces)
                continue
            for batch in split_batches(pieces):
                ids += self._encode(batch)
                if limit is not None and len(ids) > _COUNTED * limit:
                    raise PromptTooLong(len(ids) - 1, limit, cut=True)
                yield
        if limit is not None and len(ids) > limit:
            raise PromptTooLong(len(ids), limit)
        return ids

    def picture_ids(self, picture: Picture) -> list[int]:
        """Return the ids of a picture's tokens. Raises RequestError for a model that reads no pictures."""
        require_text((picture,))
        raise AssertionError("unreachable")

    def _encode(self, texts: list[str]) -> list[int]:
        """Return the token ids of the texts, concatenated. GenAI's tokenizer is not thread-safe."""
        with self._encoding:
            if self._tokenizer is None:
                raise closed_error()
            try:
                found = self._tokenizer.encode(texts, add_special_tokens=False)
                ids: list[int] = found.input_ids.data[found.attention_mask.data.astype(bool)].tolist()  # row by row
            except RuntimeError as exc:
                raise BackendError(
                    f"the prompt cannot be tokenised: {error_line(exc)}", hint="change its text"
                ) from exc
        return ids

    def prepare_request(self, request: Request, ids: list[int] | None = None) -> tuple[list[int], set[int], Any]:
        """Return what `prepare_ids` does, and GenAI's settings for the request."""
        ids, stops = self.prepare_ids(request, ids)
        return ids, stops, self.generation_config(request, stops, len(ids))

    def prepare_ids(self, request: Request, ids: list[int] | None = None) -> tuple[list[int], set[int]]:
        """Return the ids of the prompt (`ids` for those of its text, if they are known) and of the reply so far, and
        the ids that stop the reply. Raises PromptTooLong, RequestError for an unknown id, and BackendError if the model
        was closed."""
        if self.pipeline is None:
            raise closed_error()
        if ids is None:
            ids = run_to_end(self.encode_slices(request.prompt, self.max_prompt_tokens))
        biased = [id for id, _ in request.sampling.logit_bias]
        self._vocabulary.require_known((*request.prompt_ids, *request.stop_ids, *biased))
        ids = [*request.prompt_ids, *ids, *request.generated]
        if len(ids) > self.max_prompt_tokens:
            raise PromptTooLong(len(ids), self.max_prompt_tokens)
        require_prompt(ids)
        stops = {self._special_tokens[name] for name in request.stop_tokens if name in self._special_tokens}
        return ids, stops | set(request.stop_ids)

    def generation_config(self, request: Request, stops: set[int], read: int) -> Any:
        """Return GenAI's settings for a request with `read` tokens in the context."""
        return generation_config(request, stops, self._room - read)

    def admit(self, grammar: Grammar, cancellation: Cancellation) -> None:
        self.admission.admit(grammar, cancellation)

    def with_admitted_grammar(self, request: Request) -> Request:
        """Return the request with its grammar in the engine's form. Raises UnsupportedGrammar."""
        if request.grammar is None or isinstance(request.grammar, EngineGrammar):
            return request
        found = self.admission.admit(request.grammar, request.cancellation)
        return replace(request, grammar=None if found is None else found.grammar)  # None: it was cancelled

    def decoder(self) -> TextDecoder:
        return self._vocabulary.decoder()

    def close(self) -> None:
        self.admission.close()
        self.pipeline = self._tokenizer = None


def _split_at_pictures(prompt: Prompt) -> Iterator[Picture | list[str]]:
    """Yield the pictures of a prompt, and the texts between two of them."""
    texts: list[str] = []
    for piece in prompt:
        if isinstance(piece, str):
            texts.append(piece)
            continue
        yield texts
        yield piece
        texts = []
    yield texts


def run_to_end(steps: Generator[None, None, T]) -> T:
    """Run the generator to its end and return its value."""
    while True:
        try:
            next(steps)
        except StopIteration as exc:
            value: T = exc.value
            return value


def closed_error() -> BackendError:
    """Return the error of a request to a model that was closed."""
    return BackendError("the model was closed", hint="load it again")


def find_devices(*kinds: str) -> tuple[str, ...]:
    """Return OpenVINO's devices of these kinds, such as "GPU"; () if OpenVINO or GenAI is not installed."""
    try:
        import openvino
        import openvino_genai  # noqa: F401
    except ImportError as exc:
        if is_out_of_memory(exc):
            raise
        return ()
    require_addresses()
    return tuple(name for name in openvino.Core().available_devices if name.startswith(kinds))


@contextmanager
def load_properties(
    folder: ModelFolder, device: str, options: Options, cure: str, name: str = DECODER
) -> Iterator[dict[str, Any]]:
    """Yield the properties with which to load a pipeline, or the IR of this `name`. Raises BackendError, with `cure` as
    its hint, if loading fails."""
    require_docstrings(BackendError)
    set_mmap_threshold()
    try:
        with map_out_of_memory(BackendError), compiled_cache(folder, device, options) as place:
            yield properties(options, device) | place | read_model_properties(folder.path / f"{name}.bin")
    except RuntimeError as exc:
        raise BackendError(f"OpenVINO cannot load {folder.path}: {error_line(exc)}", hint=cure) from exc


def require_model_folder(source: ModelSource, device: str, found: tuple[str, ...]) -> ModelFolder:
    """Return the model folder. Raises DeviceError if the device is not among those found, BackendError if the source is
    a checkpoint: OpenVINO runs converted models only."""
    if device not in found:
        raise DeviceError(
            f"OpenVINO finds no device {device} here",
            hint=f"it finds {', '.join(found) or 'none at all'}; `edge doctor` says what is missing",
        )
    if source.model_folder is None:
        raise BackendError(
            f"{source.path} is a checkpoint, which OpenVINO cannot run as it is",
            hint=f"`edge convert {source.path} FOLDER` converts it; or run it with --device torch",
        )
    return source.model_folder


# The CPU plugin's own choice is 32. With 128, sums are scaled a quarter as often, on CPUs that have VNNI; on others it
# does not round at all. What that is worth stands in docs/measured.md.
_ACTIVATION_GROUP = 128
_PRECISIONS = ("bf16", "f16", "f32")
_CORE_TYPES = {"all": "ANY_CORE", "performance": "PCORE_ONLY"}
_KV_PRECISIONS = ("u4", "i4", "u8", "i8", *_PRECISIONS)


def properties(options: Options, device: str) -> dict[str, Any]:
    """Translate options to OpenVINO properties. Raises RequestError for a precision that OpenVINO does not have."""
    for name, known in (("precision", _PRECISIONS), ("kv_precision", _KV_PRECISIONS)):
        if (value := getattr(options, name)) not in (None, *known):
            raise RequestError(f"{name} is {quoted(value)}", hint=f"it may be {', '.join(known)}")
    group = _ACTIVATION_GROUP if options.activation_group is None and device == "CPU" else options.activation_group
    named = {
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": group,
        "INFERENCE_NUM_THREADS": options.threads,
        "KV_CACHE_PRECISION": options.kv_precision,
        "INFERENCE_PRECISION_HINT": options.precision,
        "ACTIVATIONS_SCALE_FACTOR": options.activation_scale,
        "ENABLE_CPU_PINNING": options.pinning,
        "SCHEDULING_CORE_TYPE": options.cores and _CORE_TYPES[options.cores],
    }
    return {name: value for name, value in named.items() if value is not None}


@contextmanager
def compiled_cache(folder: ModelFolder, device: str, options: Options) -> Iterator[dict[str, str]]:
    """Yield the properties that name the folder of compiled models. Its name distinguishes drivers and CPUs.

    Not for the CPU: a compiled model would be a second copy of the weights, and loading it saves nothing. Not with
    adapters, which would be part of it.
    """
    import openvino

    if not options.cache or options.adapters or device == "CPU":
        yield {}
        return
    core = openvino.Core()
    plugin = "CPU" if device.startswith("NPUW") else device
    known = core.get_property(plugin, "SUPPORTED_PROPERTIES")
    names = ("FULL_DEVICE_NAME", "GPU_DRIVER_VERSION", "NPU_DRIVER_VERSION")
    driver = " ".join(str(core.get_property(plugin, name)) for name in names if name in known)
    with caching(folder, device, driver) as place:
        yield place


def map_error(exc: RuntimeError, request: Request, *, begun: bool = False) -> EdgeError:
    """Translate an error that GenAI raised while generating. Until a reply has `begun`, the step that failed was to
    compile its grammar, if it has one."""
    if is_out_of_memory(exc):
        return BackendError(MESSAGE, hint=HINT)
    if request.grammar is not None and not begun:
        return UnsupportedGrammar(f"unsupported grammar: {error_line(exc)}", hint="simplify it")
    return BackendError(f"OpenVINO failed: {error_line(exc)}", hint="close the chat and load the model again")


SUPPORTED = frozenset(
    {"temperature", "top_p", "top_k", "min_p", "repetition_penalty", "seed", "presence_penalty", "logprobs"}
)
_UNSUPPORTED = {
    "frequency_penalty": "GenAI would raise negative logits, so that words repeat",
    "top_logprobs": "GenAI reports the chosen token alone",
    "prompt_logprobs": "GenAI reports the reply's tokens alone",
}


def generation_config(request: Request, stops: set[int], room: int) -> Any:
    """Return GenAI's settings for a request, with `room` tokens left for the reply."""
    import openvino_genai as genai

    sampling = request.sampling
    require_supported(sampling, SUPPORTED, "on OpenVINO", _UNSUPPORTED)
    config = genai.GenerationConfig()
    config.max_new_tokens = min(sampling.max_new_tokens or room, room)
    config.stop_token_ids = stops
    config.ignore_eos = not stops  # or the engine puts its own stop in
    config.repetition_penalty = sampling.repetition_penalty
    # Of a logit below nothing GenAI takes it away by adding it. Two of them are no matter: what is likely is far above.
    config.presence_penalty = sampling.presence_penalty
    config.logprobs = int(sampling.logprobs)
    config.apply_chat_template = False
    if not sampling.greedy:
        config.do_sample = True
        config.temperature = sampling.temperature
        config.top_p = sampling.top_p
        config.min_p = sampling.min_p
        if sampling.top_k:
            config.top_k = sampling.top_k
        config.rng_seed = randbits(31) if sampling.seed is None else sampling.seed
    if request.grammar is not None:
        assert isinstance(request.grammar, EngineGrammar), "it was not admitted"
        config.structured_output_config = genai.StructuredOutputConfig(grammar=request.grammar.text)
    return config


def _nbytes(text: str) -> int:
    return len(text.encode(errors="surrogatepass"))


def error_line(exc: Exception) -> str:
    """Return the last non-empty line of the error, without the source position that OpenVINO puts before it."""
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
    return one_line(re.sub(r"^\[[\d:]+\] \S+:\d+: ", "", lines[-1])) if lines else type(exc).__name__
