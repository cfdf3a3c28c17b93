"""Engines that serve one request at a time, for pipelines of GenAI that support no more: each reply has its own thread.

These are the NPU's static pipeline, and the stateful one for graphs that PagedAttention does not accept.
"""

import time
from collections.abc import Generator
from queue import SimpleQueue
from threading import Event, Lock, Thread
from typing import Any

from ....events import Finish, Usage
from ....folder.model_folder import ModelFolder
from ...backend import Delta, Request, require_supported
from ..genai import SUPPORTED, GenAIBackend, map_error


class SingleRequestBackend(GenAIBackend):
    """A loaded LLMPipeline. Further requests wait for their turn."""

    def __init__(self, pipeline: Any, folder: ModelFolder, prompt_tokens: int, room: int) -> None:
        super().__init__(pipeline, folder, prompt_tokens, room)
        self._turn = Lock()

    def generate(self, request: Request) -> Generator[Delta | Finish, None, None]:
        start = time.perf_counter()
        require_supported(request.sampling, SUPPORTED - {"logprobs"}, "by GenAI's pipeline for one request at a time")
        request = self.with_admitted_grammar(request)
        ids, stops, config = self.prepare_request(request)
        run = _ReplyThread(self.pipeline, self._turn, ids, config)
        text = self.decoder()
        generated, ttft = 0, 0.0
        try:
            with request.cancellation.on_cancel(run.cancel):
                while isinstance(new := run.tokens.get(), list):
                    ttft = ttft or time.perf_counter() - start
                    generated += len(new)
                    for id in new:
                        piece, taken = text.feed(() if id in stops else (id,)), text.take_ids()
                        if request.grammar is not None and id in self.special_ids:
                            taken = ()  # the engine's mask takes it for its text
                        yield Delta(piece, ids=taken)
        finally:
            run.stop(wait=not request.cancellation.cancelled)
        if isinstance(new, RuntimeError):
            raise map_error(new, request, begun=generated > 0) from new
        if isinstance(new, BaseException):
            raise new
        if rest := text.finish():
            yield Delta(rest, 0, ids=text.take_ids())
        prompt_tokens = len(ids) - len(request.generated)
        yield Finish(new, Usage(prompt_tokens, generated, ttft, time.perf_counter() - start))


class _ReplyThread:
    """One reply, generated in a thread of its own: GenAI calls back for every token and returns only at the end.

    `tokens` receives lists of ids, and at last the finish reason or an error. A reply that is cancelled during prefill
    ends at once; the engine, which prefills in one step, after that step.
    """

    def __init__(self, pipeline: Any, turn: Lock, ids: list[int], config: Any) -> None:
        self.tokens: SimpleQueue[Any] = SimpleQueue()
        self._cancelled = Event()
        self._thread = Thread(target=self._write, args=(pipeline, turn, ids, config), name="reply")
        self._thread.start()

    def cancel(self) -> None:
        self._cancelled.set()
        self.tokens.put("cancelled")

    def stop(self, *, wait: bool) -> None:
        """Cancel the reply. May wait until the engine has stopped."""
        self._cancelled.set()
        if wait:
            self._thread.join()

    def _write(self, pipeline: Any, turn: Lock, ids: list[int], config: Any) -> None:
        import numpy as np
        import openvino
        from openvino_genai import GenerationFinishReason, TokenizedInputs

        try:
            with turn:
                if self._cancelled.is_set():
                    return
                prompt = np.array([ids], dtype=np.int64)
                inputs = TokenizedInputs(openvino.Tensor(prompt), openvino.Tensor(np.ones_like(prompt)))
                result = pipeline.generate(inputs, config, _streamer(self.tokens, self._cancelled))
            # It ends without a reason where prompt and reply have filled the cache.
            stopped = result.finish_reasons[0] == GenerationFinishReason.STOP
            self.tokens.put("stop" if stopped else "length")
        except BaseException as exc:  # noqa: BLE001
            self.tokens.put(exc)


def _streamer(tokens: "SimpleQueue[Any]", cancelled: Event) -> Any:
    """Return the object that GenAI calls for every token. An exception in it would end the process, so it does
    nothing that can raise."""
    from openvino_genai import StreamerBase, StreamingStatus

    class Streamer(StreamerBase):  # type: ignore[misc]
        def write(self, token: Any) -> Any:
            tokens.put([token] if isinstance(token, int) else list(token))
            return StreamingStatus.CANCEL if cancelled.is_set() else StreamingStatus.RUNNING

        def end(self) -> None:
            pass

    return Streamer()
