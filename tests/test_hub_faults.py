"""A hub on a bad day: whatever goes wrong while a model is fetched is one line that names the cause, and a cure."""

import errno
import os
import re
import subprocess
import sys

import pytest

from edge.hub import download as hub_download
from edge.hub.errors import map_hub_error
from edge.hub.resolve import resolve_checkpoint
from runtime.errors import CheckpointError

from . import hub_server
from .hub_server import REPOSITORY, hub, refuses
from .serving import free_port
from .test_hub import DEMO, FILES, ROOT

pytest.importorskip("huggingface_hub")
WEIGHTS = os.urandom(300_000)
SHARDS = {"config.json": b"{}", "a.safetensors": WEIGHTS, "b.safetensors": WEIGHTS[::-1]}


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    """A cache of its own, no token, and no long waits."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(hub_download, "RETRY_DELAYS", (0.01, 0.01))
    monkeypatch.setattr(hub_download, "TIMEOUT", 1.0)
    return tmp_path / "cache"


def fetch(monkeypatch, endpoint, name=REPOSITORY):
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    return resolve_checkpoint(name)


def failure(monkeypatch, endpoint, name=REPOSITORY):
    with pytest.raises(CheckpointError) as caught:
        fetch(monkeypatch, endpoint, name)
    said = str(caught.value), caught.value.hint
    assert all(text and "\n" not in text and len(text) < 300 for text in said)
    return " | ".join(said)


REJECTED = refuses(401, X_Error_Message="Invalid credentials in Authorization header")
ANSWERS = {
    "unknown": (refuses(404, X_Error_Code="RepoNotFound"), {}, "no such model on the hub .*edge models"),
    "unknown to a mirror": (refuses(404), {}, "no such model on the hub"),
    "its terms": (refuses(403, X_Error_Code="GatedRepo"), {}, "requires you to accept its terms"),
    "an expired token": (REJECTED, {"HF_TOKEN": "hf_old"}, "rejects your token, .*expired .*HF_TOKEN"),
    "no token": (refuses(401), {}, "requires a login"),
    "no right": (refuses(403, X_Error_Message="No access"), {}, r"no access to .*\(No access\)"),
    "a token of two lines": (None, {"HF_TOKEN": "hf_ä\nb"}, "your token contains characters"),
    "too often": (refuses(429, Retry_After="30"), {}, "rate limit is reached .*in 30 s"),
    "too often, as the hub says it": (refuses(429, RateLimit='"api";r=0;t=55'), {}, "rate limit .*in 55 s"),
    "a proxy's password": (refuses(407), {}, "the proxy requires a user name and password"),
    "down": (refuses(503), {}, r"the hub fails \(503\)"),
    "broken": (refuses(500, b"<html>"), {}, r"the hub fails \(500\)"),
    "a teapot": (refuses(418, X_Error_Message="no coffee"), {}, r"rejects the request \(418\) no coffee"),
    "a login of the network": (refuses(511, b"<html>"), {}, "requires a login first"),
    "a portal": (hub_server.portal, {}, "does not respond like the hub .*login"),
    "a portal elsewhere": (hub_server.portal_elsewhere, {}, "does not respond like the hub"),
    "a portal for files": (hub_server.portal_for_files, {}, "does not respond like the hub"),
    "another service": (hub_server.another_service, {}, "does not respond like the hub .*HF_ENDPOINT"),
    "a download that breaks off": (hub_server.breaks_off, {}, "closed the connection .*download resumes"),
    "no answer": (hub_server.hangs_up, {}, "closed the connection"),
    "silence": (hub_server.is_silent, {}, "did not answer in time"),
}


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "environment", "words"), ANSWERS.values(), ids=ANSWERS.keys())
def test_what_the_hub_answers(monkeypatch, fault, environment, words):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with hub(FILES, fault) as server:
        assert re.search(words, failure(monkeypatch, server.url))


ENDPOINTS = {
    "huggingface.co": "HF_ENDPOINT is 'huggingface.co', .* begin with http",
    "": "HF_ENDPOINT is ''",
    "ftp://huggingface.co": "begin with http",
    "https://": "has no host name",
    "http://[::1": "not the URL of a hub: Invalid IPv6",
    "http://127.0.0.1:99999": "Port out of range",
    "http://127.0.0.1:port": "not the URL of a hub: Port",
    "http://exa mple.org": "contains a blank",
    "http://a..b": "its host name is not valid",
    "http://no-such-host.invalid": "the hub cannot be reached: the name no-such-host.invalid cannot be looked up",
}


@pytest.mark.parametrize(("endpoint", "words"), ENDPOINTS.items())
def test_an_endpoint_that_is_none(monkeypatch, endpoint, words):
    assert re.search(words, failure(monkeypatch, endpoint))


def test_nobody_listens(monkeypatch):
    port = free_port()
    assert f"127.0.0.1:{port} refused the connection" in failure(monkeypatch, f"http://127.0.0.1:{port}")


@pytest.mark.parametrize("name", ["a-/b", "a/b--c", "a/" + "b" * 100])
def test_what_cannot_be_a_name(monkeypatch, name):
    with hub(FILES) as server:
        assert "is not a valid model name" in failure(monkeypatch, server.url, name)


PLACES = {"a file": "a part of this path is a file|a file in the place of a folder", "under a file": "is a file"}


@pytest.mark.parametrize(("place", "words"), PLACES.items())
def test_a_cache_that_cannot_be(monkeypatch, tmp_path, place, words):
    from huggingface_hub import constants

    (tmp_path / "file").write_text("")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "file" / ("" if place == "a file" else "cache")))
    with hub(FILES) as server:
        assert re.search(f"cannot be downloaded into .*({words}).*HF_HOME", failure(monkeypatch, server.url))


LIMITED = """
import resource, signal, sys
from edge.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="has no such limits")
def test_a_file_that_may_not_grow(tmp_path):
    with hub(SHARDS) as server:
        said = run(server.url, tmp_path, "convert", REPOSITORY, "out", code=LIMITED)
    assert re.fullmatch(r"error: .* cannot be downloaded into .*larger than the file system.*\nhint: .*\n", said.stderr)


ERRNOS = {
    errno.ENOSPC: "the disk is full .*free some space",
    errno.EDQUOT: "quota",
    errno.EACCES: "permission denied",
    errno.EROFS: "read-only",
    errno.EIO: "reports an error",
}


@pytest.mark.parametrize(("code", "words"), ERRNOS.items(), ids=errno.errorcode.get)
def test_what_the_file_system_refuses(code, words):
    for cause in (OSError(code, os.strerror(code), "/cache/file"), RuntimeError(f"xet: failed (os error {code})")):
        if code == errno.EACCES and isinstance(cause, RuntimeError):
            continue  # might be a socket's
        told = map_hub_error(cause, REPOSITORY, "https://huggingface.co", "/cache")
        assert re.search(f"downloaded into /cache.*{words}", f"{told} | {told.hint}")


def test_a_download_goes_on_within_a_call(monkeypatch):
    with hub(SHARDS, hub_server.breaks_off_once()) as server:
        folder = fetch(monkeypatch, server.url)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == SHARDS
    first, second = (start for how, path, start in server.asked if how == "GET" and path.endswith("a.safetensors"))
    assert (first, second > 100_000) == (0, True)


def test_a_download_goes_on_in_the_next_call(monkeypatch):
    def dies_in_the_second(request, path):
        return path.endswith("b.safetensors") and hub_server.breaks_off(request, path)

    with hub(SHARDS, dies_in_the_second) as server:
        assert "closed the connection" in failure(monkeypatch, server.url)
        server.fault = None
        server.asked.clear()
        folder = fetch(monkeypatch, server.url)
        assert {file.name: file.read_bytes() for file in folder.iterdir()} == SHARDS
    fetched = [(path[-13:], start) for method, path, start in server.asked if method == "GET" and "resolve" in path]
    assert ("a.safetensors", 0) not in fetched
    (start,) = (start for name, start in fetched if name == "b.safetensors")
    assert start > 100_000


def test_a_server_without_ranges_starts_again(monkeypatch):
    def whole(request, path):
        if request.command == "HEAD" or not path.endswith("a.safetensors"):
            return False
        cut = 1000 if [asked[1] for asked in request.server.asked].count(path) == 2 else None  # 1 was HEAD
        request.send_file(WEIGHTS, cut=cut)
        return True

    with hub(SHARDS, whole) as server:
        assert (fetch(monkeypatch, server.url) / "a.safetensors").read_bytes() == WEIGHTS


def test_what_came_damaged_is_fetched_again(monkeypatch):
    def damaged(request, path):
        if request.command == "HEAD" or not path.endswith("a.safetensors"):
            return False
        request.send(200, bytes(len(WEIGHTS)))
        return True

    with hub(SHARDS, damaged) as server:
        assert "arrived damaged" in failure(monkeypatch, server.url)
        server.fault = None
        assert (fetch(monkeypatch, server.url) / "a.safetensors").read_bytes() == WEIGHTS


def test_half_a_cache_is_no_model(monkeypatch):
    """Without a network, what an earlier call has left in part is not taken for the whole."""
    with hub(SHARDS, lambda request, path: path.endswith("b.safetensors") and refuses(404)(request, path)) as server:
        failure(monkeypatch, server.url)
        server.fault = hub_server.hangs_up
        failure(monkeypatch, server.url)


def run(endpoint, home, *arguments, code="", **environment):
    """`edge` with these arguments, in a process of its own."""
    names = {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, *(("-c", code) if code else ("-m", "edge")), *arguments]
    ours = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    return subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=home, env=ours | names | environment
    )


def test_offline_is_what_was_asked_for(tmp_path):
    with hub(FILES) as server:
        done = run(server.url, tmp_path, "convert", REPOSITORY, "out", HF_HUB_OFFLINE="1")
        assert "HF_HUB_OFFLINE is set" in done.stderr
        assert server.asked == []


NOWHERE = f"http://127.0.0.1:{free_port()}"
AROUND = {  # for a hub elsewhere; HUB is the one on this machine
    "a SOCKS proxy": (
        "https://hub.invalid",
        {"ALL_PROXY": "socks5://127.0.0.1:9"},
        "SOCKS proxy|of ALL_PROXY|looked up",
    ),
    "a SOCKS proxy for others": (
        "http://hub.invalid",
        {"ALL_PROXY": "socks5://127.0.0.1:9", "NO_PROXY": "hub.invalid"},
        "the name hub.invalid cannot be looked up",
    ),
    "a proxy that is no URL": ("http://hub.invalid", {"HTTP_PROXY": "http://p:99999"}, "is no URL of a proxy: Port"),
    "a proxy that is gone": (
        "http://hub.invalid",
        {"HTTP_PROXY": NOWHERE},
        f"the proxy {NOWHERE} of HTTP_PROXY refused",
    ),
    "a proxy with a password": (
        "http://hub.invalid",
        {"HTTP_PROXY": NOWHERE.replace("//", "//me:secret@")},
        f"the proxy {NOWHERE} of HTTP_PROXY refused",
    ),
    "a proxy of an unknown kind": (
        "http://hub.invalid",
        {"HTTP_PROXY": "gopher://127.0.0.1:9"},
        "unsupported kind|proxy",
    ),
    "stale certificates": (
        "https://127.0.0.1:9",
        {"SSL_CERT_FILE": "/nowhere.pem"},
        "SSL_CERT_FILE is /nowhere.pem, which",
    ),
    "a server without TLS": ("HUBs", {}, "does not speak TLS|closed the connection"),
    "proxies before this machine": ("HUB", {"HTTP_PROXY": NOWHERE, "ALL_PROXY": "socks5://127.0.0.1:9"}, ""),
    "stale certificates for none": ("HUB", {"SSL_CERT_FILE": "/nowhere", "REQUESTS_CA_BUNDLE": "/nowhere"}, ""),
}


@pytest.mark.slow
@pytest.mark.parametrize(("endpoint", "environment", "words"), AROUND.values(), ids=AROUND.keys())
def test_what_stands_between(tmp_path, endpoint, environment, words):
    with hub(FILES) as server:
        endpoint = endpoint.replace("HUBs", server.url.replace("http", "https")).replace("HUB", server.url)
        done = run(endpoint, tmp_path, "convert", REPOSITORY, "out", "--quiet", **environment)
    error, hint = done.stderr.splitlines()
    assert error.startswith("error: ")
    assert hint.startswith("hint: ")
    assert "secret" not in done.stderr
    if words:
        assert re.search(words, error)
    else:  # fetched, and then refused by the conversion: it is no checkpoint
        assert "downloaded" not in error
        assert list(tmp_path.rglob("model.safetensors"))


@pytest.mark.slow
def test_a_quiet_conversion_draws_no_bars(tmp_path):
    terminal, other = os.openpty() if hasattr(os, "openpty") else pytest.skip("has no pseudo-terminals")
    with hub(DEMO) as server:
        environment = os.environ | {"HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path), "HF_HUB_DISABLE_XET": "1"}
        command = [sys.executable, "-m", "edge", "convert", REPOSITORY, str(tmp_path / "out"), "--quiet"]
        done = subprocess.run(
            command, stdout=other, stderr=other, stdin=subprocess.DEVNULL, env=environment, check=False, cwd=ROOT
        )
    os.close(other)
    try:
        drawn = os.read(terminal, 10_000)
    except OSError:  # nothing was written
        drawn = b""
    os.close(terminal)
    assert (done.returncode, drawn) == (0, b"")
