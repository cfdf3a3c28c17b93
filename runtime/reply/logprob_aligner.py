"""Alignment of generated tokens with the pieces of a streamed text, which end in different places."""

from collections import deque

from ..events import TokenLogprob


class LogprobAligner:
    """Aligns tokens with the texts that are emitted. Lengths and places count characters.

    A token belongs to a text if one of its characters does; a token that is part of a character belongs where it is.
    """

    def __init__(self) -> None:
        self._length = 0  # of the generated text
        self._generated: deque[tuple[int, int, TokenLogprob]] = deque()  # each token with its begin and end
        self._emitted = 0  # the length of the emitted texts, those included that are held back as a possible stop
        self._pending: deque[tuple[int, TokenLogprob]] = deque()  # each token with its begin in those
        self._taken = 0

    def add(self, length: int, token: TokenLogprob | None) -> None:
        """Append `length` characters of generated text, completed by `token`."""
        if token is not None:
            self._generated.append((self._length, self._length + length, token))
        self._length += length

    def rewind(self, length: int) -> None:
        """Drop the last `length` characters, and the tokens of a character that is not complete."""
        self._length -= length
        while self._generated and self._generated[-1][0] >= self._length:
            self._generated.pop()

    def emit(self, length: int, beyond: int) -> None:
        """Assign tokens to a text of `length` characters that ends `beyond` characters before the end."""
        if not length:
            return
        end = self._length - beyond
        start = end - length
        while self._generated and self._generated[0][0] < end:
            token_start, token_end, token = self._generated.popleft()
            if token_end > start or token_start >= start:
                self._pending.append((self._emitted + max(token_start - start, 0), token))
        self._emitted += length

    def take(self, length: int) -> tuple[TokenLogprob, ...]:
        """Return the tokens of the next `length` emitted characters."""
        self._taken += length
        tokens = []
        while self._pending and self._pending[0][0] < self._taken:
            tokens.append(self._pending.popleft()[1])
        return tuple(tokens)
