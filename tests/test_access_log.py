"""The access log: a line and a count for every request, whatever became of it, and no word of its text."""

import json
import logging
import re
import socket
import sys
import time
from urllib.parse import urlsplit

import pytest

pytest.importorskip("starlette")
pytest.importorskip("prometheus_client")
httpx2 = pytest.importorskip("httpx2")

from edge.server.limits import Limits  # noqa: E402
from edge.server.logs.log import JsonFormatter  # noqa: E402
from runtime.backends.echo import Echo  # noqa: E402

from .serving import scripted  # noqa: E402
from .test_server import hang_up, until  # noqa: E402

CHAT = "/v1/chat/completions"
SECRET = "a secret word"
ASK = {"messages": [{"role": "user", "content": SECRET}]}
KEY = {"Authorization": "Bearer key"}


class Failing(Echo):
    """An engine that stops in the middle of its reply."""

    def generate(self, request):
        for count, part in enumerate(super().generate(request)):
            if count == 3:
                raise RuntimeError(SECRET)
            yield part


@pytest.fixture
def lines(caplog):
    """The fields of the log's lines so far, once there are `count`, without those of /metrics."""
    caplog.set_level(logging.INFO, "edge.server")

    def read(count):
        def found():
            records = [record.fields for record in caplog.records if hasattr(record, "fields")]
            return [fields for fields in records if fields["path"] != "/metrics"]

        until(lambda: len(found()) >= count)
        assert len(found()) == count
        assert SECRET not in caplog.text
        return found()

    return read


# What is sent, and the path, status, error and count's label in the log.
REQUESTS = {
    "answered": (("POST", CHAT, {"json": ASK}), 200, None, CHAT),
    "a parameter of the path": (("GET", "/v1/models/bare", {}), 200, None, "/v1/models/{name:path}"),
    "invalid": (("POST", CHAT, {"json": {}}), 400, "invalid_value", CHAT),
    "no key": (("POST", CHAT, {"json": ASK, "headers": {"Authorization": ""}}), 401, "invalid_api_key", CHAT),
    "a foreign host": (("POST", CHAT, {"json": ASK, "headers": {"Host": "evil.example"}}), 403, "unknown_host", CHAT),
    "an unknown path": (("GET", f"/nowhere?q={SECRET}", {}), 404, None, "other"),
    "another method": (("PUT", CHAT, {"json": ASK}), 405, None, CHAT),
    "too large": (("POST", CHAT, {"content": b"[" + b"1," * 2**20}), 413, "too_large", CHAT),
}


@pytest.mark.parametrize("case", REQUESTS.values(), ids=REQUESTS)
def test_every_request_is_logged_and_counted(bare_folder, lines, case):
    (method, path, options), status, error, label = case
    with scripted(bare_folder, ["\nHi."], api_key="key", limits=Limits(body_bytes=2**20)) as (url, *_):
        headers = KEY | {"X-Request-ID": "turn-1"} | options.pop("headers", {})
        answer = httpx2.request(method, url + path, headers=headers, timeout=30, **options)
        assert (answer.status_code, answer.headers["x-request-id"]) == (status, "turn-1")
        (fields,) = lines(1)
        assert fields["seconds"] >= 0
        assert (fields["client"], fields["method"], fields["path"]) == ("127.0.0.1", method, path.partition("?")[0])
        assert (fields["status"], fields.get("error"), fields["id"]) == (status, error, "turn-1")
        counted = httpx2.get(f"{url}/metrics", headers=KEY).text
        assert f'edge_requests_total{{path="{label}",status="{status}"}} 1.0' in counted


IDS = [("turn-1", True), ("x" * 128, True), ("x" * 129, False), ("two words", False), ("", False), (None, False)]


@pytest.mark.parametrize(("sent", "kept"), IDS)
def test_an_id_is_taken_from_the_client_or_made(bare_folder, sent, kept):
    with scripted(bare_folder, []) as (url, *_):
        headers = {} if sent is None else {"X-Request-ID": sent}
        ids = [httpx2.get(f"{url}/health", headers=headers).headers["x-request-id"] for _ in range(2)]
    assert (ids == [sent] * 2) is kept
    assert kept or all(re.fullmatch("[0-9a-f]{32}", one) for one in ids)
    assert kept or ids[0] != ids[1]


def test_a_stream_has_its_whole_time_and_its_first_token(bare_folder, lines):
    with scripted(bare_folder, ["\nHi there."], pause=0.05) as (url, *_):
        assert httpx2.post(url + CHAT, json=ASK | {"stream": True}, timeout=30).status_code == 200
        (fields,) = lines(1)
    assert 0 < fields["first_token_seconds"] < fields["seconds"] - 0.2
    assert fields["complete"]


def test_a_stream_that_breaks_off(bare_folder, lines):
    with scripted(bare_folder, ["\nHi there."], engine=Failing, pause=0.05) as (url, *_):
        assert httpx2.post(url + CHAT, json=ASK | {"stream": True}, timeout=30).status_code == 200
        (failed,) = lines(1)
    assert (failed["status"], failed["error"]) == (200, "internal_error")


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_disconnects(bare_folder, lines, stream):
    with scripted(bare_folder, ["\nHi there." * 50], pause=0.02) as (url, dispatcher, _):
        (entry,) = dispatcher.pool.entries.values()
        hang_up(url, ASK | {"stream": stream}, lambda: entry.queue.running == 1 and time.sleep(0.3) is None)
        (fields,) = lines(1)
    assert fields["status"] == (200 if stream else 499)
    assert not fields["complete"]


# What arrives, and the status and the path in the log.
RAW = {
    "half the headers": (b"POST /v1/chat HTTP/1.1\r\n", 408, "-"),
    "half a body": (f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n".encode(), 408, CHAT),
    "no HTTP": (b"\x16\x03\x01 hello\r\n\r\n", 400, "-"),
}


@pytest.mark.parametrize(("sent", "status", "path"), RAW.values(), ids=RAW)
def test_a_request_that_does_not_arrive(bare_folder, lines, sent, status, path):
    with scripted(bare_folder, [], limits=Limits(header_seconds=0.2, body_seconds=0.2)) as (url, *_):
        at = urlsplit(url)
        with socket.create_connection((at.hostname, at.port), timeout=10) as connection:
            connection.sendall(sent)
            answer = b"".join(iter(lambda: connection.recv(65536), b"")).decode()
        (fields,) = lines(1)
        label = "other" if path == "-" else path
        assert f'{{path="{label}",status="{status}"}} 1.0' in httpx2.get(f"{url}/metrics").text
    assert answer.startswith(f"HTTP/1.1 {status}")
    assert f"x-request-id: {fields['id']}" in answer
    assert (fields["status"], fields["path"]) == (status, path)


def test_a_line_of_json():
    try:
        raise ValueError("odd\n值")
    except ValueError:
        fields = {"fields": {"status": 200}}
        record = logging.LogRecord("edge.server", logging.INFO, "", 0, "%s ok\n\x1b", ("GET",), sys.exc_info())
        record.__dict__ |= fields
    line = JsonFormatter().format(record)
    assert "\n" not in line
    assert line.isascii()
    found = json.loads(line)
    assert (found["level"], found["message"], found["status"]) == ("info", "GET ok\n\x1b", 200)
    assert found["time"].endswith("+00:00")
    assert "odd" in found["exception"]
