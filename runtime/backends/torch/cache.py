"""KV caches for PyTorch: some grow with a reply, and one never moves, which CUDA graphs need.

transformers' static cache is read to its end for every token, however little it holds: for 32,768 tokens of GLM-4-9B
that is 1.3 GB of keys and values, which the compiled attention also copies for each of the 16 query heads that share a
key head. Ours is read up to a bound, one of a few, since the forward pass is compiled for each.
"""

from collections.abc import Sequence
from threading import Lock
from typing import Any

_LARGEST = 32_768  # tokens of the cache that does not move
_SMALLEST = 2_048  # the first bound; each is twice the one before, five in all, and PyTorch compiles for eight at most


class KVCache:
    """A KV cache and the ids of the tokens in it. It is not `valid` if a forward pass was interrupted inside it.

    A `static` one has room for `size` tokens and never moves; the others (`size` 0) grow.
    """

    def __init__(self, cache: Any, size: int = 0) -> None:
        self.cache = cache
        self.size = size
        self.valid = True
        self.ids: list[int] = []

    @property
    def static(self) -> bool:
        return self.size > 0

    def has_room(self, tokens: int) -> bool:
        return not self.static or tokens <= self.size

    def make_room(self, tokens: int) -> None:
        """Prepare for so many tokens in the next forward pass."""
        if self.static:
            bound = bound_of(len(self.ids) + tokens, self.size)
            for layer in self.cache.layers:
                layer.bound = bound

    def cut(self, length: int) -> None:
        """Drop all but the first `length` tokens, and what an interrupted pass has left in a static cache."""
        import torch

        surplus = len(self.ids) - length
        if self.static:
            with torch.inference_mode():  # in which the passes run: what they made may not be changed outside
                for layer in self.cache.layers:
                    layer.cumulative_length.fill_(length)
            self.valid = True
        elif surplus:
            self.cache.crop(-surplus)
        del self.ids[length:]

    def grown(self) -> "KVCache":
        """Return a growing cache with the same tokens."""
        import torch

        copy = _growing()
        length = len(self.ids)
        with torch.inference_mode():
            for i, layer in enumerate(self.cache.layers if length else ()):
                copy.cache.update(layer.keys[:, :, :length].clone(), layer.values[:, :, :length].clone(), i)
        copy.ids = list(self.ids)
        return copy


class CachePool:
    """The caches that no reply uses: the static one, if there is one, and the last of the others."""

    def __init__(self, config: Any, static_tokens: int = 0) -> None:
        self.idle = [_static(config, static_tokens)] if static_tokens else []
        self._lock = Lock()

    def acquire(self, ids: Sequence[int]) -> KVCache:
        """Return a cache for a reply to this prompt, cut to their common prefix: the static one if it is free and
        large enough, else the last of the others, else a new one."""
        with self._lock:
            able = [context for context in self.idle if context.has_room(len(ids))]
            context = max(able, key=lambda context: context.static, default=None)
            self.idle = [other for other in self.idle if other is not context]
        if context is None:
            return _growing()
        same = next((i for i, (a, b) in enumerate(zip(context.ids, ids, strict=False)) if a != b), None)
        context.cut(min(len(context.ids) if same is None else same, len(ids) - 1))
        return context

    def release(self, context: KVCache) -> None:
        with self._lock:
            others = [other for other in self.idle if other.static != context.static]
            self.idle = [*others, context] if context.valid or context.static else others

    def grow(self, context: KVCache) -> KVCache:
        """Return a cache with the same tokens and room for more."""
        larger = context.grown()
        self.release(context)
        return larger


def static_tokens(context_length: int, token: int, free: int) -> int:
    """Return the size of a static cache that takes at most half of the `free` bytes, with `token` bytes each."""
    tokens = min(context_length, _LARGEST)
    while tokens > _SMALLEST and 2 * tokens * token > free:
        tokens //= 2
    return tokens


def bound_of(tokens: int, size: int) -> int:
    """Return how far a cache of `size` tokens is read if it holds `tokens`."""
    bound = _SMALLEST
    while bound < tokens:
        bound *= 2
    return min(bound, size)


def _growing() -> KVCache:
    from transformers import DynamicCache

    return KVCache(DynamicCache())


def _static(config: Any, size: int) -> KVCache:
    """Create a static cache for a model of this `config`. The first forward pass allocates it."""
    from transformers import StaticCache
    from transformers.cache_utils import StaticLayer

    class BoundedLayer(StaticLayer):  # type: ignore[misc]
        bound = size

        def update(self, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
            keys, values = super().update(*args, **kwargs)
            return keys[:, :, : self.bound], values[:, :, : self.bound]

        def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
            return self.bound, 0

    cache = StaticCache(config=config, max_cache_len=size)
    cache.layers = [BoundedLayer(max_cache_len=size) for _ in cache.layers]
    return KVCache(cache, size)
