"""Masks of the tokens that a grammar allows next, by llguidance, for engines that expose their logits.

https://github.com/guidance-ai/llguidance
"""

from collections.abc import Collection
from typing import Any

from ...errors import RequestError
from ...grammar.grammar import Grammar, to_tree
from ...grammar.printers.lark import to_lark
from ...grammar.rest import Rest
from ...system.installation import install_hint


class TokenMaskFactory:
    """Makes masks for one tokenizer, given as its tokenizer.json. Takes about a second for GLM-4's 151,552 tokens."""

    def __init__(self, tokenizer_json: str, end: int) -> None:
        """`end` is the id that marks the grammar's end. Raises RequestError if llguidance is missing."""
        try:
            from llguidance import LLTokenizer
        except ImportError as exc:
            raise RequestError(
                "enforcing a grammar on this device needs llguidance, which is not installed",
                hint=install_hint("torch"),
            ) from exc
        self._tokenizer = LLTokenizer(tokenizer_json, eos_token=end)
        self._end = end

    def mask(self, grammar: Grammar | Rest) -> "TokenMask":
        """Return a mask at the grammar's beginning. Raises RequestError if the grammar is not supported."""
        from llguidance import LLMatcher

        tree = grammar.tree if isinstance(grammar, Rest) else to_tree(grammar)
        matcher = LLMatcher(self._tokenizer, LLMatcher.grammar_from_lark(to_lark(tree)))
        if error := matcher.get_error():
            raise RequestError(f"unsupported grammar: {error.splitlines()[0]}", hint="simplify it")
        return TokenMask(matcher, self._end)


class TokenMask:
    """The state of a reply in its grammar."""

    def __init__(self, matcher: Any, end: int) -> None:
        self._matcher = matcher
        self._end = end

    def apply(self, logits: Any, stops: Collection[int]) -> Any:
        """Return logits of shape [vocabulary] with -inf for every token that is not allowed; `stops` are allowed
        where the grammar may end."""
        import numpy as np
        import torch

        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        allowed = torch.from_numpy(np.unpackbits(bits, bitorder="little")[: logits.shape[-1]].astype(bool))
        ends = bool(allowed[self._end])
        allowed = torch.nn.functional.pad(allowed, (0, logits.shape[-1] - allowed.shape[0]))
        allowed[list({self._end, *stops})] = ends
        return logits.masked_fill(~allowed.to(logits.device), -torch.inf)

    def advance(self, token: int) -> None:
        self._matcher.consume_token(token)

    @property
    def ended(self) -> bool:
        """Whether nothing more can follow."""
        return bool(self._matcher.is_stopped())
