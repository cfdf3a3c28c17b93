"""Requests that come in part, or not at all, against a real server."""

import logging
import os
import socket
import subprocess
import sys
import time
from contextlib import suppress
from urllib.parse import urlsplit

import httpx2
import pytest

from edge.server.limits import Limits
from edge.server.logs.log import RepeatFilter
from edge.server.transport.connections import http_protocol

from .serving import free_port, scripted, serving_ours

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
HALVES = {
    "nothing": b"",
    "half a line": b"POST /v1/chat",
    "half the headers": HEAD,
    "no body": HEAD + b"Content-Length: 100\r\n\r\n",
    "half a body": HEAD + b'Content-Length: 100\r\n\r\n{"messages": [',
    "half a chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\n40\r\nabc",
    "refused, and half a body": HEAD.replace(b"localhost", b"evil.com") + b"Content-Length: 100\r\n\r\n{",
}
LIMITS = Limits(header_seconds=0.5, body_seconds=1.0, connections=8)


@pytest.fixture(scope="module")
def address(demo_folder):
    with serving_ours(demo_folder.path, limits=LIMITS) as (url, _):
        yield urlsplit(url).hostname, urlsplit(url).port


def opened(address, sent=b""):
    connection = socket.create_connection(address, timeout=10)
    connection.sendall(sent)
    return connection


def read_all(connection):
    with connection:
        parts = []
        while part := connection.recv(65536):
            parts.append(part)
        return b"".join(parts)


def is_healthy(address):
    return httpx2.get(f"http://{address[0]}:{address[1]}/health", timeout=10).status_code == 200


@pytest.mark.parametrize("sent", HALVES.values(), ids=HALVES)
def test_half_a_request_ends(address, sent):
    start = time.monotonic()
    answer = read_all(opened(address, sent))
    assert LIMITS.header_seconds <= time.monotonic() - start + 0.1 < 5
    assert answer.startswith((b"HTTP/1.1 408", b"HTTP/1.1 403"))
    assert answer.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize("head", [b"", HEAD + b"Content-Length: 100000\r\n\r\n"], ids=["headers", "body"])
def test_a_byte_now_and_then_wins_no_time(address, head):
    connection = opened(address, head)
    start = time.monotonic()
    try:
        while time.monotonic() - start < 10:
            connection.sendall(b"a")
            time.sleep(0.05)
    except (BrokenPipeError, ConnectionResetError):
        pass
    connection.close()
    assert time.monotonic() - start < 5


def test_half_a_request_after_a_whole_one_ends(address):
    whole = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    connection = opened(address, whole)
    first = b""
    while not first.endswith(b"}"):
        first += connection.recv(65536)
    connection.sendall(whole[:20])
    start = time.monotonic()
    assert read_all(connection).startswith(b"HTTP/1.1 408")
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("sent", HALVES.values(), ids=HALVES)
def test_there_is_room_beside_half_requests(address, sent):
    halves = [opened(address, sent) for _ in range(3 * LIMITS.connections)]
    for _ in range(5):
        assert is_healthy(address)
    for half in halves:
        half.close()


@pytest.mark.slow
def test_who_waits_for_an_answer_keeps_the_connection(demo_folder):
    """With as many answers under way as there is room for, who comes is turned away with a word."""
    with scripted(demo_folder, ["word " * 20] * 2, pause=0.02, limits=Limits(connections=2)) as (url, *_):
        body = {"messages": [{"role": "user", "content": "hi"}], "stream": True}
        with (
            httpx2.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=30) as one,
            httpx2.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=30) as other,
        ):
            assert (one.status_code, other.status_code) == (200, 200)
            refused = read_all(opened((urlsplit(url).hostname, urlsplit(url).port)))
            assert refused.startswith(b"HTTP/1.1 503")
            for stream in (one, other):
                assert stream.read().endswith(b"data: [DONE]\n\n")


def test_an_idle_connection_makes_room(address):
    whole = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    idle = [opened(address, whole) for _ in range(LIMITS.connections)]
    for connection in idle:
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
    assert is_healthy(address)
    for connection in idle:
        connection.close()


@pytest.mark.slow
def test_a_client_that_does_not_read_is_disconnected(address):
    one, count = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n", 500
    connection = opened(address, one * count)
    time.sleep(LIMITS.body_seconds + 2)
    assert is_healthy(address)
    answered = b""
    with suppress(ConnectionResetError):
        answered = read_all(connection)
    assert answered.count(b"HTTP/1.1 200") < count


def test_the_limits_are_those_of_the_document():
    limits = Limits()
    assert (limits.header_seconds, limits.body_seconds, limits.connections) == (10, 60, 512)
    room = http_protocol(limits).keywords["room"]
    if sys.platform == "win32":
        assert room == 512
    else:
        import resource

        assert room == min(512, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="descriptors are limited on POSIX")
def test_a_server_with_few_descriptors_answers_and_logs_little(demo_folder, tmp_path):
    port = free_port()
    serve = f"ulimit -n 128; exec {sys.executable} -m edge serve {demo_folder.path} --port {port} --device CPU"
    log = tmp_path / "log"
    with log.open("wb") as out:
        server = subprocess.Popen(["sh", "-c", serve], stdout=out, stderr=out, env=os.environ | {"EDGE_QUIET": "1"})
    try:
        address = ("127.0.0.1", port)
        for _ in range(600):
            try:
                if is_healthy(address):
                    break
            except httpx2.TransportError:
                time.sleep(0.1)
        halves = [opened(address, b"POST /v1") for _ in range(300)]
        for _ in range(10):
            assert is_healthy(address)
        for half in halves:
            half.close()
    finally:
        server.terminate()
        assert server.wait(30) == 0
    assert log.stat().st_size < 5_000, log.read_text()


def test_a_fault_that_repeats_is_logged_once_a_minute(caplog):
    once = RepeatFilter(1.5)
    logger = logging.getLogger("edge.test")
    caplog.set_level(logging.INFO, logger.name)
    logger.addFilter(once)
    for _ in range(500):
        logger.error("the disk is full")
        logger.warning("something else: %d", 5)
        logger.info("a request")
    time.sleep(1.6)
    logger.error("the disk is full")
    logger.removeFilter(once)
    ours = [record for record in caplog.records if record.name == logger.name and record.levelno >= logging.WARNING]
    said = [record.getMessage() for record in ours]
    assert said == [
        "the disk is full",
        "something else: 5",
        "the disk is full (and 499 times more since the last line)",
    ]
