"""The log of a server without a journal: a file that is rotated, for its owner alone, and a process without streams."""

import io
import logging
import os
import stat
import subprocess
import sys

import pytest

pytest.importorskip("starlette")

from edge.server.logs import log_file
from edge.server.logs.log import LogFormatter
from edge.server.logs.log_file import LogFile, LogStream
from runtime.errors import RequestError

from .serving import free_port


def record(text):
    return logging.LogRecord("edge.server", logging.INFO, "", 0, text, None, None)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


posix = pytest.mark.skipif(os.name != "posix", reason="Windows has no modes")


@posix
def test_files_are_rotated_and_private(tmp_path, monkeypatch):
    monkeypatch.setattr(log_file, "MAX_BYTES", 100)
    handler = LogFile(str(tmp_path / "a.log"))
    for number in range(20):
        handler.handle(record(f"line {number} " + "x" * 60))
    handler.close()
    found = sorted(tmp_path.iterdir())
    assert [path.name for path in found] == ["a.log", "a.log.1", "a.log.2", "a.log.3"]
    assert {mode(path) for path in found} == {0o600}
    assert "line 19" in found[0].read_text(encoding="utf-8")


@posix
def test_the_users_folder_of_logs_is_private(tmp_path, monkeypatch):
    monkeypatch.setattr(log_file, "log_folder", lambda: tmp_path / "state" / "log")
    (tmp_path / "state" / "log").mkdir(parents=True, mode=0o755)
    LogFile("").close()
    assert mode(tmp_path / "state" / "log") == 0o700


def test_a_file_that_cannot_be_renamed_grows_on(tmp_path, monkeypatch):
    """As on Windows, where another server has it open."""
    monkeypatch.setattr(log_file, "MAX_BYTES", 100)
    handler = LogFile(str(tmp_path / "a.log"))
    monkeypatch.setattr(handler, "rotate", lambda *_: (_ for _ in ()).throw(PermissionError(13, "in use")))
    for number in range(10):
        handler.handle(record(f"line {number} " + "x" * 60))
    handler.close()
    assert len((tmp_path / "a.log").read_text(encoding="utf-8").splitlines()) == 10


def test_a_folder_in_place_of_the_file_is_refused(tmp_path):
    with pytest.raises(RequestError, match="cannot be written"):
        LogFile(str(tmp_path))


class FullDisk(io.StringIO):
    def write(self, text):
        raise OSError(28, "No space left on device")


def test_a_failing_log_does_not_lead_to_itself(tmp_path, monkeypatch):
    handler = LogFile(str(tmp_path / "a.log"))
    handler.setFormatter(LogFormatter("%(message)s"))
    monkeypatch.setattr(sys, "stderr", LogStream(handler))
    handler.stream.close()
    handler.stream = FullDisk()
    print("words", file=sys.stderr)
    handler.close()


def test_lines_of_standard_error_are_logged_whole(tmp_path):
    handler = LogFile(str(tmp_path / "a.log"))
    handler.setFormatter(LogFormatter("%(message)s"))
    stream = LogStream(handler)
    for part in ("one\ntw", "o\n", "\n", "\x1b[31mred\n", "three"):
        stream.write(part)
    handler.close()
    assert (tmp_path / "a.log").read_text(encoding="utf-8").splitlines() == ["one", "two", "\ufffd[31mred"]


# pythonw.exe gives its process no standard streams: their descriptors are invalid, and sys.stdout is None.
WITHOUT_STREAMS = """
import os, sys
for number in (0, 1, 2):
    os.close(number)
sys.stdin = sys.stdout = sys.stderr = sys.__stdin__ = sys.__stdout__ = sys.__stderr__ = None
from edge.cli import main
sys.exit(main(sys.argv[1:]))
"""


def start_without_streams(*arguments, **settings):
    return subprocess.run([sys.executable, "-c", WITHOUT_STREAMS, *arguments], check=False, timeout=100, **settings)


def test_an_error_at_the_start_is_in_the_log(tmp_path):
    log = tmp_path / "server.log"
    done = start_without_streams("serve", str(tmp_path / "none"), "--log-file", str(log), cwd=tmp_path)
    assert done.returncode == 1
    assert "error: " in log.read_text(encoding="utf-8")
    assert "hint: " in log.read_text(encoding="utf-8")


@pytest.mark.parametrize("verb", [["devices"], ["doctor", "--json"], ["models"], ["--version"], ["recipes", "none"]])
def test_no_verb_needs_streams(verb, tmp_path):
    assert start_without_streams(*verb, cwd=tmp_path).returncode == (verb[0] == "recipes")


LIBRARY = """
import edge
from edge.demo import CHECKPOINT
edge.convert(CHECKPOINT, sys.argv[1])
with edge.Chat(sys.argv[1]) as chat:
    reply = chat.send("Hello")
with open(sys.argv[1] + ".reply", "w", encoding="utf-8") as file:
    file.write(str(reply))
"""


@pytest.mark.slow
def test_a_windowed_application_converts_and_chats(tmp_path):
    """PyInstaller's windowed applications have no streams, either."""
    code = WITHOUT_STREAMS.partition("from edge.cli")[0] + LIBRARY
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "model")], check=False, timeout=100)
    assert done.returncode == 0
    assert (tmp_path / "model.reply").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_server_without_streams_answers_and_logs(tmp_path, demo_folder):
    import httpx2

    from .test_server import until

    log, port = tmp_path / "server.log", free_port()
    words = ["serve", str(demo_folder.path), "--port", str(port), "--log-file", str(log)]
    server = subprocess.Popen([sys.executable, "-c", WITHOUT_STREAMS, *words])

    def answers():
        try:
            return httpx2.get(f"http://127.0.0.1:{port}/health").status_code == 200
        except httpx2.HTTPError:
            return False

    try:
        until(answers)
        ask = {"messages": [{"role": "user", "content": "a secret word"}], "max_tokens": 4}
        assert httpx2.post(f"http://127.0.0.1:{port}/v1/chat/completions", json=ask, timeout=60).status_code == 200
        until(lambda: "POST" in log.read_text(encoding="utf-8"))
    finally:
        server.terminate()
        server.wait(30)
    text = log.read_text(encoding="utf-8")
    assert "is the chat page" in text
    assert "secret" not in text
