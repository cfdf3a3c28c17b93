"""OpenVINO GenAI's continuous-batching pipeline: PagedAttention, with a prefix cache that serves the turns of a chat.

It is stepped by whoever waits for a token, so no streamer runs inside it (one that raises would kill the process), and
requests of several threads are batched as they come.
"""

import time
from collections.abc import Generator
from dataclasses import dataclass, field
from itertools import count
from threading import Lock
from typing import Any, Self

from ..checkpoint_folder import Folder
from ..errors import BackendError
from ..messages import Finish, TokenLogprob, Usage
from ..model_folder import CONVERT_AGAIN, ModelFolder
from ..vocabulary import TextDecoder
from .backend import Delta, Options, Request
from .genai import Loaded, devices, explained, loading, startable

# A prompt is read in chunks of so many tokens, so that a long one can be cancelled. Measured on int4 of 9B width, with
# a prompt of 517 tokens: 256 and 1,024 are slower, by 3 % and 8 to 11 %.
PREFILL_CHUNK = 512

# Tokens that a guess goes by: the last so many, or fewer where those do not stand anywhere before.
_NGRAM = 3

# The CPU plugin keeps what it has compiled for every number of tokens that a step has had, 5,000 of each kind: in a
# server, some 100 MB more with every new mix of requests. So few are enough: nothing was slower with them at 9B width.
COMPILED_SHAPES = 32


class OpenVINO(Loaded):
    """A model folder on a device of OpenVINO."""

    def __init__(self, pipeline: Any, folder: ModelFolder, lookup: int = 0) -> None:
        context = folder.manifest.context_length
        super().__init__(pipeline, folder, context - 1, context)
        self._lookup = lookup
        self._request_ids = count()
        self._stepping = Lock()

    @classmethod
    def devices(cls) -> tuple[str, ...]:
        return devices("CPU", "GPU")

    @classmethod
    def load(cls, folder: Folder, device: str, options: Options) -> Self:
        """Raises DeviceError where the device is not there, BackendError where the engine refuses the folder."""
        folder = startable(folder, device, cls.devices())
        import openvino_genai as genai

        scheduler = genai.SchedulerConfig()
        scheduler.enable_prefix_caching = True
        scheduler.cache_size = 0  # grows with what is asked
        scheduler.max_num_batched_tokens = PREFILL_CHUNK
        scheduler.dynamic_split_fuse = True
        with loading(folder, device, options, CONVERT_AGAIN) as settings:
            if device == "CPU":
                settings["CPU_RUNTIME_CACHE_CAPACITY"] = COMPILED_SHAPES
            if options.lookup:
                settings["prompt_lookup"] = True
            tokenizer = {name: value for name, value in settings.items() if name == "ENABLE_MMAP"}
            pipeline = genai.ContinuousBatchingPipeline(str(folder.path), scheduler, device, settings, tokenizer)
        return cls(pipeline, folder, options.lookup)

    def generate(self, request: Request) -> Generator[Delta | Finish, None, None]:
        running = self.begin(request)
        try:
            while not running.over:
                if not running.can_read():
                    with self._stepping:
                        if not running.can_read():
                            self._pipeline.step()
                else:
                    yield from running.read()
        except RuntimeError as exc:
            raise explained(exc, request) from exc
        finally:
            if not running.over:
                self.cancel(running)

    def begin(self, request: Request) -> "Running":
        """Lets the request join at the next step. Who calls this calls `step` and reads, or `cancel`s."""
        import numpy as np
        import openvino

        start = time.perf_counter()
        ids, stops, config = self.prepare(request)
        try:
            prompt = openvino.Tensor(np.array([ids], dtype=np.int64))
            handle = self._pipeline.add_request(next(self._request_ids), prompt, config)
        except RuntimeError as exc:
            raise explained(exc, request) from exc
        return Running(request, ids, handle, self.decoder(), stops, start)

    def begin_again(self, running: "Running") -> None:
        """Puts a request that was cancelled back in where it was. Under a grammar it has to be at its beginning."""
        import numpy as np
        import openvino

        ids = running.ids + running.said
        config = self.config(running.request, running.stops, len(ids))
        if limit := running.request.sampling.max_new_tokens:
            config.max_new_tokens = min(limit - len(running.said), config.max_new_tokens)
        prompt = openvino.Tensor(np.array([ids], dtype=np.int64))
        running.handle = self._pipeline.add_request(next(self._request_ids), prompt, config)
        running.over = False

    def config(self, request: Request, stops: set[int], read: int) -> Any:
        config = super().config(request, stops, read)
        if self._lookup:
            config.num_assistant_tokens, config.max_ngram_size = self._lookup, _NGRAM
        return config

    def step(self) -> None:
        """A token more for every request that runs. Raises GenAI's RuntimeError."""
        with self._stepping:
            self._pipeline.step()

    def cancel(self, *requests: "Running") -> None:
        for running in requests:
            running.over = True
            running.handle.cancel()
        with self._stepping:
            if self._pipeline.has_non_finished_requests():
                self._pipeline.step()  # lets it drop the request

    def kv_cache(self) -> int:
        """Bytes of the KV cache that requests use now."""
        metrics = self._pipeline.get_metrics()
        return int(metrics.kv_cache_size_in_bytes * metrics.cache_usage / 100)


@dataclass(slots=True)
class Running:
    """A request in the pipeline, with the ids of its prompt and of what it has said. `over` once its Finish was read;
    `start` and `ttft` are seconds."""

    request: Request
    ids: list[int]
    handle: Any
    text: TextDecoder
    stops: set[int]
    start: float
    said: list[int] = field(default_factory=list)
    ttft: float = 0.0
    over: bool = False

    def can_read(self) -> bool:
        """Whether a step has brought something. Raises BackendError where the request has no room."""
        from openvino_genai import GenerationStatus

        if self.handle.can_read():
            return True
        if self.handle.get_status() == GenerationStatus.IGNORED:
            raise BackendError(
                "the KV cache does not fit into memory", hint="shorten the chat, or choose a smaller recipe"
            )
        return False

    def read(self) -> Generator[Delta | Finish, None, None]:
        """What one step has brought."""
        from openvino_genai import GenerationFinishReason

        (output,) = self.handle.read().values()
        self.ttft = self.ttft or time.perf_counter() - self.start
        ended = output.finish_reason != GenerationFinishReason.NONE
        said = [i for i in output.generated_ids if i not in self.stops]
        self.said += output.generated_ids
        self.over = ended
        if self.request.sampling.logprobs:
            for id, logprob in zip(output.generated_ids, output.generated_log_probs, strict=True):
                if id in self.stops:
                    yield Delta("")
                else:
                    yield Delta(self.text.feed([id]), 1, TokenLogprob(self.text.bytes_of(id), logprob))
            if rest := self.text.finish() if ended else "":
                yield Delta(rest, 0)
        else:
            yield Delta(self.text.feed(said) + (self.text.finish() if ended else ""), len(output.generated_ids))
        if ended:
            usage = Usage(len(self.ids), len(self.said), self.ttft, time.perf_counter() - self.start)
            yield Finish("length" if output.finish_reason == GenerationFinishReason.LENGTH else "stop", usage)
