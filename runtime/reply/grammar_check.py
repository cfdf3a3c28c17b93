"""The check of a reply against its grammar, on engines whose mask may allow more than the grammar does.

An exact mask can be too expensive to compile, so an engine may be given a wider one. A matcher, which is exact, reads
the text of each token. At the first character that it refuses the reply is cut, and continued under the grammar of what
remains.
"""

import re
from dataclasses import replace

from ..backends.backend import Backend, Delta
from ..errors import BackendError
from ..grammar.grammar import Grammar, to_tree
from ..grammar.matcher import Matcher
from ..grammar.rest import Rest

_IN_SPECIAL = re.compile(r"(?<=[<\[])")  # behind the first character of a special token, where a text spells one


class GrammarCheck:
    """Checks the text that is generated under a grammar. `grammar` is the one for the next request. Without a grammar,
    or where the engine's mask is exact, nothing is checked."""

    def __init__(self, grammar: Grammar | None, backend: Backend) -> None:
        self.grammar: Grammar | Rest | None = grammar
        self.forced: Delta | None = None
        self.cut = False  # the last delta was
        self._matcher = Matcher(to_tree(grammar)) if backend.masks_wider and grammar is not None else None
        self._backend = backend
        self._advanced = True  # since the request began
        self._stalled = 0  # requests in a row in which it did not

    def force(self, *, logprobs: bool) -> None:
        """Find the text of a grammar that allows one alone: `forced` is a delta of it, which no engine has to generate.

        A text that goes on is left to the engine: its last token would end where the model's does not. There are no
        log-probabilities of a forced text, so where they are asked for, there is none.
        """
        if logprobs or self._matcher is None or not self._backend.reports_ids:
            return
        if not (text := self._matcher.forced(whole=True)):
            return
        ids = self._backend.encode(tuple(_IN_SPECIAL.split(text)))
        self._matcher.feed(text)
        self.forced = Delta(text, len(ids), ids=tuple(ids))

    @property
    def forced_tokens(self) -> int:
        """The number of tokens of the forced text."""
        return 0 if self.forced is None else self.forced.tokens

    def read(self, delta: Delta) -> Delta:
        """Return the delta, cut before the first character that the grammar refuses."""
        if self._matcher is None or delta is self.forced:  # which was read when it was made
            return delta
        count = self._matcher.feed(delta.text)
        self._advanced = self._advanced or count > 0
        self.cut = count < len(delta.text)
        if self.cut:
            return _cut(delta, count)
        if delta.text and not delta.ids and self._backend.reports_ids:
            # A special token where a text spells one: it is spelled by ordinary tokens, a character each.
            self.cut = True
            return replace(delta, ids=tuple(self._backend.encode(tuple(delta.text))))
        return delta

    def resume(self) -> bool:
        """Prepare to continue a reply that was cut, or that the engine ended: return whether the grammar wants more.

        Raises BackendError if the engine has written nothing that the grammar allows, twice in a row.
        """
        was_cut, self.cut, self.forced = self.cut, False, None
        if self._matcher is None or (self._matcher.ended if was_cut else self._matcher.complete):
            return False
        self._stalled = 0 if self._advanced else self._stalled + 1
        if self._stalled == 2:
            raise BackendError(
                "the engine writes nothing that the grammar allows",
                hint="report this, with the grammar or the JSON schema; it should not happen",
            )
        self._advanced = False
        self.grammar = Rest(self._matcher.rest())
        return True


def _cut(delta: Delta, count: int) -> Delta:
    """Return the first `count` characters of a delta. They are no whole tokens, so it has no ids; a token of which
    something is left has the log-probability of the whole."""
    text, dropped = delta.text[:count], delta.text[count:].encode()
    logprob = delta.logprob if count else None
    if logprob is not None:
        end = logprob.bytes.rfind(dropped)
        logprob = replace(logprob, bytes=text.encode() if end < 0 else logprob.bytes[:end], id=None)
    return replace(delta, text=text, tokens=min(delta.tokens, count), logprob=logprob, ids=())
