"""What schemas say about strings."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..nodes import Node
from ..regular import charset
from ..regular.automaton import automaton, longest, matches
from ..regular.formats import LONGEST, UNSUPPORTED, format_language, no_format_language
from ..regular.language import ANY, Language, chars, complement, intersection, minus, repeat, words
from ..regular.pattern import searched
from ..tree import string
from .document import Schema

# Characters that can be written in a JSON string without `\uXXXX`, which is only written where any character may stand.
_WRITABLE = repeat(chars(charset.normalise((*charset.subtract(charset.EVERY, ((0, 31),)), (8, 10), (12, 13)))), 0, None)


@dataclass(frozen=True, slots=True)
class Strings:
    """The texts for which some schemas are valid: of a language, and from `least` to `most` characters long."""

    language: Language
    least: int
    most: int | None

    @classmethod
    def of(cls, schemas: Sequence[Schema]) -> "Strings":
        """Collect the keywords. Raises RequestError for a pattern or a format that is not supported."""
        language, least, most = ANY, 0, list[int]()
        excluded: list[str] = []
        for schema in schemas:
            language = intersection(language, _patterns(schema))
            if schema.get("format") in LONGEST:
                most.append(LONGEST[schema["format"]])
            least = max(least, int(schema.get("minLength", 0)))
            if "maxLength" in schema:
                most.append(int(schema["maxLength"]))
            excluded += [value for value in schema.get("~notEnum", ()) if isinstance(value, str)]
        if excluded:
            language = minus(language, words(excluded))
        return cls(language, least, min(most, default=None))

    def accepts(self, text: str) -> bool:
        """Whether the text is one of them."""
        return self.least <= len(text) <= (len(text) if self.most is None else self.most) and matches(
            self.language, text
        )

    def node(self) -> Node:
        """Return them as JSON strings. Raises RequestError for too many states."""
        if self.language is ANY:
            return string(ANY, self.least, self.most)
        language = intersection(self.language, _WRITABLE)
        state = automaton(language)
        if state is not None and state.rest < self.least:  # counted by the automaton, so that every state knows its end
            language = intersection(language, repeat(chars(charset.EVERY), self.least, None))
            state = automaton(language)
        most = self.most
        if state is not None and most is not None and (length := longest(state)) is not None and length <= most:
            most = None
        return string(language, 0, most)

    def keys(self) -> Language:
        """Return them as a language, with their lengths."""
        if self.least or self.most is not None:
            return intersection(self.language, repeat(chars(charset.EVERY), self.least, self.most))
        return self.language


def _patterns(schema: Schema) -> Language:
    """Return the texts that a schema's patterns and formats allow."""
    language = ANY
    with schema.placing_errors():
        if "pattern" in schema:
            language = searched(schema["pattern"])
        if "~notPattern" in schema:
            language = intersection(language, complement(searched(schema["~notPattern"])))
    for keyword, find in (("format", format_language), ("~notFormat", no_format_language)):
        name = schema.get(keyword)
        if name in UNSUPPORTED:
            raise schema.unsupported(f"the format {name!r}")
        known = find(name) if name is not None else None
        if known is not None:
            language = intersection(language, known)
    return language
