"""The tokens of a server's reply, with their log-probabilities, as deltas."""

from collections.abc import Iterator, Sequence

from ...errors import BackendError
from ...events import TokenLogprob
from ...vocabulary import Vocabulary
from ..backend import Delta
from .answer import Chunk


class LoggedTokenReader:
    """Reads the tokens of a reply whose log-probabilities were asked for. The text is decoded here, since a server may
    send several tokens at once, and the text of one late."""

    def __init__(self, vocabulary: Vocabulary, stops: Sequence[int], top: int, url: str) -> None:
        """`top` is the number of alternatives for each token: a server adds the token itself to them."""
        self._vocabulary = vocabulary
        self._decoder = vocabulary.decoder()
        self._stops = frozenset(stops)
        self._top = top
        self.stop_token: TokenLogprob | None = None  # the stop token that ended the reply
        self._url = url
        self._characters = 0  # that the server has sent beyond those decoded

    def read(self, chunk: Chunk, count: int) -> Iterator[Delta]:
        """Yield a delta for each token of a chunk, which adds `count` tokens to the reply. Raises BackendError if the
        server sends text without tokens."""
        self._characters += len(chunk.text)
        for token in chunk.tokens:
            top = sorted(token.top.items(), key=lambda item: (-item[1], item[0]))[: self._top]
            known = self._logprob(token.id, token.logprob, tuple(self._logprob(*item) for item in top))
            if token.id in self._stops:
                self.stop_token = known
                continue
            text = self._decoder.feed([token.id])
            self._characters -= len(text)
            count -= 1
            yield Delta(text, 1, known)
        if self._characters > 0 and not chunk.tokens:
            raise BackendError(f"{self._url} returns no log-probabilities", hint="leave out logprobs")
        if count > 0:
            yield Delta("", count)
        if chunk.ended and (rest := self._decoder.finish()):
            yield Delta(rest, 0)

    def _logprob(self, id: int, logprob: float, top: tuple[TokenLogprob, ...] = ()) -> TokenLogprob:
        return TokenLogprob(self._vocabulary.bytes_of(id), logprob, id, top)
