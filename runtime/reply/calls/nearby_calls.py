"""Calls in shapes near to GLM-4's own, read as calls only where the whole reply is nothing else.

    get_weather {"city": "Beijing"}                 the name on the object's line, or with blanks or CRLF around it
    {"name": "get_weather", "arguments": {…}}       "parameters", too; the object itself, or its JSON text in a string
    [{"name": …, "arguments": {…}}, …]
    ```json                                         a fence around calls of any shape, or around arguments alone
    <tool_call>{"name": …}</tool_call>

The name is that of an offered tool, and the arguments are a valid JSON object. With a word before, between or after
the calls the reply is text, which explains a call or quotes one. So only the end of a reply decides: until then, what
may be calls is held back, for at most `_LONGEST` characters.

Sources: GLM-4's own server strips the lines of a reply; the published example of GLM-Z1-Rumination parses its replies
as {"name", "arguments"}; xinference reads such an object in a fence.
"""

from collections.abc import Collection, Generator, Sequence
from typing import Any, TypeVar

from ... import strict_json
from .name_line import BLANKS

_LONGEST = 2**15  # characters after which a reply is text
_WRAPPERS = {"```": "```", "<tool_call>": "</tool_call>"}
_LANGUAGES = ("", "json")  # of a fence
_BLANK = frozenset(" \t\r\n")

_Value = TypeVar("_Value", str, dict[str, Any])
_Reading = Generator[None, None, None]


class _OtherText(Exception):
    """The reply is not only calls."""


class NearbyCalls:
    """A recognizer of a reply that is nothing but calls to the tools called `names`; `call_start` may stand between
    them. `length` is the number of characters read.

    It looks at each character once, and fails at the first one that no such reply has there.
    """

    def __init__(self, names: Collection[str], call_start: str) -> None:
        self.length = 0
        self._names = tuple(names)
        self._call_start = call_start
        self._calls: list[tuple[str, str]] = []
        self._char = ""  # the next one; "" at the end of the reply
        self._reading = self._read_reply()
        next(self._reading)

    def feed(self, text: str) -> bool:
        """Read more of the reply. Return whether it can still turn out to be nothing but calls."""
        self.length += len(text)
        try:
            if self.length > _LONGEST:
                raise _OtherText
            for self._char in text:
                next(self._reading)
        except _OtherText:
            self._calls.clear()
            return False
        return True

    def finish(self) -> tuple[tuple[str, str], ...]:
        """End the reply. Return the name and the arguments of each call; () if the reply is not only calls."""
        self._char = ""
        try:
            next(self._reading, None)
        except _OtherText:
            self._calls.clear()
        return tuple(self._calls)

    # Each step reads from `_char` on, and yields where it needs the next character.

    def _read_reply(self) -> _Reading:
        yield
        yield from self._skip_blanks()
        while self._char or not self._calls:
            opening = yield from self._read_one_of(("", self._call_start, *_WRAPPERS))
            if opening in _WRAPPERS:
                yield from self._read_wrapped(opening)
            elif not opening:
                yield from self._read_calls()
            yield from self._skip_blanks()

    def _read_wrapped(self, opening: str) -> _Reading:
        closing = _WRAPPERS[opening]
        if opening == "```":
            yield from self._read_one_of(_LANGUAGES)
        yield from self._skip_blanks()
        yield from self._read_calls()
        yield from self._skip_blanks()
        while self._char != closing[0]:
            yield from self._read_calls()
            yield from self._skip_blanks()
        yield from self._expect(closing)

    def _read_calls(self) -> _Reading:
        if self._char == "[":
            yield from self._expect("[")
            yield from self._read_json_call()
            while self._char == ",":
                yield from self._expect(",")
                yield from self._read_json_call()
            yield from self._expect("]")
        elif self._char == "{":
            yield from self._read_json_call()
        else:
            yield from self._read_named_call()

    def _read_json_call(self) -> _Reading:
        yield from self._expect_tokens("{", '"name"', ":", '"')
        name = yield from self._read_one_of(self._names)
        yield from self._expect('"')
        yield from self._expect_tokens(",", '"')
        yield from self._read_one_of(("arguments", "parameters"))
        yield from self._expect('"')
        yield from self._expect_tokens(":")
        yield from self._skip_blanks()
        if self._char == '"':
            self._add(name, _parse(str, (yield from self._read_string())))
        else:
            self._add(name, (yield from self._read_object()))
        yield from self._expect_tokens("}")
        yield from self._skip_blanks()

    def _read_named_call(self) -> _Reading:
        name = yield from self._read_one_of(self._names)
        yield from self._skip_blanks()
        fenced = self._char == "`"
        if fenced:
            yield from self._expect("```")
            yield from self._read_one_of(_LANGUAGES)
            yield from self._skip_blanks()
        self._add(name, (yield from self._read_object()))
        if fenced:
            yield from self._expect_tokens("```")

    def _add(self, name: str, arguments: str) -> None:
        _parse(dict, arguments)
        self._calls.append((name, arguments))

    def _read_object(self) -> Generator[None, None, str]:
        if self._char != "{":
            raise _OtherText
        depth = 0
        pieces: list[str] = []
        while True:
            if self._char == '"':
                pieces.append((yield from self._read_string()))
                continue
            char = self._char
            if not char:
                raise _OtherText
            depth += (char == "{") - (char == "}")
            pieces.append(char)
            yield
            if not depth:
                return "".join(pieces)

    def _read_string(self) -> Generator[None, None, str]:
        pieces, escaped = [self._char], False
        yield
        while escaped or self._char != '"':
            if self._char < " ":  # a control character, or the end
                raise _OtherText
            escaped = self._char == "\\" and not escaped
            pieces.append(self._char)
            yield
        yield from self._expect('"')
        return "".join(pieces) + '"'

    def _read_one_of(self, options: Sequence[str]) -> Generator[None, None, str]:
        """Read the one of the options that stands here. Fails if there is none; "" always is."""
        read = ""
        while self._char and any(option.startswith(read + self._char) for option in options):
            read += self._char
            yield
        if read not in options:
            raise _OtherText
        return read

    def _expect_tokens(self, *tokens: str) -> _Reading:
        for token in tokens:
            yield from self._skip_blanks()
            yield from self._expect(token)

    def _expect(self, text: str) -> _Reading:
        for char in text:
            if self._char != char:
                raise _OtherText
            yield

    def _skip_blanks(self) -> _Reading:
        for _ in range(BLANKS):
            if self._char not in _BLANK:
                return
            yield


def _parse(kind: type[_Value], text: str) -> _Value:
    """Return the value of a JSON text, which must be of this kind."""
    try:
        value = strict_json.parse(text)
    except ValueError as exc:
        raise _OtherText from exc
    if not isinstance(value, kind):
        raise _OtherText
    return value
