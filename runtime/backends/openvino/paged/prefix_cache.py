"""A model of the engine's prefix cache: which whole blocks of earlier prompts it still has.

GenAI does not report how much of a prompt its cache saves, so the blocks are counted here by the same rule: a block is
identified by its tokens and all that precede it. GenAI drops the least recently used blocks when its pool is full; here
twice as many are kept, so that every block that it has is known. If it dropped one that is still known here, the next
slice of that prompt is longer than planned, and nothing else goes wrong.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from itertools import takewhile

BLOCK = 32  # tokens: a block of the CPU plugin's KV cache, and two of the GPU plugin's


class PrefixCache:
    """The blocks of a pool that holds `tokens`."""

    def __init__(self, tokens: int) -> None:
        self._capacity = max(2 * tokens // BLOCK, 1024)
        self._pool_blocks = tokens // BLOCK
        self._recent: OrderedDict[int, None] = OrderedDict()  # as many as the pool holds: they have not been dropped
        self._blocks: OrderedDict[int, None] = OrderedDict()
        self._tails: OrderedDict[tuple[int, ...], None] = OrderedDict()

    def add(self, ids: Sequence[int], computed: int) -> None:
        """Record that keys and values of the first `computed` ids are in the cache, and perhaps of a few more."""
        last = 0
        for last in _chain(ids[:computed]):
            for blocks in (self._blocks, self._recent):
                blocks[last] = None
                blocks.move_to_end(last)
        if (start := computed // BLOCK * BLOCK) < len(ids):
            tail = (last, *ids[start : max(computed - 1, start + 1)])
            self._tails[tail] = None
            self._tails.move_to_end(tail)
        for known in (self._blocks, self._tails):
            while len(known) > self._capacity:
                known.popitem(last=False)
        while len(self._recent) > self._pool_blocks:
            self._recent.popitem(last=False)

    def count_kept(self, ids: Sequence[int]) -> int:
        """Return how many of the first `ids` the pool still holds, for certain. The last id is always computed."""
        keys = _chain(ids[: len(ids) - 1])
        return BLOCK * sum(1 for _ in takewhile(self._recent.__contains__, keys))

    def match(self, ids: Sequence[int]) -> tuple[int, bool]:
        """Return how many of the first `ids` are cached in whole blocks, not counting the last id, which is always
        computed; and whether part of the next block may be cached, too."""
        count, last = 0, 0
        for key in _chain(ids[: len(ids) - 1]):
            if key not in self._blocks:
                break
            self._blocks.move_to_end(key)
            if key in self._recent:
                self._recent.move_to_end(key)
            count, last = count + BLOCK, key
        tails = ((last, *ids[count:end]) for end in range(count + 1, min(count + BLOCK, len(ids)) + 1))
        return count, any(tail in self._tails for tail in tails)


def _chain(ids: Sequence[int]) -> Iterator[int]:
    """Return a key for each whole block: a hash of its tokens and all that precede it."""
    key = 0
    for start in range(0, len(ids) - BLOCK + 1, BLOCK):
        key = hash((key, *ids[start : start + BLOCK]))
        yield key
