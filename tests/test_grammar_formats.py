"""The formats of JSON Schema, with texts of the standards that define them."""

import pytest

from runtime.grammar.regular.automaton import automaton, matches
from runtime.grammar.regular.formats import _PATTERNS, UNSUPPORTED, format_language

UUID = "123e4567-e89b-12d3-a456-426614174000"
FORMATS = {
    "date": (
        ["2026-11-27", "2024-02-29", "2000-02-29", "0001-01-31"],
        ["2026-11-31", "2023-02-29", "1900-02-29", "2026-13-01", "0000-01-01", "2026-1-1", "20261127"],
    ),
    "time": (
        ["12:00:00Z", "23:59:59.999z", "08:30:06+05:30"],
        ["24:00:00Z", "12:60:00Z", "12:00:60Z", "12:00:00", "12:00:00.Z", "12:00:00+24:00", "12:00Z"],
    ),
    "date-time": (
        ["1985-04-12T23:20:50.52Z", "1996-12-19t16:39:57-08:00"],
        ["1985-04-12 23:20:50Z", "1985-04-31T00:00:00Z", "1985-04-12", "1990-12-31T15:59:50"],
    ),
    "duration": (
        ["P4DT12H30M5S", "P4Y", "PT0S", "P2W", "P1M", "PT36H", "P1Y2M3DT4H"],
        ["P", "PT", "4D", "P1YT", "P1Y1D", "PT1H2S", "P2W1D", "P1D2H", "P-1D"],
    ),
    "email": (
        ["joe.bloggs@example.com", "te~st@example.com", "a+b@localhost"],
        ["2962", "@example.com", ".a@example.com", "a.@example.com", "a..b@example.com", "a@-x.com", "a b@c.de"],
    ),
    "hostname": (
        ["www.example.com", "a", "a-1.b", f"{'a' * 63}.com"],
        ["", "-a", "xn--a", "a-", "a_b", ".a", "a.", "a..b", f"{'a' * 64}.com"],
    ),
    "ipv4": (["192.168.0.1", "0.0.0.0", "255.255.255.255"], ["256.0.0.1", "1.2.3", "01.2.3.4", "1.2.3.4.5", "0x7f.1"]),
    "ipv6": (
        ["::1", "::", "2001:db8::ff00:42:8329", "1:2:3:4:5:6:7:8", "::ffff:192.168.0.1", "1::", "1:2:3:4:5:6:7::"],
        [":", "1:2:3:4:5:6:7", "12345::", "1::2::3", "1:2:3:4:5:6:7:8:9", "::1%eth0", "::192.168.0.256", "fe80::g"],
    ),
    "uri": (
        [
            "http://foo.bar/?baz=qux#quux",
            "urn:oasis:names",
            "tel:+1-816-555-1212",
            "http://[2001:db8::7]/c=GB?objectClass?one",
            "http://a:b@c:80//",
            "mailto:a@b.c",
            "a:",
        ],
        ["//foo.bar/", "/abc", "abc", "http:// x", "\\\\WINDOWS\\x", "http://a/%zz", "1http://a", "http://a/é", ":foo"],
    ),
    "uri-reference": (
        ["/abc", "//foo.bar/x", "abc#f", "?q", "", "a/b:c", "http://a"],
        ["\\\\x", "#fr\\ag", "1a:b", "%x"],
    ),
    "iri": (["http://ƒøø.ßår/?∂éœ=πîx", "http://a/é"], ["http://2001:0db8:85a3/ x", "/abc", "âππ"]),
    "iri-reference": (["/âππ", "#ƒräg", "âππ"], ["\\\\x", "#ƒräg\\"]),
    "uuid": ([UUID, UUID.upper()], [UUID[:-1], UUID.replace("-", ""), UUID.replace("e", "g")]),
    "uuid4": (["6ba7b810-9dad-41d1-80b4-00c04fd430c8"], [UUID, "6ba7b810-9dad-41d1-c0b4-00c04fd430c8"]),
    "json-pointer": (["", "/foo/0", "/a~1b/m~0n", "//", "/é"], ["foo", "/a~", "/~2", "#/a"]),
    "relative-json-pointer": (["0", "1/foo", "2#", "120/a~1"], ["01", "/a", "", "-1", "0##", "1a"]),
    "uri-template": (
        ["http://example.com/{term:1}/{term}", "{+path,x}/here", "{#x*}", "{?a,b.c}", "é", ""],
        ["{", "a}", "{}", "{a,}", "{a:0}", "{ a}", "<x>", "%z"],
    ),
}


@pytest.mark.parametrize("name", FORMATS)
def test_texts_of_a_format(name):
    good, bad = FORMATS[name]
    language = format_language(name)
    assert [text for text in good if not matches(language, text)] == []
    assert [text for text in bad if matches(language, text)] == []


def test_every_format_is_tested_and_has_an_automaton():
    untested = _PATTERNS.keys() - FORMATS.keys()
    assert untested == {f"uuid{version}" for version in (1, 2, 3, 5, 6, 7, 8)}
    assert all(automaton(format_language(name)) for name in _PATTERNS)


def test_other_names_are_no_formats():
    assert format_language("color") is None
    assert not any(map(format_language, UNSUPPORTED))
