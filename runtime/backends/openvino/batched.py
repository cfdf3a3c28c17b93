"""OpenVINO GenAI's continuous-batching pipeline: PagedAttention, with a prefix cache that serves the turns of a chat.

It is stepped by whoever waits for a token, so no streamer runs inside it (one that raises would kill the process), and
requests of several threads are batched as they come.

A prompt is read in slices, one a step, that end where blocks of the KV cache do. GenAI names a block by its tokens when
it allocates it, before their keys and values are computed: a request that is cancelled inside a block leaves one in the
prefix cache that later prompts take for whole, and their log-probabilities are off by 0.03 to 0.15. A slice is a
request of its own for the beginning of the prompt; it is never cancelled, and the next one finds its blocks cached.
Prompts take turns by the slice, so a short one does not wait for a long one. A prompt that has the engine to itself is
one request: each of its steps then ends with a block, and it becomes slices where others come.
"""

import time
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from itertools import count
from threading import Lock
from typing import Any, Self

from ...checkpoint.checkpoint import Folder
from ...device.machine import free_memory
from ...device.memory import CHUNK_TOKENS
from ...errors import BackendError
from ...folder.model_folder import CONVERT_AGAIN, ModelFolder
from ...messages import Finish, TokenLogprob, Usage
from ...vocabulary import TextDecoder
from ..backend import Delta, Options, Request
from .genai import GenAIBackend, closed, devices, loading, map_error, require_model_folder
from .prefix_cache import BLOCK, PrefixCache

# Tokens of a prompt that one step reads beside replies that are being written, which stand still meanwhile. Alone it
# reads CHUNK_TOKENS.
_BESIDE = {"CPU": BLOCK, "GPU": 8 * BLOCK}
_REPLIES = 16  # replies at once for which a step has room beside a slice

# Tokens that a guess goes by: the last so many, or fewer where those do not stand anywhere before.
_NGRAM = 3

# The CPU plugin keeps what it has compiled for every number of tokens that a step has had, 5,000 of each kind: in a
# server, some 100 MB more with every new mix of requests. So few are enough: nothing was slower with them at 9B width.
COMPILED_SHAPES = 32

# The KV cache grows with what requests need at once, not with what could stay cached for the next turns: without a
# floor a second chat throws out the first one's prefix. Pages that were never written take no memory on a CPU.
_CACHED_SHARE = {"CPU": 4, "GPU": 16}  # one part in so many of the free memory
_CACHED_BYTES = {"CPU": 4 * 2**30, "GPU": 2**29}  # at most
_CACHED_CONTEXTS = 16  # full ones, at most


class OpenVINO(GenAIBackend):
    """A model folder on a device of OpenVINO."""

    def __init__(self, pipeline: Any, folder: ModelFolder, kind: str = "CPU", lookup: int = 0) -> None:
        context = folder.manifest.context_length
        super().__init__(pipeline, folder, context - 1, context)
        self._beside, self._alone = _BESIDE[kind], step_tokens(kind, lookup)
        self._lookup = lookup
        self._request_ids = count(1)
        self._stepping = Lock()
        self._prompts: deque[Running] = deque()  # those of which more has to be read
        self._replies: set[int] = set()  # ids of requests that have the engine write
        self._slice: _Slice | None = None
        self._whole: Running | None = None  # the prompt that has the engine to itself
        self._abandoned: list[Running] = []  # cancelled before their first token
        self._prefixes = PrefixCache(_reserve(pipeline, folder, kind, lookup))

    @classmethod
    def devices(cls) -> tuple[str, ...]:
        return devices("CPU", "GPU")

    @classmethod
    def load(cls, folder: Folder, device: str, options: Options) -> Self:
        """Raises DeviceError where the device is not there, BackendError where the engine refuses the folder."""
        folder = require_model_folder(folder, device, cls.devices())
        import openvino_genai as genai

        kind = device.partition(".")[0]
        scheduler = genai.SchedulerConfig()
        scheduler.enable_prefix_caching = True
        scheduler.cache_size = 0  # grows with what is asked
        scheduler.max_num_batched_tokens = step_tokens(kind, options.lookup)
        scheduler.dynamic_split_fuse = True
        with loading(folder, device, options, CONVERT_AGAIN) as settings:
            if device == "CPU":
                settings["CPU_RUNTIME_CACHE_CAPACITY"] = COMPILED_SHAPES
            if options.lookup:
                settings["prompt_lookup"] = True
            tokenizer = {name: value for name, value in settings.items() if name == "ENABLE_MMAP"}
            pipeline = genai.ContinuousBatchingPipeline(str(folder.path), scheduler, device, settings, tokenizer)
            return cls(pipeline, folder, kind, options.lookup)

    def generate(self, request: Request) -> Generator[Delta | Finish, None, None]:
        running = self.begin(self.admitted(request))
        try:
            while not running.over:
                if request.cancellation.cancelled:
                    yield running.cancelled()
                    return
                if not running.can_read():
                    with self._stepping:
                        if not running.can_read() and not request.cancellation.cancelled:
                            self._step()
                else:
                    yield from running.read()
        except RuntimeError as exc:
            raise map_error(exc, request) from exc
        finally:
            if not running.over:
                self.cancel(running)

    def begin(self, request: Request, ids: list[int] | None = None, start: float = 0.0) -> "Running":
        """Lets the request join at the next step. Who calls this calls `step` and reads, or `cancel`s. The prompt's
        `ids` may be known, and when the request came."""
        start = start or time.perf_counter()
        ids, stops, config = self.prepare(request, ids)
        running = Running(request, ids, config, self.decoder(), stops, start, self._leave)
        running.cached, running.ragged = self._prefixes.match(ids)
        self._prompts.append(running)
        return running

    def config(self, request: Request, stops: set[int], read: int) -> Any:
        return _guessing(super().config(request, stops, read), self._lookup)

    def step(self) -> None:
        """Prefill a slice of one prompt and decode a token of every reply. Raises GenAI's RuntimeError."""
        with self._stepping:
            self._step()

    def cancel(self, *requests: "Running") -> None:
        with self._stepping:
            for running in requests:
                self._cancel(running)
            others = self._replies or self._prompts or self._slice
            if not others and self._pipeline is not None and self._pipeline.has_non_finished_requests():
                self._pipeline.step()  # lets it drop the request

    def kv_cache(self) -> int:
        """Bytes of the KV cache that requests use now."""
        metrics = self._pipeline.get_metrics()
        return int(metrics.kv_cache_size_in_bytes * metrics.cache_usage / 100)

    # What follows is called by whoever holds `_stepping`.

    def _step(self) -> None:
        if self._pipeline is None:
            raise closed()
        self._make_way()
        if self._slice is None and self._whole is None and self._prompts:
            running = self._prompts.popleft()
            try:
                self._read_on(running)
            except RuntimeError as exc:
                running.error = map_error(exc, running.request)
        if self._pipeline.has_non_finished_requests():
            self._pipeline.step()
        if self._slice is not None and self._slice.ended:
            self._take_back(self._slice)
        for running in [abandoned for abandoned in self._abandoned if abandoned.ready]:
            self._abandoned.remove(running)
            self._drop(running)

    def _make_way(self) -> None:
        """A prompt that is read as a whole becomes slices where others wait; it stands at the end of a block."""
        running = self._whole
        if running is None:
            return
        if running.ready or running.over:
            self._whole = None
        elif self._prompts:
            running.handle.cancel()
            running.handle, self._whole = None, None
            self._replies.discard(id(running))
            self._prompts.append(running)
        else:
            running.cached += self._alone  # by the step that comes

    def _read_on(self, running: "Running") -> None:
        """Gives the engine the next slice of the prompt, or the request itself where that is the last."""
        alone = not self._replies and not self._prompts
        size = self._beside if self._replies else self._alone
        if running.ragged:  # the first slice ends with its block, wherever it begins
            size, running.ragged = BLOCK, False
        elif alone:
            self._whole, size = running, len(running.ids)
        if len(running.ids) - running.cached <= size:
            running.handle = self._add(running.ids, running.config)
            running.cached += self._alone if self._whole is running else 0
            self._replies.add(id(running))
            return
        end = running.cached + size
        self._slice = _Slice(running, end, self._add(running.ids[:end], _reading(self._lookup)))

    def _take_back(self, done: "_Slice") -> None:
        self._slice, running = None, done.running
        if done.failed:
            running.error = _no_room()
            return
        self._prefixes.add(running.ids, done.end)
        running.cached = done.end
        if not running.over:
            self._prompts.append(running)

    def _add(self, ids: list[int], config: Any) -> Any:
        import numpy as np
        import openvino

        prompt = openvino.Tensor(np.array([ids], dtype=np.int64))
        return self._pipeline.add_request(next(self._request_ids), prompt, config)

    def _cancel(self, running: "Running") -> None:
        running.over = True
        if running in self._prompts:
            self._prompts.remove(running)
        elif running.handle is not None:
            if running.ready or running is self._whole:
                self._drop(running)
            else:
                self._abandoned.append(running)

    def _drop(self, running: "Running") -> None:
        while running.handle.can_read():
            (output,) = running.handle.read().values()
            running.said += output.generated_ids
        running.handle.cancel()
        self._leave(running)

    def _leave(self, running: "Running") -> None:
        """The request is at its end. Its last token was written, but not read."""
        self._replies.discard(id(running))
        ids = running.ids + running.said
        computed = len(ids) - 1 if running.said else min(running.cached, len(ids) - 1)
        self._prefixes.add(ids, computed)


@dataclass(slots=True, eq=False)
class Running:
    """A request, with the ids of its prompt and of what it has said. `over` once its Finish was read; `start` and
    `ttft` are seconds. It has a `handle` once it is in the pipeline; before that slices bring the first `cached` ids
    into the prefix cache. Where it is `ragged`, that may hold a part of the next block, too."""

    request: Request
    ids: list[int]
    config: Any
    text: TextDecoder
    stops: set[int]
    start: float
    leave: Callable[["Running"], None]
    handle: Any = None
    cached: int = 0
    ragged: bool = False
    said: list[int] = field(default_factory=list)
    ttft: float = 0.0
    over: bool = False
    error: Exception | None = None

    @property
    def ready(self) -> bool:
        """Whether the first token has been generated."""
        return bool(self.said) or (self.handle is not None and self.handle.can_read())

    def can_read(self) -> bool:
        """Whether a step has brought something. Raises BackendError where the request has no room."""
        from openvino_genai import GenerationStatus

        if self.error is not None:
            raise self.error
        if self.handle is None:
            return False
        if self.handle.can_read():
            return True
        if self.handle.get_status() == GenerationStatus.IGNORED:
            raise _no_room()
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
        if ended:
            self.leave(self)
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
            yield Finish("length" if output.finish_reason == GenerationFinishReason.LENGTH else "stop", self._usage())

    def cancelled(self) -> Finish:
        """Return the Finish of a cancelled request."""
        return Finish("cancelled", self._usage())

    def _usage(self) -> Usage:
        return Usage(len(self.ids), len(self.said), self.ttft, time.perf_counter() - self.start)


@dataclass(slots=True, eq=False)
class _Slice:
    """The beginning of a prompt, to its id `end`, as a request of its own."""

    running: Running
    end: int
    handle: Any

    @property
    def failed(self) -> bool:
        from openvino_genai import GenerationStatus

        return bool(self.handle.get_status() == GenerationStatus.IGNORED)

    @property
    def ended(self) -> bool:
        return self.handle.can_read() or self.failed


def step_tokens(kind: str, lookup: int = 0) -> int:
    """How many tokens a step computes at most, on a CPU or GPU: whole blocks of a prompt, or a slice of one and room
    for `_REPLIES` replies with their guesses."""
    beside = _BESIDE[kind] + _REPLIES * (1 + lookup)
    return max(CHUNK_TOKENS[kind], -(-beside // BLOCK) * BLOCK)


def _guessing(config: Any, lookup: int) -> Any:
    if lookup:
        config.num_assistant_tokens, config.max_ngram_size = lookup, _NGRAM
    return config


def _reading(lookup: int) -> Any:
    """GenAI's settings for a slice. It takes no request that writes nothing: one token, which nobody reads."""
    import openvino_genai as genai

    config = genai.GenerationConfig()
    config.max_new_tokens = 1
    config.ignore_eos = True
    config.apply_chat_template = False
    return _guessing(config, lookup)


def _no_room() -> BackendError:
    return BackendError("the KV cache does not fit into memory", hint="shorten the chat, or choose a smaller recipe")


def _reserve(pipeline: Any, folder: ModelFolder, kind: str, lookup: int) -> int:
    """Makes the KV cache large enough for some chats beside each other; returns its tokens.

    The cache grows to what a request may need, twice its prompt at most: one that is cancelled after its first step
    makes it so large. That step is also the one in which the plugin repacks the weights.
    """
    import numpy as np
    import openvino

    manifest = folder.manifest
    share = min(free_memory() // _CACHED_SHARE[kind], _CACHED_BYTES[kind])
    tokens = min(share // max(manifest.kv_bytes_per_token, 1), _CACHED_CONTEXTS * manifest.context_length)
    tokens = max(tokens, 2 * BLOCK)
    config = _reading(lookup)
    config.max_new_tokens = tokens
    prompt = np.zeros((1, tokens // 2), dtype=np.int64)
    handle = pipeline.add_request(0, openvino.Tensor(prompt), config)
    pipeline.step()
    handle.cancel()
    while pipeline.has_non_finished_requests():
        pipeline.step()
    return tokens
