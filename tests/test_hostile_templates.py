"""A chat template comes from anybody: what it costs is bounded, and what it says is one line."""

import time

import pytest

from runtime.errors import TemplateError
from runtime.messages import Message
from runtime.prompt.families import FAMILIES
from runtime.prompt.template import ChatTemplate

resource = pytest.importorskip("resource", reason="only POSIX counts memory so")

FAMILY = FAMILIES["glm4_0414"]
QUESTION = [Message("user", "Hi " * 100)]
DOUBLED = "{% set ns = namespace(x='aaaaaaaaaa') %}{% for i in range(60) %}"
NESTED = "{% set ns = namespace(x=['aaaaaaaaaa']) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}"
TUPLES = NESTED.replace("[ns.x, ns.x]", "(ns.x, ns.x)")
DEEP = "{% set ns = namespace(x=(1,)) %}{% for i in range(90000) %}{% set ns.x = (ns.x,) %}{% endfor %}"

COSTLY = {
    "repeated": "{{ 'a' * 10**10 }}",
    "repeated, the other way": "{{ 10**10 * 'a' }}",
    "a long list": "{{ [0] * 10**10 }}",
    "a tuple": "{{ (0,) * 10**10 }}",
    "a power": "{{ 9 ** (9**9) }}",
    "a power as text": "{{ (9**99999)|string }}",
    "squares": "{% set ns = namespace(x=3) %}{% for i in range(60) %}{% set ns.x = ns.x * ns.x %}{% endfor %}",
    "loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "loops that are put out": "{% for a in range(99999) %}{% for b in range(99999) %}abc{% endfor %}{% endfor %}",
    "a loop over filters": "{{ range(99999)|map('string')|list|length }}" * 400,
    "a recursive macro": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "a recursive loop": "{% for x in [1, 2] recursive %}{{ loop([1, 2]) }}{% endfor %}",
    "doubled by ~": DOUBLED + "{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x|length }}",
    "doubled by +": DOUBLED + "{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x|length }}",
    "doubled by join": DOUBLED + "{% set ns.x = [ns.x, ns.x]|join %}{% endfor %}{{ ns.x|length }}",
    "doubled by a block": DOUBLED + "{% set y %}{{ ns.x }}{{ ns.x }}{% endset %}{% set ns.x = y %}{% endfor %}",
    "doubled by %": DOUBLED + "{% set ns.x = '%s%s' % (ns.x, ns.x) %}{% endfor %}{{ ns.x|length }}",
    "doubled by format": DOUBLED + "{% set ns.x = '{0}{0}'.format(ns.x) %}{% endfor %}{{ ns.x|length }}",
    "doubled by replace": DOUBLED + "{% set ns.x = ns.x.replace('a', 'aa') %}{% endfor %}{{ ns.x|length }}",
    "doubled by the filter": DOUBLED + "{% set ns.x = ns.x|replace('a', 'aa') %}{% endfor %}{{ ns.x|length }}",
    "replaced by much": "{{ ('a' * 100000).replace('a', 'b' * 100000) }}",
    "joined by much": "{{ ('a' * 100000).join('b' * 100000) }}",
    "centred": "{{ 'a'|center(10**10) }}",
    "centred, a constant": "{{ 'a'|center(10000000000) }}",
    "justified": "{{ 'a'.ljust(10**10) }}",
    "filled with zeros": "{{ 'a'.zfill(10**10) }}",
    "tabs": "{{ '\t'.expandtabs(10**10) }}",
    "bytes": "{{ (1).to_bytes(10**10, 'big') }}",
    "a wide %": "{{ '%10000000000d' % 1 }}",
    "a wide %, the filter": "{{ '%10000000000d'|format(1) }}",
    "a width beside it": "{{ '%*d' % (10**10, 1) }}",
    "a wide format": "{{ '{:10000000000}'.format(1) }}",
    "a width within a format": "{{ '{:{w}}'.format(1, w=10**10) }}",
    "an indent": "{{ ('a\n' * 100000)|indent('b' * 100000) }}",
    "JSON's indent": "{{ [[1]]|tojson(indent=10**10) }}",
    "batches": "{{ [1]|batch(10**10, 0)|list }}",
    "slices": "{{ [1]|slice(10**10)|list }}",
    "digits": "{{ 1.5|round(10**9, 'ceil') }}",
    "a date": "{{ strftime_now('%1000000000d') }}",
    "lists in lists": NESTED + "{{ ns.x }}",
    "lists in lists, as text": NESTED + "{{ ns.x|string }}",
    "lists in lists, as JSON": NESTED + "{{ ns.x|tojson }}",
    "lists in lists, printed": NESTED + "{{ ns.x|pprint }}",
    "lists in lists, joined": NESTED + "{{ 'a' ~ ns.x }}",
    "lists in lists, all of them": NESTED + "{{ ns }}",
    "tuples compared": TUPLES + "{{ ns.x == ns.x[0] }}",
    "tuples as a key": TUPLES + "{{ {ns.x: 1} }}",
    "deep tuples as a key": DEEP + "{{ {ns.x: 1} }}",
    "deep tuples looked up": DEEP + "{{ {}[ns.x] }}{{ {}.get(ns.x) }}",
    "lists kept": "{% set ns = namespace(x=[]) %}{% for i in range(9999) %}{% set ns.x = ns.x + [range(99999)|list] %}"
    "{% endfor %}",
    "slices kept": "{% set l = range(99999)|list %}{% set ns = namespace(x=[]) %}{% for i in range(9999) %}"
    "{% set ns.x = [ns.x, l[0:]] %}{% endfor %}",
    "sums of lists": "{{ ([[1] * 9999] * 99)|sum(start=[]) }}",
    "a long template": "{# " + "a" * 2_000_000 + " #}",
}


@pytest.mark.slow
@pytest.mark.parametrize("source", COSTLY.values(), ids=COSTLY.keys())
def test_what_would_cost_too_much_is_refused(source, monkeypatch):
    monkeypatch.setattr("runtime.prompt.budget.MAX_SECONDS", 0.5)
    began, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(TemplateError) as caught:
        ChatTemplate(source, FAMILY, ()).render(QUESTION)
    assert time.process_time() - began < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1_000_000  # kB
    assert "\n" not in str(caught.value)
    assert caught.value.hint


FAILING = {
    "a division by nothing": ("{{ 1/0 }}", "division by zero"),
    "raise_exception": (
        "{{ raise_exception('no\x1b[31m\nsystem\r\u202emessage') }}",
        "no\ufffd[31m system \ufffdmessage",
    ),
    "a long text of it": ("{{ raise_exception('x' * 100000) }}", "xxx…"),
    "deep": ("{{ " + "(" * 5000 + ")" * 5000 + " }}", ""),
    "many blocks": ("{% for a in [1] %}" * 60 + "{% endfor %}" * 60, ""),
    "an index": ("{{ [][0].x }}", "no element 0"),
}


@pytest.mark.parametrize(("source", "words"), FAILING.values(), ids=FAILING.keys())
def test_what_fails_is_the_templates_error_in_a_line(source, words):
    with pytest.raises(TemplateError) as caught:
        ChatTemplate(source, FAMILY, ()).render(QUESTION)
    assert words in str(caught.value)
    assert str(caught.value).isprintable() or "\ufffd" in str(caught.value)
    assert len(str(caught.value)) < 500


ALLOWED = {
    "{% for m in messages %}{{ loop.index }}/{{ loop.length }}{{ loop.last }} {% endfor %}": "1/1True ",
    "{% for m in messages[::-1] %}{{ m.role }}{% endfor %}": "user",
    "{{ messages[0].content[:2] ~ 1 ~ none ~ missing }}": "Hi1None",
    "{{ '%s, %05d' % ('a', 12) }} {{ '{:>4}'.format(7) }} {{ '-' * 3 }}": "a, 00012    7 ---",
    "{{ [1, 'a']|join(', ') }} {{ messages|map(attribute='role')|join('|') }}": "1, a user",
    "{{ [{'a': 1}]|join(attribute='a') }} {{ {'a': [1]}|tojson(indent=2) }}": '1 {\n  "a": [\n    1\n  ]\n}',
    "{{ ('user' in ['user']) and missing is not defined }} {{ [3, 1]|sort }} {{ 2**10 }}": "True [1, 3] 1024",
}


@pytest.mark.parametrize(("source", "text"), ALLOWED.items())
def test_templates_may_do_what_templates_do(source, text):
    assert "".join(ChatTemplate(source, FAMILY, ()).render(QUESTION)) == text


def test_a_long_chat_is_laid_out():
    said = [Message(role, "word " * 20_000) for role in ("user", "assistant") * 20]
    source = (
        "{% set ns = namespace(t='') %}{% for m in messages %}{% set ns.t = ns.t + m.content %}{% endfor %}{{ ns.t }}"
    )
    assert "".join(ChatTemplate(source, FAMILY, ()).render(said)) == "word " * 20_000 * 40
