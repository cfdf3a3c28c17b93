"""Which tokens a text is made of: a reply is written in tokens, and told in pieces that begin and end anywhere."""

from collections import deque

from ..messages import TokenLogprob


class LogprobAligner:
    """Takes what is written, and gives the tokens of what is told of it. Lengths and places count characters.

    A token belongs to a text if a character of it does; one that holds a part of a character belongs where it is.
    """

    def __init__(self) -> None:
        self._length = 0  # of what was written
        self._written: deque[tuple[int, int, TokenLogprob]] = deque()  # where each begins and ends
        self._told = 0  # the length of the texts, those included that are held back
        self._waiting: deque[tuple[int, TokenLogprob]] = deque()  # where each begins in those
        self._passed = 0

    def add(self, length: int, token: TokenLogprob | None) -> None:
        """So many characters more, whole now with the token."""
        if token is not None:
            self._written.append((self._length, self._length + length, token))
        self._length += length

    def rewind(self, length: int) -> None:
        """Takes the last characters back."""
        self._length -= length
        while length and self._written and self._written[-1][0] >= self._length:
            self._written.pop()

    def emit(self, length: int, beyond: int) -> None:
        """A text of so many characters, which ends so many before the end of what was written."""
        if not length:
            return
        end = self._length - beyond
        start = end - length
        while self._written and self._written[0][0] < end:
            begins, ends, token = self._written.popleft()
            if ends > start or begins >= start:
                self._waiting.append((self._told + max(begins - start, 0), token))
        self._told += length

    def take(self, length: int) -> tuple[TokenLogprob, ...]:
        """The tokens of the texts' next characters, so many of which are certain to be told."""
        self._passed += length
        tokens = []
        while self._waiting and self._waiting[0][0] < self._passed:
            tokens.append(self._waiting.popleft()[1])
        return tuple(tokens)
