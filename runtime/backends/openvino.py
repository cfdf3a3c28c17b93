"""OpenVINO GenAI's continuous-batching pipeline: PagedAttention, with a prefix cache that serves the turns of a chat.

It is stepped by whoever waits for a token, so no streamer runs inside it (one that raises would kill the process), and
requests of several threads are batched as they come.
"""

import re
import time
from collections.abc import Generator
from itertools import count
from secrets import randbits
from threading import Lock
from typing import Any, Self

from ..checkpoint_folder import Folder
from ..errors import BackendError, DeviceError, PromptTooLong, RequestError
from ..grammar import JSON_OBJECT, Choice, Grammar, JsonObject, JsonSchema, Regex
from ..messages import Finish, Usage
from ..model_folder import CONVERT_AGAIN, ModelFolder
from ..sampling import Sampling
from ..template import Prompt
from ..vocabulary import Vocabulary
from .backend import Delta, Options, Request

# A prompt is read in chunks of so many tokens, so that a long one can be cancelled. Measured on int4 of 9B width, with
# a prompt of 517 tokens: 256 and 1,024 are slower, by 3 % and 8 to 11 %.
_PREFILL_CHUNK = 512


class OpenVINO:
    """A model folder on a device of OpenVINO."""

    def __init__(self, pipeline: Any, folder: ModelFolder) -> None:
        self.max_prompt_tokens = folder.manifest.context_length - 1
        self._pipeline = pipeline
        self._tokenizer = pipeline.get_tokenizer()
        self._vocabulary = Vocabulary.read(folder.path / "tokenizer.json")
        self._special_tokens = folder.manifest.special_tokens
        self._context_length = folder.manifest.context_length
        self._request_ids = count()
        self._stepping = Lock()

    @classmethod
    def devices(cls) -> tuple[str, ...]:
        try:
            import openvino
            import openvino_genai  # noqa: F401
        except ImportError:
            return ()
        return tuple(name for name in openvino.Core().available_devices if name.startswith(("CPU", "GPU")))

    @classmethod
    def load(cls, folder: Folder, device: str, options: Options) -> Self:
        """Raises DeviceError where the device is not there, BackendError where the engine refuses the folder."""
        if device not in cls.devices():
            raise DeviceError(
                f"OpenVINO finds no device {device} here", hint=f"it finds {', '.join(cls.devices()) or 'none at all'}"
            )
        if not isinstance(folder, ModelFolder):
            raise BackendError(
                f"{folder.path} is a checkpoint, which OpenVINO cannot run as it is",
                hint=f"`edge convert {folder.path} FOLDER` converts it; or run it with --device torch",
            )
        import openvino_genai as genai

        scheduler = genai.SchedulerConfig()
        scheduler.enable_prefix_caching = True
        scheduler.cache_size = 0  # grows with what is asked
        scheduler.max_num_batched_tokens = _PREFILL_CHUNK
        scheduler.dynamic_split_fuse = True
        properties: dict[str, Any] = {}
        if options.threads is not None:
            properties["INFERENCE_NUM_THREADS"] = options.threads
        if options.kv_precision is not None:
            properties["KV_CACHE_PRECISION"] = options.kv_precision
        if options.precision is not None:
            properties["INFERENCE_PRECISION_HINT"] = options.precision
        try:
            pipeline = genai.ContinuousBatchingPipeline(str(folder.path), scheduler, device, properties)
        except RuntimeError as exc:
            raise BackendError(f"OpenVINO cannot load {folder.path}: {brief(exc)}", hint=CONVERT_AGAIN) from exc
        return cls(pipeline, folder)

    def count_tokens(self, prompt: Prompt) -> int:
        return len(self._encode(prompt))

    def generate(self, request: Request) -> Generator[Delta | Finish, None, None]:
        import numpy as np
        import openvino

        start = time.perf_counter()
        if self._pipeline is None:
            raise BackendError("the model was closed", hint="load it again")
        ids = self._encode(request.prompt)
        if len(ids) > self.max_prompt_tokens:
            raise PromptTooLong(len(ids), self.max_prompt_tokens)
        stops = self._stop_ids(request)
        config = _generation_config(request.sampling, stops, self._context_length - len(ids))
        if request.grammar is not None:
            config.structured_output_config = _structured_output(request.grammar)
        try:
            handle = self._pipeline.add_request(
                next(self._request_ids), openvino.Tensor(np.array([ids], dtype=np.int64)), config
            )
            yield from self._read(handle, stops, len(ids), start)
        except RuntimeError as exc:
            if request.grammar is not None and "xgrammar" in str(exc):
                raise RequestError(f"the engine cannot hold this grammar: {brief(exc)}", hint="simplify it") from exc
            raise BackendError(
                f"OpenVINO failed: {brief(exc)}", hint="close the chat and load the model again"
            ) from exc

    def _read(
        self, handle: Any, stops: set[int], prompt_tokens: int, start: float
    ) -> Generator[Delta | Finish, None, None]:
        from openvino_genai import GenerationFinishReason, GenerationStatus

        text = self._vocabulary.decoder()
        generated, ttft, reason = 0, 0.0, None
        try:
            while reason is None:
                while not handle.can_read():
                    if handle.get_status() == GenerationStatus.IGNORED:
                        raise BackendError(
                            "the KV cache does not fit into memory", hint="shorten the chat, or choose a smaller recipe"
                        )
                    with self._stepping:
                        if not handle.can_read():
                            self._pipeline.step()
                (output,) = handle.read().values()
                if not generated:
                    ttft = time.perf_counter() - start
                if output.finish_reason != GenerationFinishReason.NONE:
                    reason = output.finish_reason
                said = [i for i in output.generated_ids if i not in stops]
                generated += len(output.generated_ids)
                delta = text.feed(said) + (text.finish() if reason is not None else "")
                yield Delta(delta, len(output.generated_ids))
            usage = Usage(prompt_tokens, generated, ttft, time.perf_counter() - start)
            yield Finish("length" if reason == GenerationFinishReason.LENGTH else "stop", usage)
        finally:
            if reason is None:
                self._cancel(handle)

    def _cancel(self, handle: Any) -> None:
        handle.cancel()
        with self._stepping:
            if self._pipeline.has_non_finished_requests():
                self._pipeline.step()  # lets it drop the request

    def _encode(self, prompt: Prompt) -> list[int]:
        ids: list[int] = []
        for piece in prompt:
            ids += self._tokenizer.encode(piece, add_special_tokens=False).input_ids.data[0].tolist()
        return ids

    def _stop_ids(self, request: Request) -> set[int]:
        return {self._special_tokens[name] for name in request.stop_tokens if name in self._special_tokens}

    def close(self) -> None:
        self._pipeline = self._tokenizer = None


def _generation_config(sampling: Sampling, stops: set[int], room: int) -> Any:
    import openvino_genai as genai

    config = genai.GenerationConfig()
    config.max_new_tokens = min(sampling.max_new_tokens or room, room)
    config.stop_token_ids = stops
    config.ignore_eos = not stops  # or the engine puts its own stop in
    config.repetition_penalty = sampling.repetition_penalty
    config.apply_chat_template = False
    if sampling.temperature > 0:
        config.do_sample = True
        config.temperature = sampling.temperature
        config.top_p = sampling.top_p
        if sampling.top_k:
            config.top_k = sampling.top_k
        config.rng_seed = randbits(31) if sampling.seed is None else sampling.seed
    return config


def _structured_output(grammar: Grammar) -> Any:
    from openvino_genai import StructuredOutputConfig as Config

    match grammar:
        case JsonSchema():
            return Config(regex=grammar.pattern())
        case JsonObject():
            return Config(grammar=JSON_OBJECT)
        case Regex(pattern):
            return Config(regex=pattern)
        case Choice(options):
            constants = [Config.ConstString(option) for option in options]
            return Config(structural_tags_config=Config.Union(constants) if len(constants) > 1 else constants[0])


def brief(exc: Exception) -> str:
    """The last line that says something, without the source position that OpenVINO puts before it."""
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
    return re.sub(r"^\[[\d:]+\] \S+:\d+: ", "", lines[-1]) if lines else type(exc).__name__
