"""Forward passes of a PyTorch model over new tokens, one at a time for all requests.

With CUDA graphs, a pass over one token is compiled, and replayed as a graph. All such passes run in one thread, since
PyTorch records and keeps the graphs of each thread apart.
"""

import warnings
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from threading import Lock
from typing import Any

from ...cancellation import Cancellation
from ...checkpoint.tokenizer import first_error_line
from ...errors import BackendError, Notice
from .cache import KVCache

_CHUNK = 512  # tokens of a prompt that are read at once, so that other requests are not kept waiting
_SCORED = 64  # the same where the logits after each of them are kept: 40 MB with GLM-4's vocabulary


class ForwardRunner:
    """Forward passes of a loaded PyTorch model: prefill in chunks, then one token at a time."""

    def __init__(self, model: Any, *, graphs: bool) -> None:
        self._model = model
        self._compiles = graphs
        self._thread = ThreadPoolExecutor(1, "graphs") if graphs else None
        self._lock = Lock()

    def logits(self, context: KVCache, ids: Sequence[int], cancellation: Cancellation) -> Any:
        """Read tokens into the cache; return the logits after the last of them, of shape [vocabulary], in f32. None
        if it was cancelled before."""
        logits = None
        for first in range(0, len(ids), _CHUNK):
            if cancellation.cancelled:
                return None
            logits = self._read(context, ids[first : first + _CHUNK], keep=1)[-1]
        return logits

    def read_whole(
        self, context: KVCache, ids: Sequence[int], cancellation: Cancellation
    ) -> Generator[tuple[Sequence[int], Any], None, None]:
        """Read tokens into the cache, up to a cancellation; yield them in chunks, with the logits after each of them,
        of shape [tokens, vocabulary], in f32."""
        for first in range(0, len(ids), _SCORED):
            if cancellation.cancelled:
                return
            chunk = ids[first : first + _SCORED]
            yield chunk, self._read(context, chunk, keep=len(chunk))

    def _read(self, context: KVCache, chunk: Sequence[int], keep: int) -> Any:
        """Run a forward pass; return the logits after the last `keep` tokens, of shape [keep, vocabulary]."""
        context.valid = False
        try:
            run = self._in_thread if context.static else self._run_chunk
            logits = run(context, chunk, keep)
        except RuntimeError as exc:
            hint = "shorten the chat, or load the model again with fewer programs running"
            raise BackendError(f"PyTorch failed: {first_error_line(exc)}", hint=hint) from exc
        context.ids += chunk
        context.valid = True
        return logits

    def _in_thread(self, context: KVCache, chunk: Sequence[int], keep: int) -> Any:
        assert self._thread is not None
        passing = self._thread.submit(self._run_chunk, context, chunk, keep)
        try:
            return passing.result()
        finally:
            wait([passing])  # Ctrl-C comes here, not there: nobody else gets the cache before the pass has left it

    def _run_chunk(self, context: KVCache, chunk: Sequence[int], keep: int) -> Any:
        import torch

        with self._lock, torch.inference_mode():
            context.make_room(len(chunk))
            forward = self._forward(context) if context.static and len(chunk) == 1 else self._model
            ids = torch.tensor([chunk], device=self._model.device)
            found = forward(ids, past_key_values=context.cache, use_cache=True, logits_to_keep=keep)
            return found.logits[0, -keep:].float().clone()  # the next pass of a CUDA graph writes over it

    def _forward(self, context: KVCache) -> Callable[..., Any]:
        """Run the compiled model, or the plain one if compiling it failed."""
        from torch._dynamo.exc import TorchDynamoException
        from transformers import CompileConfig

        if not self._compiles:
            return self._model  # type: ignore[no-any-return]
        compiled = self._model.get_compiled_call(CompileConfig(mode="reduce-overhead", dynamic=False))

        def forward(*args: Any, **kwargs: Any) -> Any:
            try:
                return compiled(*args, **kwargs)
            except TorchDynamoException as exc:
                self._compiles = False
                why = first_error_line(getattr(exc, "inner_exception", exc))
                why = f"it cannot be compiled ({why}); that takes a C compiler and Triton"
                warnings.warn(f"decoding is slower than it could be: {why}", Notice, stacklevel=2)
                context.cut(len(context.ids))
                return self._model(*args, **kwargs)

        return forward

    def close(self) -> None:
        self._model = None
        if self._thread is not None:
            self._thread.shutdown(wait=False)
