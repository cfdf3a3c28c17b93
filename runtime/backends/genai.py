"""What the backends on OpenVINO GenAI share: token ids, sampling, grammars, and the errors in a line."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from secrets import randbits
from typing import Any

from ..checkpoint_folder import Folder
from ..compiled import cached
from ..errors import BackendError, DeviceError, EdgeError, PromptTooLong, RequestError
from ..grammar import JSON_OBJECT, JSON_STRING, Choice, Grammar, JsonObject, JsonSchema, Regex
from ..model_folder import ModelFolder
from ..template import Prompt
from ..vocabulary import TextDecoder, Vocabulary
from .backend import Options, Request, refuse


class Tokens:
    """A prompt becomes token ids with the pipeline's own tokenizer, and the reply's ids become text with ours."""

    def __init__(self, tokenizer: Any, folder: ModelFolder) -> None:
        self._tokenizer = tokenizer
        self._vocabulary = Vocabulary.read(folder.path / "tokenizer.json")
        self._special_tokens = folder.manifest.special_tokens

    def encode(self, prompt: Prompt) -> list[int]:
        ids: list[int] = []
        for piece in prompt:
            ids += self._tokenizer.encode(piece, add_special_tokens=False).input_ids.data[0].tolist()
        return ids

    def within(self, prompt: Prompt, limit: int) -> list[int]:
        """The ids. Raises PromptTooLong where they are more."""
        ids = self.encode(prompt)
        if len(ids) > limit:
            raise PromptTooLong(len(ids), limit)
        return ids

    def stop_ids(self, request: Request) -> set[int]:
        return {self._special_tokens[name] for name in request.stop_tokens if name in self._special_tokens}

    def decoder(self) -> TextDecoder:
        return self._vocabulary.decoder()


def refuse_missing(device: str, found: tuple[str, ...]) -> None:
    """Raises DeviceError where the device is not among those."""
    if device not in found:
        raise DeviceError(
            f"OpenVINO finds no device {device} here", hint=f"it finds {', '.join(found) or 'none at all'}"
        )


def converted(folder: Folder) -> ModelFolder:
    """The folder. Raises BackendError where it is a checkpoint: OpenVINO runs converted models only."""
    if isinstance(folder, ModelFolder):
        return folder
    raise BackendError(
        f"{folder.path} is a checkpoint, which OpenVINO cannot run as it is",
        hint=f"`edge convert {folder.path} FOLDER` converts it; or run it with --device torch",
    )


def properties(options: Options) -> dict[str, Any]:
    """OpenVINO's names for what is asked of the engine."""
    named = {
        "INFERENCE_NUM_THREADS": options.threads,
        "KV_CACHE_PRECISION": options.kv_precision,
        "INFERENCE_PRECISION_HINT": options.precision,
        "ACTIVATIONS_SCALE_FACTOR": options.activation_scale,
    }
    return {name: value for name, value in named.items() if value is not None}


@contextmanager
def compiled_cache(folder: ModelFolder, device: str, options: Options) -> Iterator[dict[str, str]]:
    """Where OpenVINO keeps the compiled model, as properties; the folder's name tells drivers apart, and CPUs.

    Not for the CPU: what it would keep is a second copy of the weights, and loading that saves nothing.
    """
    import openvino

    if not options.cache or device == "CPU":
        yield {}
        return
    core = openvino.Core()
    plugin = "CPU" if device.startswith("NPUW") else device
    known = core.get_property(plugin, "SUPPORTED_PROPERTIES")
    names = ("FULL_DEVICE_NAME", "GPU_DRIVER_VERSION", "NPU_DRIVER_VERSION")
    driver = " ".join(str(core.get_property(plugin, name)) for name in names if name in known)
    with cached(folder, device, driver) as place:
        yield place


def explained(exc: RuntimeError, request: Request) -> EdgeError:
    """An error of GenAI while it generates, as one of ours."""
    if request.grammar is not None and "xgrammar" in str(exc):
        return RequestError(f"the engine cannot hold this grammar: {brief(exc)}", hint="simplify it")
    return BackendError(f"OpenVINO failed: {brief(exc)}", hint="close the chat and load the model again")


def generation_config(request: Request, stops: set[int], room: int) -> Any:
    """GenAI's settings for the request; `room` tokens are left for the reply."""
    import openvino_genai as genai

    sampling = request.sampling
    refuse(sampling, "OpenVINO GenAI adds it to logits below nothing, so that words come back", "frequency_penalty")
    config = genai.GenerationConfig()
    config.max_new_tokens = min(sampling.max_new_tokens or room, room)
    config.stop_token_ids = stops
    config.ignore_eos = not stops  # or the engine puts its own stop in
    config.repetition_penalty = sampling.repetition_penalty
    # Of a logit below nothing GenAI takes it away by adding it. Two of them are no matter: what is likely is far above.
    config.presence_penalty = sampling.presence_penalty
    config.logprobs = int(sampling.logprobs)
    config.apply_chat_template = False
    if sampling.temperature > 0:
        config.do_sample = True
        config.temperature = sampling.temperature
        config.top_p = sampling.top_p
        if sampling.top_k:
            config.top_k = sampling.top_k
        config.rng_seed = randbits(31) if sampling.seed is None else sampling.seed
    if request.grammar is not None:
        config.structured_output_config = _structured_output(request.grammar)
    return config


# xgrammar's own `(= …)` says what follows a string. Without it, every token that holds a quote is tried one by one at
# every step: 50 ms a token with GLM-4's 151,552. With it they are sorted out once.
_JSON_OBJECT = JSON_OBJECT.replace(
    JSON_STRING,
    r"""string ::= "\"" rest
rest ::= ("\"" | [^"\\\x00-\x1F] rest | "\\" (["\\/bfnrt] | "u" hex hex hex hex) rest) (= blank [,:}\]])
""",
)


def _structured_output(grammar: Grammar) -> Any:
    from openvino_genai import StructuredOutputConfig as Config

    match grammar:
        case JsonSchema():
            return Config(regex=grammar.pattern())
        case JsonObject():
            return Config(grammar=_JSON_OBJECT)
        case Regex(pattern):
            return Config(regex=pattern)
        case Choice(options):
            constants = [Config.ConstString(option) for option in options]
            return Config(structural_tags_config=Config.Union(constants) if len(constants) > 1 else constants[0])


def brief(exc: Exception) -> str:
    """The last line that says something, without the source position that OpenVINO puts before it."""
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
    return re.sub(r"^\[[\d:]+\] \S+:\d+: ", "", lines[-1]) if lines else type(exc).__name__
