"""OpenVINO GenAI's continuous-batching pipeline: PagedAttention, with a prefix cache that serves the turns of a chat.

It is stepped by whoever waits for a token, so no streamer runs inside it (one that raises would kill the process), and
requests of several threads are batched as they come.
"""

import time
from collections.abc import Generator
from itertools import count
from threading import Lock
from typing import Any, Self

from ..checkpoint_folder import Folder
from ..errors import BackendError, DeviceError, PromptTooLong
from ..messages import Finish, Usage
from ..model_folder import CONVERT_AGAIN, ModelFolder
from ..signal_stack import use_the_threads_own
from ..template import Prompt
from .backend import Delta, Options, Request
from .genai import Tokens, brief, compiled_cache, converted, explained, generation_config, properties

# A prompt is read in chunks of so many tokens, so that a long one can be cancelled. Measured on int4 of 9B width, with
# a prompt of 517 tokens: 256 and 1,024 are slower, by 3 % and 8 to 11 %.
PREFILL_CHUNK = 512


class OpenVINO:
    """A model folder on a device of OpenVINO."""

    def __init__(self, pipeline: Any, folder: ModelFolder) -> None:
        self.max_prompt_tokens = folder.manifest.context_length - 1
        self._pipeline = pipeline
        self._tokens: Any = Tokens(pipeline.get_tokenizer(), folder)
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
        folder = converted(folder)
        import openvino_genai as genai

        scheduler = genai.SchedulerConfig()
        scheduler.enable_prefix_caching = True
        scheduler.cache_size = 0  # grows with what is asked
        scheduler.max_num_batched_tokens = PREFILL_CHUNK
        scheduler.dynamic_split_fuse = True
        try:
            with compiled_cache(folder, device, options) as place:
                settings = properties(options) | place
                pipeline = genai.ContinuousBatchingPipeline(str(folder.path), scheduler, device, settings)
        except RuntimeError as exc:
            raise BackendError(f"OpenVINO cannot load {folder.path}: {brief(exc)}", hint=CONVERT_AGAIN) from exc
        use_the_threads_own()
        return cls(pipeline, folder)

    def count_tokens(self, prompt: Prompt) -> int:
        return len(self._tokens.encode(prompt))

    def generate(self, request: Request) -> Generator[Delta | Finish, None, None]:
        import numpy as np
        import openvino

        start = time.perf_counter()
        if self._pipeline is None:
            raise BackendError("the model was closed", hint="load it again")
        ids = self._tokens.encode(request.prompt)
        if len(ids) > self.max_prompt_tokens:
            raise PromptTooLong(len(ids), self.max_prompt_tokens)
        stops = self._tokens.stop_ids(request)
        config = generation_config(request, stops, self._context_length - len(ids))
        try:
            handle = self._pipeline.add_request(
                next(self._request_ids), openvino.Tensor(np.array([ids], dtype=np.int64)), config
            )
            yield from self._read(handle, stops, len(ids), start)
        except RuntimeError as exc:
            raise explained(exc, request) from exc

    def _read(
        self, handle: Any, stops: set[int], prompt_tokens: int, start: float
    ) -> Generator[Delta | Finish, None, None]:
        from openvino_genai import GenerationFinishReason, GenerationStatus

        text = self._tokens.decoder()
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

    def close(self) -> None:
        self._pipeline = self._tokens = None
