"""The Containerfile, by a parser of our own: no image is built here."""

import json
import re
import shlex
from pathlib import Path

import pytest

from edge.cli import parser

ROOT = Path(__file__).resolve().parents[1]
INSTRUCTIONS = {
    *("FROM", "LABEL", "RUN", "COPY", "ENV", "USER", "WORKDIR", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK"),
    *("ENTRYPOINT", "CMD", "ARG", "VOLUME", "SHELL", "ADD"),
}


def instructions():
    text = (ROOT / "Containerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [tuple(line.split(maxsplit=1)) for line in lines]


def values(name):
    return [value for found, value in instructions() if found == name]


def test_every_line_is_an_instruction():
    assert {name for name, _ in instructions()} <= INSTRUCTIONS
    assert instructions()[0][0] == "FROM"
    for name in ("ENTRYPOINT", "CMD"):
        (value,) = values(name)
        assert all(isinstance(word, str) for word in json.loads(value))
    for value in values("RUN"):
        shlex.split(value)


def test_what_linters_ask_for():
    """hadolint's rules that concern it: DL3002, DL3006, DL3007, DL3020, DL3025, DL3042, DL3045, DL4006."""
    (base,) = values("FROM")
    assert re.fullmatch(r"\S+:(?!latest)\S+", base)
    assert values("USER")[-1] not in ("root", "0")
    assert not values("ADD")
    assert all("--no-cache-dir" in value for value in values("RUN") if "pip install" in value)
    assert all("|" not in value and "sudo" not in value for value in values("RUN"))
    assert all(value.split()[-1].startswith("/") for value in values("COPY"))


def test_what_is_copied_is_there_and_not_ignored(sources):
    ignored = (ROOT / ".containerignore").read_text(encoding="utf-8").splitlines()
    for value in values("COPY"):
        for source in value.split()[:-1]:
            assert (ROOT / source).exists()
            assert f"!{source}" in ignored


def test_it_starts_a_server_that_others_reach():
    command = [*json.loads(values("ENTRYPOINT")[0]), *json.loads(values("CMD")[0])]
    assert command[0] == "edge"
    args = vars(parser().parse_args(command[1:]))
    assert (args["folder"], args["server.host"]) == (["/model"], "0.0.0.0")
    assert args["server.api_key_file"] == "/keys.txt"
    assert str(args["server.port"]) in values("EXPOSE")


@pytest.mark.parametrize("line", ["edge/server/static/vendor/LICENSES.txt", "LICENSE"])
def test_licences_are_within(sources, line):
    assert (ROOT / line).is_file()
