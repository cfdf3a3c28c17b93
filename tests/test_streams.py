"""Pipes of any encoding, in and out, and streams that are closed: no verb ends in a traceback."""

import codecs
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edge.catalogue import CATALOGUE
from edge.cli.streams import decode_input, spell_out

ROOT = Path(__file__).resolve().parents[1]
EDGE = (sys.executable, "-m", "edge")
CHINESE = "你是谁？"
IN = {
    "UTF-8": (CHINESE.encode(), "utf-8", CHINESE),
    "UTF-8 with a mark": (CHINESE.encode("utf-8-sig"), "utf-8", CHINESE),
    "UTF-8 to a system of Latin-1": (CHINESE.encode(), "latin-1", CHINESE),
    "UTF-16": (CHINESE.encode("utf-16"), "utf-8", CHINESE),
    "UTF-16, the other way round": ("\ufeffWho are you?".encode("utf-16-be"), "utf-8", "Who are you?"),
    "UTF-16 without a mark": ("Who? 你\r\n".encode("utf-16-le"), "cp1252", "Who? 你\r\n"),
    "UTF-16 without a mark, the other way round": ("Who? 你\n".encode("utf-16-be"), "utf-8", "Who? 你\n"),
    "half a character of UTF-16": (b"\xff\xfea\x00b", "utf-8", "a�"),
    "UTF-32": ("Who? 你".encode("utf-32"), "utf-8", "Who? 你"),
    "the country's own": ("Où ça ?".encode("cp1252"), "cp1252", "Où ça ?"),
    "GBK": (CHINESE.encode("gbk"), "gbk", CHINESE),
    "no text at all": (b"\xff\xfa\x80", "cp1252", "ÿú€"),
    "nothing": (b"", "cp1252", ""),
}


@pytest.mark.parametrize(("data", "declared", "text"), IN.values(), ids=IN.keys())
def test_what_is_piped_in_is_read(data, declared, text):
    assert decode_input(data, declared) == text


OUT = [
    ("你…", "cp437", r"\u4f60..."),
    ("é你", "cp1252", r"é\u4f60"),
    ("a\udce9", "utf-8", r"a\udce9"),
    ("ü🎉", "gbk", r"ü\U0001f389"),
]


@pytest.mark.parametrize(("text", "encoding", "wanted"), OUT, ids=[encoding for _, encoding, _ in OUT])
def test_what_an_encoding_has_not_is_spelled_out(text, encoding, wanted):
    codecs.register_error("spelled", spell_out)
    assert text.encode(encoding, "spelled").decode(encoding) == wanted


def run(*arguments, data=b"", **environment):
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "LC_", "LANG"))}
    return subprocess.run(
        [*EDGE, *arguments], input=data, capture_output=True, check=False, cwd=ROOT, env=clean | environment
    )


ENCODINGS = {
    "a country's": {"PYTHONIOENCODING": "cp1252"},
    "an old console's": {"PYTHONIOENCODING": "cp437"},
    "strict": {"PYTHONIOENCODING": "cp1252:strict"},
    "UTF-8, strict": {"PYTHONIOENCODING": ":surrogateescape"},
    "UTF-16": {"PYTHONIOENCODING": "utf-16"},
    "ASCII": {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
}


@pytest.mark.slow
@pytest.mark.parametrize("environment", ENCODINGS.values(), ids=ENCODINGS.keys())
def test_every_table_is_printed(environment):
    for verb in (["models"], ["recipes"], ["--help"], ["chat", "nowhere-你"], ["models", "--json"]):
        done = run(*verb, data=b"?", **environment)
        assert b"Traceback" not in done.stderr, done.stderr
        assert done.returncode == (verb[0] == "chat")
    own = environment.get("PYTHONIOENCODING", "").partition(":")[0] or "utf-8"
    assert [entry["name"] for entry in json.loads(done.stdout.decode(own))] == list(CATALOGUE)


@pytest.mark.slow
def test_an_answer_in_chinese(demo_folder):
    chat = ("chat", str(demo_folder.path), "--device", "CPU")
    plain = run(*chat, data=CHINESE.encode(), PYTHONIOENCODING="utf-8").stdout.decode()
    assert any("\u4e00" <= char <= "\u9fff" for char in plain)
    ascii_locale = ENCODINGS["ASCII"]
    assert run(*chat, data=CHINESE.encode("utf-16"), **ascii_locale).stdout.decode() == plain  # a pipe gets UTF-8
    done = run(*chat, data=CHINESE.encode(), PYTHONIOENCODING="cp1252")
    assert (done.returncode, done.stderr) == (0, b"")
    codecs.register_error("spelled", spell_out)
    assert done.stdout == plain.encode("cp1252", "spelled")
    for data in (b"\xc4\xe3", b"hi \xf0\x9f", b"\xff\xfe\x3d\xd8"):
        done = run(*chat, data=data, PYTHONIOENCODING="ascii")
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout.strip()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="arguments are Unicode there")
def test_arguments_that_are_no_unicode(demo_folder):
    chat = (b"chat", os.fsencode(demo_folder.path), b"--device", b"CPU", b"--system", b"\xc4\xe3")
    done = subprocess.run([*EDGE, *chat], input=b"Who are you?", capture_output=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, b"")
    complete = (b"complete", os.fsencode(demo_folder.path), b"--prompt", b"\xe9t\xe9", b"--max-new-tokens", b"3")
    done = subprocess.run([*EDGE, *complete], capture_output=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, b"")
    done = subprocess.run([*EDGE, b"inspect", b"caf\xe9"], capture_output=True, check=False, cwd=ROOT)
    assert done.returncode == 1
    assert done.stderr.startswith(b"error: ")


@pytest.mark.slow
def test_the_demo_on_an_old_console():
    done = run("demo", PYTHONIOENCODING="cp437")
    assert (done.returncode, done.stderr) == (0, b"")
    assert "with the recipe int4-fit ..." in done.stdout.decode("cp437")


CLOSED = {"input": "<&-", "output": ">&-", "errors": "2>&-", "all": "<&- >&- 2>&-"}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="it takes a POSIX shell")
@pytest.mark.parametrize("closed", CLOSED.values(), ids=CLOSED.keys())
def test_streams_that_are_closed(demo_folder, closed):
    for arguments, status in ((["models"], 0), (["chat", str(demo_folder.path), "--device", "CPU"], None)):
        command = f'exec "$0" "$@" {closed}'
        done = subprocess.run(
            ["sh", "-c", command, *EDGE, *arguments], input=b"Who are you?", capture_output=True, check=False, cwd=ROOT
        )
        assert b"Traceback" not in done.stderr
        assert b"Exception" not in done.stderr
        assert done.returncode == (int("<" in closed) if status is None else status)
        if "<" in closed and "2>" not in closed and status is None:
            assert done.stderr.startswith(b"error: there is no question")


NOTHING = {
    "an empty pipe": ("chat",),
    "an empty prompt": ("complete", "--prompt", ""),
    "blanks": ("complete", "--prompt", " \n"),
    "an empty pipe to complete": ("complete",),
}


@pytest.mark.parametrize("arguments", NOTHING.values(), ids=NOTHING.keys())
def test_nothing_gets_no_answer(demo_folder, arguments):
    verb, *rest = arguments
    done = run(verb, str(demo_folder.path), *rest, data=b" \n" if verb == "chat" else b"\n")
    assert (done.returncode, done.stdout) == (1, b"")
    first, second = done.stderr.decode().splitlines()
    assert first.startswith("error: ")
    assert second.startswith("hint: ")
