"""OpenVINO GenAI's continuous-batching pipeline: PagedAttention, with a prefix cache that serves the turns of a chat.

Whoever waits for a token steps the pipeline, so no streamer runs inside it (one that raises would kill the process),
and requests of several threads are batched as they come.

A prompt is prefilled in slices, one a step, that end at block boundaries of the KV cache. GenAI names a block by its
tokens when it allocates it, before their keys and values are computed: a request that is cancelled inside a block
leaves one in the prefix cache that later prompts take for complete, and their log-probabilities are off by 0.03 to
0.15. A slice is a request of its own for the beginning of the prompt; it is never cancelled, and the next one finds its
blocks cached. Prompts take turns by the slice, so a short one does not wait for a long one. A prompt that is alone is
one request: each of its steps then ends with a block, and it is split into slices as soon as others come.
"""

import time
from collections import deque
from collections.abc import Generator, Sequence
from contextlib import closing
from itertools import count
from threading import Lock
from typing import TYPE_CHECKING, Any, Self

from ....events import Finish, Usage
from ....folder.ir_files import DECODER, LANGUAGE
from ....folder.model_folder import ModelFolder
from ....pictures import Picture
from ....sampling import SamplingParams
from ....source import ModelSource
from ...backend import Delta, Options, Request
from ..genai import (
    GenAIBackend,
    closed_error,
    find_devices,
    map_error,
    require_model_folder,
    run_to_end,
)
from ..logits.queue import LogitsQueue
from ..logits.request import LogitsRequest, needed_settings, require_no_logits
from ..prompt_input import PromptInput, TokenIds
from ..vision.picture_reader import PictureReading
from ..vision.prompts import VisionPrompts, require_vision_options, require_vision_settings
from .active_request import ActiveRequest, PromptSlice, cache_full
from .cache_reserve import prefill_config, reserve_cache
from .pipeline import TOKENS_BESIDE, open_pipeline, step_tokens
from .prefix_cache import BLOCK, PrefixCache
from .prompt_lookup import DraftLength, with_lookup

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_PICTURE_POLL = 0.05  # seconds between two looks at a picture that is read


class OpenVINO(GenAIBackend):
    """A model folder on a device of OpenVINO."""

    runs_adapters = True
    reads_pictures = True
    keeps_prefixes = True
    max_requests = 256  # SchedulerConfig.max_num_seqs

    def __init__(
        self,
        pipeline: Any,
        folder: ModelFolder,
        device: str = "CPU",
        options: Options = Options(),
        drafts: DraftLength | None = None,
    ) -> None:
        context = folder.manifest.context_length
        super().__init__(pipeline, folder, context - 1, context)
        kind, self.drafts = device.partition(".")[0], drafts or DraftLength.of(folder, device, options)
        self._has_adapters = bool(options.adapters)
        self._logits = LogitsQueue(folder, device, options)
        self._vision = VisionPrompts(folder, device, options) if folder.manifest.vision else None
        self._tokens_beside, self._tokens_alone = TOKENS_BESIDE[kind], step_tokens(kind, self.drafts.longest)
        self._request_ids = count(2)  # after those of `reserve_cache`
        self._stepping = Lock()
        self._prompts: deque[ActiveRequest] = deque()  # those of which more has to be read
        self._replies: set[int] = set()  # ids of requests that have the engine write
        self._slice: PromptSlice | None = None
        self._whole_prompt: ActiveRequest | None = None  # the prompt that has the engine to itself
        self._abandoned: list[ActiveRequest] = []  # cancelled before their first token
        self._prefixes = PrefixCache(reserve_cache(pipeline, folder, kind, self.drafts.longest, self._vision))

    @classmethod
    def devices(cls) -> tuple[str, ...]:
        return find_devices("CPU", "GPU")

    @classmethod
    def accepts(cls, source: ModelSource) -> bool:
        """Whether the source is a model folder whose graph PagedAttention accepts."""
        folder = source.model_folder
        return folder is not None and folder.manifest.paged

    @classmethod
    def load(cls, source: ModelSource, device: str, options: Options) -> Self:
        """Raises DeviceError if the device is missing, BackendError if OpenVINO refuses the folder."""
        folder = require_model_folder(source, device, cls.devices())
        name = DECODER
        if folder.manifest.vision:
            require_vision_options(folder, options)
            name = LANGUAGE
        with open_pipeline(folder, device, options, name) as (pipeline, drafts):
            return cls(pipeline, folder, device, options, drafts)

    def generate(self, request: Request) -> Generator[Delta | Finish, None, None]:
        request = self.with_admitted_grammar(request)
        ids = run_to_end(self.encode_slices(request.prompt, self.max_prompt_tokens))
        if (reading := self.read_pictures(request, ids)) is not None:
            with closing(reading):
                while not reading.wait(_PICTURE_POLL):
                    if request.cancellation.cancelled:
                        yield Finish("cancelled", Usage())
                        return
                    yield Delta("", 0, progress=reading.progress())
                running = self.begin(request, ids, reading.start, reading.features())
        else:
            running = self.begin(request, ids)
        try:
            while not running.finished:
                if request.cancellation.cancelled:
                    yield running.cancelled_finish()
                    return
                if not running.can_read():
                    with self._stepping:
                        if not running.can_read() and not request.cancellation.cancelled:
                            self._step()
                else:
                    yield from running.read()
        except RuntimeError as exc:
            raise map_error(exc, request, begun=bool(running.generated_ids)) from exc
        finally:
            if not running.finished:
                self.cancel(running)

    def read_pictures(self, request: Request, ids: list[int]) -> PictureReading | None:
        """Begin to read the pictures of a request, which may take minutes; None if it has none. `ids` are those of its
        prompt. Raises what `begin` would."""
        if self._vision is None or all(isinstance(piece, str) for piece in request.prompt):
            return None
        self.prepare_request(request, ids)
        return self._vision.read(request, ids)

    def begin(
        self,
        request: Request,
        ids: list[int] | None = None,
        start: float = 0.0,
        features: "Sequence[npt.NDArray[np.float32]]" = (),
    ) -> "RunningRequest":
        """Let a request join at the next step. The caller then calls `step` and reads, or `cancel`s. `ids` are those
        of the prompt, if they are known, `start` is when the request came, and `features` are those of its pictures."""
        start = start or time.perf_counter()
        if needed_settings(request.sampling) and self._vision is None:
            return self._begin_with_logits(request, ids, start)
        ids, stops, config = self.prepare_request(request, ids)
        prompt: PromptInput = TokenIds(ids)
        if self._vision is not None:
            ids, prompt = self._vision.embed(request, ids, features)
        running = ActiveRequest(
            request, ids, prompt, config, self.decoder(), stops, self.special_ids, start, self._release, self.drafts
        )
        running.reused_tokens = self._prefixes.count_kept(ids)
        running.cached_tokens, running.starts_in_block = self._prefixes.match(ids)
        self._prompts.append(running)
        return running

    def _begin_with_logits(self, request: Request, ids: list[int] | None, start: float) -> LogitsRequest:
        if request.grammar is not None:
            require_no_logits(request.sampling, "a grammar")
        if self._has_adapters:
            require_no_logits(request.sampling, "LoRA adapters")
        ids, stops = self.prepare_ids(request, ids)
        running = LogitsRequest(request, ids, stops, self._room - len(ids), vocabulary=self._vocabulary, start=start)
        with self._stepping:
            self._logits.add(running)
        return running

    def require_unconstrained(self, sampling: SamplingParams) -> None:
        require_no_logits(sampling, "a grammar")

    def picture_ids(self, picture: Picture) -> list[int]:
        return super().picture_ids(picture) if self._vision is None else self._vision.ids(picture)

    def generation_config(self, request: Request, stops: set[int], read: int) -> Any:
        if self._vision is not None:
            require_vision_settings(request.sampling)
        length = self.drafts.choose(
            constrained=request.grammar is not None, alone=not (self._prompts or self._replies or self._slice)
        )
        return with_lookup(super().generation_config(request, stops, read), length)

    def step(self) -> None:
        """Prefill a slice of one prompt and decode a token of every reply. Raises GenAI's RuntimeError."""
        with self._stepping:
            self._step()

    def cancel(self, *requests: "RunningRequest") -> None:
        with self._stepping:
            for running in requests:
                if isinstance(running, LogitsRequest):
                    running.finished = True
                    self._logits.remove(running)
                else:
                    self._cancel(running)
            others = self._replies or self._prompts or self._slice
            if not others and self.pipeline is not None and self.pipeline.has_non_finished_requests():
                self.pipeline.step()  # lets it drop the request

    def kv_cache_bytes(self) -> int:
        """Return the bytes of the KV cache that requests use now."""
        metrics = self.pipeline.get_metrics()
        return int(metrics.kv_cache_size_in_bytes * metrics.cache_usage / 100)

    def close(self) -> None:
        self._logits.close()
        if self._vision is not None:
            self._vision.close()
        super().close()

    # What follows is called by whoever holds `_stepping`.

    def _step(self) -> None:
        if self.pipeline is None:
            raise closed_error()
        self._split_whole_prompt()
        if self._slice is None and self._whole_prompt is None and self._prompts:
            running = self._prompts.popleft()
            try:
                self._submit_next(running)
            except RuntimeError as exc:
                running.error = map_error(exc, running.request)
        if busy := self.pipeline.has_non_finished_requests():
            self.pipeline.step()
        self._logits.step(self._tokens_beside if busy else self._tokens_alone, wait=not busy)
        if self._slice is not None and self._slice.ended:
            self._finish_slice(self._slice)
        for running in [abandoned for abandoned in self._abandoned if abandoned.ready]:
            self._abandoned.remove(running)
            self._drop(running)

    def _split_whole_prompt(self) -> None:
        """Split a prompt that is one request into slices if others wait. It stands at a block boundary."""
        running = self._whole_prompt
        if running is None:
            return
        if running.ready or running.finished:
            self._whole_prompt = None
        elif self._prompts:
            running.handle.cancel()
            running.handle, self._whole_prompt = None, None
            self._replies.discard(id(running))
            self._prompts.append(running)
        else:
            running.cached_tokens += self._tokens_alone  # by the step that comes

    def _submit_next(self, running: "ActiveRequest") -> None:
        """Submit the next slice of the prompt, or the request itself if that is the last."""
        alone = not self._replies and not self._prompts
        size = self._tokens_beside if self._replies else self._tokens_alone
        if running.starts_in_block:  # the first slice ends with its block, wherever it begins
            size, running.starts_in_block = BLOCK, False
        elif alone:
            self._whole_prompt, size = running, len(running.ids)
        if len(running.ids) - running.cached_tokens <= size:
            running.handle = self._add(running.prompt.tensor(), running.config)
            running.cached_tokens += self._tokens_alone if self._whole_prompt is running else 0
            self._replies.add(id(running))
            return
        end = running.cached_tokens + size
        self._slice = PromptSlice(
            running, end, self._add(running.prompt.tensor(end), prefill_config(self.drafts.longest))
        )

    def _finish_slice(self, done: "PromptSlice") -> None:
        self._slice, running = None, done.running
        if done.failed:
            running.error = cache_full()
            return
        self._prefixes.add(running.ids, done.end)
        running.cached_tokens = done.end
        if not running.finished:
            self._prompts.append(running)

    def _add(self, prompt: Any, config: Any) -> Any:
        return self.pipeline.add_request(next(self._request_ids), prompt, config)

    def _cancel(self, running: "ActiveRequest") -> None:
        running.finished = True
        if running in self._prompts:
            self._prompts.remove(running)
        elif running.handle is not None:
            if running.ready or running is self._whole_prompt:
                self._drop(running)
            else:
                self._abandoned.append(running)

    def _drop(self, running: "ActiveRequest") -> None:
        while running.handle.can_read():
            (output,) = running.handle.read().values()
            running.generated_ids += output.generated_ids
        running.handle.cancel()
        self._release(running)

    def _release(self, running: "ActiveRequest") -> None:
        """Record the blocks of a request that has ended. Its last token was generated, but not read."""
        self._replies.discard(id(running))
        ids = running.ids + running.generated_ids
        computed = len(ids) - 1 if running.generated_ids else min(running.cached_tokens, len(ids) - 1)
        if running.config.num_assistant_tokens:  # GenAI names the reply's blocks by drafts that were rejected
            ids, computed = running.ids, min(computed, len(running.ids))
        self._prefixes.add(ids, computed)


RunningRequest = ActiveRequest | LogitsRequest
