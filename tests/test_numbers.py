"""Numbers of the command line: out of range, they are refused by the name of their flag before anything is loaded."""

import re

import pytest

from edge.cli import main

FLAGS = {
    "--context": ("chat", "serve", "doctor", "eval", "service install"),
    "--max-new-tokens": ("chat", "complete"),
    "--temperature": ("chat", "complete"),
    "--port": ("serve", "service install"),
    "--prompt-tokens": ("bench",),
    "--new-tokens": ("bench", "eval"),
    "--runs": ("bench",),
    "--rounds": ("research question --model x --docs y",),
    "--max-tokens": ("research question --model x --docs y",),
    "--max-kl": ("eval",),
}
REAL = ("--temperature", "--max-kl")
WRONG = [
    (verb, flag, value)
    for flag, verbs in FLAGS.items()
    for verb in verbs
    for value in ("-5", "abc", "nan", "1e999" if flag in REAL else "1.5", "0")
    if value != "0" or (flag not in (*REAL, "--port") and (verb, flag) != ("eval", "--new-tokens"))
]


@pytest.mark.parametrize(("verb", "flag", "value"), WRONG, ids=lambda value: value)
def test_a_number_out_of_range_is_named(capsys, verb, flag, value):
    folder = [] if verb.startswith("research") else ["nowhere"]
    assert main([*verb.split(), *folder, flag, value]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(rf"error: {flag} .+\nhint: .+\n", err)


@pytest.mark.parametrize("verb", ["chat", "serve", "service install"])
def test_a_context_longer_than_the_models_is_refused(capsys, monkeypatch, demo_folder, verb):
    limit = demo_folder.manifest.context_length
    monkeypatch.setattr("edge.cli.chat.read_stdin", lambda: "Who are you?")
    monkeypatch.setattr("edge.cli.chat.is_terminal", lambda stream: False)
    assert main([*verb.split(), str(demo_folder.path), "--context", str(limit + 1)]) == 1
    assert f"{limit:,}" in capsys.readouterr().err


@pytest.mark.filterwarnings("always")
def test_doctor_says_what_it_looks_at(capsys, demo_folder):
    limit = demo_folder.manifest.context_length
    assert main(["doctor", str(demo_folder.path), "--context", "99999"]) == 0
    out, err = capsys.readouterr()
    assert re.search(rf"^CPU +{limit:,} ", out, re.MULTILINE)
    assert re.fullmatch(rf"note: .*{limit:,}.*99,999\n", err)
