"""What the engine's prefix cache holds, as far as it can be told from outside: whole blocks of the prompts it has read.

GenAI does not say how much of a prompt its cache saves, so the blocks are counted here by the same rule: a block is
known by its tokens and all that stand before it. GenAI forgets blocks that were used longest ago when its pool is full;
here twice as many are kept, so that what it knows is known here, too. Where it has forgotten one that is still known
here, the next slice of that prompt is longer than it should be, and nothing else is wrong.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence

BLOCK = 32  # tokens: a block of the CPU plugin's KV cache, and two of the GPU plugin's


class PrefixCache:
    """The blocks of a pool of `tokens`."""

    def __init__(self, tokens: int) -> None:
        self._capacity = max(2 * tokens // BLOCK, 1024)
        self._blocks: OrderedDict[int, None] = OrderedDict()
        self._tails: OrderedDict[tuple[int, ...], None] = OrderedDict()

    def add(self, ids: Sequence[int], computed: int) -> None:
        """Record that keys and values of the first `computed` ids are in the cache, and perhaps of a few more."""
        last = 0
        for last in _chain(ids[:computed]):
            self._blocks[last] = None
            self._blocks.move_to_end(last)
        if (start := computed // BLOCK * BLOCK) < len(ids):
            tail = (last, *ids[start : max(computed - 1, start + 1)])
            self._tails[tail] = None
            self._tails.move_to_end(tail)
        for known in (self._blocks, self._tails):
            while len(known) > self._capacity:
                known.popitem(last=False)

    def match(self, ids: Sequence[int]) -> tuple[int, bool]:
        """How many of the first `ids` are there in whole blocks, the last id excepted, which is always computed; and
        whether a part of the next block may be, too."""
        count, last = 0, 0
        for key in _chain(ids[: len(ids) - 1]):
            if key not in self._blocks:
                break
            self._blocks.move_to_end(key)
            count, last = count + BLOCK, key
        tails = ((last, *ids[count:end]) for end in range(count + 1, min(count + BLOCK, len(ids)) + 1))
        return count, any(tail in self._tails for tail in tails)


def _chain(ids: Sequence[int]) -> Iterator[int]:
    """A key for each whole block: of its tokens and of all before it."""
    key = 0
    for start in range(0, len(ids) - BLOCK + 1, BLOCK):
        key = hash((key, *ids[start : start + BLOCK]))
        yield key
