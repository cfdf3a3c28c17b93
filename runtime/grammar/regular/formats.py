"""The formats of JSON Schema as languages. Each is written as its standard defines it.

https://json-schema.org/draft/2020-12/json-schema-validation#section-7.3
"""

from functools import cache

from .language import ANY, Language, complement, concat, minus, word
from .pattern import matched

_DIGIT, _HEX = "[0-9]", "[0-9A-Fa-f]"

# RFC 3339, section 5.6; with the days that each month has, without leap seconds and the year 0000.
_DATE = (
    r"(\d{4}-(0[13578]|1[02])-(0[1-9]|[12]\d|3[01])|\d{4}-(0[469]|11)-(0[1-9]|[12]\d|30)|\d{4}-02-(0[1-9]|1\d|2[0-8])"
    r"|(\d\d(0[48]|[2468][048]|[13579][26])|([02468][048]|[13579][26])00)-02-29)"
)
_TIME = r"([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,9})?([Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)"
# RFC 3339, appendix A.
_CLOCK = r"T(\d{1,9}H(\d{1,9}M(\d{1,9}S)?)?|\d{1,9}M(\d{1,9}S)?|\d{1,9}S)"
_DAYS = r"(\d{1,9}Y(\d{1,9}M(\d{1,9}D)?)?|\d{1,9}M(\d{1,9}D)?|\d{1,9}D)"
_DURATION = rf"P(\d{{1,9}}W|{_DAYS}({_CLOCK})?|{_CLOCK})"

# RFC 1123, without labels that have -- in the third place: those are encoded (RFC 5891), and few of them are valid.
_END, _INNER = "[A-Za-z0-9]", "[A-Za-z0-9-]"
_LABEL = f"{_END}({_INNER}{{0,2}}{_END}|{_INNER}({_END}{_INNER}|-{_END}){_INNER}{{0,58}}{_END})?"
_HOST = rf"{_LABEL}(\.{_LABEL})*"
# RFC 5321's dot-atoms.
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_EMAIL = rf"{_ATOM}(\.{_ATOM})*@{_HOST}"

# RFC 2673 and RFC 4291, as in RFC 3986.
_OCTET = r"(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_IPV4 = rf"{_OCTET}(\.{_OCTET}){{3}}"
_H16 = f"{_HEX}{{1,4}}"
_LS32 = f"({_H16}:{_H16}|{_IPV4})"
_IPV6 = "({})".format(
    "|".join(
        [f"({_H16}:){{6}}{_LS32}", f"::({_H16}:){{5}}{_LS32}"]
        + [f"(({_H16}:){{0,{before}}}{_H16})?::({_H16}:){{{4 - before}}}{_LS32}" for before in range(5)]
        + [f"(({_H16}:){{0,5}}{_H16})?::{_H16}", f"(({_H16}:){{0,6}}{_H16})?::"]
    )
)


def _uri(letters: str, private: str, *, relative: bool) -> str:
    """RFC 3986; RFC 3987 with more letters, and private ones in the query."""
    encoded = f"%{_HEX}{{2}}"
    unreserved = rf"A-Za-z0-9._~!$&'()*+,;=\-{letters}"
    character = f"([{unreserved}:@]|{encoded})"
    host = rf"(\[{_IPV6}\]|\[[vV]{_HEX}+\.[{unreserved}:]+\]|([{unreserved}]|{encoded})*)"
    authority = rf"(([{unreserved}:]|{encoded})*@)?{host}(:\d*)?"
    path = f"(//{authority}(/{character}*)*|/({character}+(/{character}*)*)?|{{first}}+(/{character}*)*|)"
    end = rf"(\?({character}|[/?{private}])*)?(#({character}|[/?])*)?"
    scheme = "[A-Za-z][A-Za-z0-9+.-]*:"
    absolute = f"{scheme}{path.replace('{first}', character)}{end}"
    if not relative:
        return absolute
    no_colon = f"([{unreserved}@]|{encoded})"  # or its first segment would be a scheme
    return f"({absolute}|{path.replace('{first}', no_colon)}{end})"


_UCS = r"\u00A0-\uD7FF\uF900-\uFDCF\uFDF0-\uFFEF\u{10000}-\u{1FFFD}\u{20000}-\u{2FFFD}\u{30000}-\u{EFFFD}"
_PRIVATE = r"\uE000-\uF8FF\u{F0000}-\u{FFFFD}\u{100000}-\u{10FFFD}"

# RFC 6901, and draft-bhutton-relative-json-pointer.
_POINTER = r"(/([^/~]|~[01])*)*"

# RFC 6570.
_VARIABLE = rf"([A-Za-z0-9_]|%{_HEX}{{2}})(\.?([A-Za-z0-9_]|%{_HEX}{{2}}))*(:[1-9]\d{{0,3}}|\*)?"
_TEMPLATE = rf"([!#$&(-;=?-\[\]_a-z~{_UCS}{_PRIVATE}]|%{_HEX}{{2}}|\{{[+#./;?&=,!@|]?{_VARIABLE}(,{_VARIABLE})*\}})*"

_PATTERNS = {
    "date": _DATE,
    "time": _TIME,
    "date-time": f"{_DATE}[Tt]{_TIME}",
    "duration": _DURATION,
    "email": _EMAIL,
    "hostname": _HOST,
    "ipv4": _IPV4,
    "ipv6": _IPV6,
    "uri": _uri("", "", relative=False),
    "uri-reference": _uri("", "", relative=True),
    "iri": _uri(_UCS, _PRIVATE, relative=False),
    "iri-reference": _uri(_UCS, _PRIVATE, relative=True),
    "uuid": f"{_HEX}{{8}}(-{_HEX}{{4}}){{3}}-{_HEX}{{12}}",
    "json-pointer": _POINTER,
    "relative-json-pointer": rf"(0|[1-9]\d*)(#|{_POINTER})",
    "uri-template": _TEMPLATE,
} | {
    f"uuid{version}": f"{_HEX}{{8}}-{_HEX}{{4}}-{version}{_HEX}{{3}}-[89abAB]{_HEX}{{3}}-{_HEX}{{12}}"
    for version in range(1, 9)  # RFC 9562
}

# What a schema with `not` excludes: more than is written above, where that is bounded or leaves out rare texts.
_SECONDS = r"([01]\d|2[0-3]):[0-5]\d:([0-5]\d|60)(\.\d+)?([Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)"
_EXCLUDED = {
    "date": r"\d{4}-\d\d-\d\d",
    "time": _SECONDS,
    "date-time": rf"\d{{4}}-\d\d-\d\d[Tt]{_SECONDS}",
    "duration": r"P[^]*",
    "email": "[^]*@[^]*",
    "hostname": r"[A-Za-z0-9.-]*",
}

# Of the standard's formats, those that are not enforced. Any other name is an annotation.
UNSUPPORTED = frozenset({"idn-email", "idn-hostname", "regex"})
LONGEST = {"hostname": 253}  # characters


@cache
def format_language(name: str) -> Language | None:
    """Return the texts of the format; None if none is known by that name."""
    if name not in _PATTERNS:
        return None
    language = matched(_PATTERNS[name])
    return minus(language, concat(word("0000"), ANY)) if name in ("date", "date-time") else language


def no_format_language(name: str) -> Language | None:
    """Return the texts that are certainly not of the format; None if none is known by that name."""
    return complement(matched(_EXCLUDED.get(name, _PATTERNS[name]))) if name in _PATTERNS else None
