"""Seeded damage to small files: bytes of any, values of JSON, and pieces put into texts."""

import json
import re
from collections.abc import Sequence
from random import Random
from typing import Any

DEEP = 100_000  # lists within one another
# What json.dumps cannot write, by the text that stands for it.
_SPELLED = {
    "@deep list@": "[" * DEEP + "]" * DEEP,
    "@deep object@": '{"a":' * DEEP + "1" + "}" * DEEP,
    "@300 deep@": "[" * 300 + "]" * 300,
    "@many digits@": "9" * 5000,
    "@beyond a float@": "1e999",
}
_VALUES: list[Any] = [
    None, True, False, 0, -1, 1, 7, 0.5, -0.5, 1e308, 2**31, 2**32 + 1, 2**63, 10**20, -(10**20), "1", "-Infinity",
    float("nan"), float("inf"), float("-inf"), *_SPELLED, "", " ", "a", "\0", "\ud800", "\ud83d\ude00", "\x1b[31m",
    "\u202e", "a\nb\r\n\n", "a" * 100_000, "../../../etc/passwd", "/dev/zero", "{{ 'a' * 10**10 }}", "<|user|>",
    "\ufffe", "é" * 3000, [], [None], [[]], [0] * 3000, [{}], ["a"] * 3000, {}, {"": ""}, {"a": {"a": {"a": 1}}},
    {"\ud800\0\n": 1}, {str(i): i for i in range(3000)},
]  # fmt: skip
_NUMBERS = [0, 1, 0x7F, 0x80, 0xFF, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**63, 2**64 - 1]
_JSON_PIECES = [b"[", b"{", b"]", b"}", b'"', b",", b":", b"\\", b'"\\ud800"', b"NaN", b"-Infinity", b"1e999", b"\0"]

# What may be put into a text of some kind.
TOML = (
    "\ufeff", "a" + ".a" * 3000 + " = 1\n", "[" * 9999, "x = " + "[" * 9999, "x = {" * 999, "\0", "idle = 1e999\n",
    "idle = -1\n", "idle = nan\n", "idle = " + "9" * 5000 + "\n", "idle = 1979-05-27\n", '"\\ud800"', "title = '''\n",
    "[[suggestions]]\n", "[title]\n", "\x1b[31m = 1\n", '"\\u001b[31m" = 1\n', "system = 5\n",
    'title = "' + "a" * 20_000 + '"\n',
)  # fmt: skip
JINJA = (
    "{{ 'a' * 10**10 }}", "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", "{{ 1/0 }}",
    "{{ (9**99999)|string }}", "{{ raise_exception('a\n\x1b[31mb') }}", "{{", "{%", "}}", "{#", "{% endfor %}", "\0",
    "{{ messages }}", "{{ x.y.z }}", "{{ ''.__class__.__mro__ }}", "{{ " + "(" * 5000 + ")" * 5000 + " }}", "\ud7ff",
    "{{ '%9999999999d' % 1 }}", "{{ messages|tojson(indent=10**8) }}", "{% set x = [] %}{{ x.append(x) }}{{ x }}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "{% include 'a' %}", "{{ 'a'.center(10**10) }}", "<|user|>",
    "{{ range(10**10)|list }}", "{{ messages[9].content }}", "{{ none + 1 }}",
)  # fmt: skip
HTML = (
    "<!--", "<a b='", "<!DOCTYPE [", "<?", "</", "&#99999999999;", "&#xd800;", "<script>", "<![CDATA[", "<title>", "\0",
    "<div>" * 20_000, "<p " + "a=b " * 20_000, "\x1b]0;x\x07", "</title>" * 999, "<" * 50_000,
)  # fmt: skip
PDF = (
    "/Filter /FlateDecode", "/Kids [2 0 R]", "/Kids [3 0 R 3 0 R 2 0 R]", "/Contents 1 0 R", "/Prev 0", "[" * 9999,
    "/Encrypt 1 0 R", "<< /A " * 5000, "/Length 99999999999", "/Size 9999999999", "9999999999 0 R", "(" * 5000,
    "endobj", "startxref\n0\n", "/Filter [" + "/ASCIIHexDecode " * 50 + "]", "/Title (\x1b[31m)", "/Parent 3 0 R",
    "/XRef", "/Type /ObjStm /N 99999999 /First 1", "/Count 999999999", "-1 0 obj",
)  # fmt: skip
XML = (
    '<!DOCTYPE a [<!ENTITY b "x">]>', "<layer>", "<layer " * 99, "<a>" * 20_000, "&b;", "&#0;", 'size="-1"', "\0",
    'shape="9,9,9"', 'size="99999999999999999999"', 'id="0"', 'element_type="\x1b"', "</layers>", "<data/>",
)  # fmt: skip
CARD = (
    "license: " + "a" * 100_000 + "\n", "license: \x1b[31m\n", "license: \ud7ff\n", "---\n", "license_name: \0\n",
    "license: " + " " * 50_000 + "x y\n", "license_name:" + "\t" * 50_000 + "\n",
)  # fmt: skip
RANKS = (
    "IQ== 99999999999999999999\n", "!! 1\n", "IQ==\n", " 5\n", "AAAA -1\n", "IQ== 1e5\n", "IQ== ٣\n", "\0\n",
    "IQ== " + "9" * 5000 + "\n", "AA" * 10_000 + "== 2450\n", "YWE= 2470\n",
)  # fmt: skip


def mutant(data: bytes, form: str, chance: Random, pieces: Sequence[str] = ()) -> bytes:
    """Another file in the place of `data`, whose `form` is "json", "lines" of JSON, "text" or "bytes". `pieces` are
    texts that may be put in."""
    if form == "json" and chance.random() < 0.75:
        return _json(data, chance)
    if form == "lines" and chance.random() < 0.75:
        lines = data.splitlines(keepends=True)
        at = chance.randrange(len(lines))
        return b"".join([*lines[:at], _json(lines[at], chance), b"\n", *lines[at + 1 :]])
    if pieces and chance.random() < 0.6:
        return _with_pieces(data, chance, [piece.encode() for piece in pieces])
    if form in ("json", "lines") and chance.random() < 0.5:
        return _with_pieces(data, chance, _JSON_PIECES)
    for _ in range(chance.choice([1, 1, 1, 2, 4])):
        data = _bytes(data, chance)
    return data


def _with_pieces(data: bytes, chance: Random, pieces: Sequence[bytes]) -> bytes:
    for _ in range(chance.choice([1, 1, 2, 3])):
        piece, at = chance.choice(pieces), chance.randint(0, len(data))
        if chance.random() < 0.5:  # at the beginning of a line, or over one
            lines = [match.start() for match in re.finditer(rb"^", data, re.MULTILINE)]
            at = chance.choice(lines)
        end = at + chance.choice([0, 0, len(piece), (data.find(b"\n", at) - at) % max(1, len(data) - at)])
        data = data[:at] + piece + data[end:]
    return data


def _bytes(data: bytes, chance: Random) -> bytes:
    """One change: more often than not among the first bytes, where lengths and types are."""
    most = chance.choice([16, 256, 4096, len(data), len(data)])
    at = chance.randrange(max(1, min(most, len(data))))
    size = chance.choice([1, 4, 8, 64, 1000, 4096])
    match chance.randrange(11):
        case 0 | 1 | 2 if data:
            return data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]
        case 3:
            return data[:at]
        case 4:
            return data[:at] + bytes(size) + data[at:]
        case 5:
            return data[:at] + chance.randbytes(size) + data[at:]
        case 6:
            return data[:at] + data[at : at + size] + data[at:]
        case 7:
            return data[:at] + data[at + size :]
        case 8:
            width = chance.choice([1, 4, 8])
            number = (chance.choice(_NUMBERS) % 256**width).to_bytes(width, "little")
            return data[:at] + number + data[at + width :]
        case 9:
            return data + bytes(chance.choice([1, 64, 1 << 20]))
    return chance.choice([b"", b"\xef\xbb\xbf" + data, b"\xff\xfe" + data, data + data, data[::-1], bytes(len(data))])


def _json(data: bytes, chance: Random) -> bytes:
    value = json.loads(data)
    for _ in range(chance.choice([1, 1, 1, 2, 3])):
        value = _changed(value, chance)
    text = json.dumps(value, ensure_ascii=chance.random() < 0.5)
    for name, spelled in _SPELLED.items():
        text = text.replace(f'"{name}"', spelled)
    return text.encode(errors="surrogatepass")


def _changed(value: Any, chance: Random) -> Any:
    """The value with one change somewhere in it: each level is as likely as the one below."""
    if not isinstance(value, dict | list) or not value or chance.random() < 0.1:
        return chance.choice(_VALUES)
    if isinstance(value, list):
        at = chance.randrange(len(value))
        match chance.randrange(6):
            case 0:
                return [*value[:at], *value[at + 1 :]]
            case 1:
                return [*value, *value[at : at + 3]]
            case 2:
                return [*value, chance.choice(_VALUES)]
        return [*value[:at], _changed(value[at], chance), *value[at + 1 :]]
    key = chance.choice(list(value))
    match chance.randrange(8):
        case 0:
            return {name: inner for name, inner in value.items() if name != key}
        case 1:
            other = chance.choice(["", "\0", "\ud800", "a" * 5000, "a\nb\x1b[31m", key + "x", key.upper()])
            return {other if name == key else name: inner for name, inner in value.items()}
        case 2:
            return value | {key: value[chance.choice(list(value))]}
        case 3 | 4:
            return value | {key: chance.choice(_VALUES)}
    return value | {key: _changed(value[key], chance)}
