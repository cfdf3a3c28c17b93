"""How the server is reached: TCP, a Unix domain socket, HTTPS, below a proxy's path, and by clients' many spellings."""

import json
import shutil
import socket
import ssl
import subprocess
import sys
from contextlib import closing

import pytest

pytest.importorskip("starlette")
pytest.importorskip("prometheus_client")
httpx2 = pytest.importorskip("httpx2")

from edge.cli import main  # noqa: E402
from edge.server.app import ENDPOINTS  # noqa: E402
from edge.server.guard.path_normalizer import PathNormalizer  # noqa: E402
from edge.server.run import uvicorn_config  # noqa: E402
from edge.server.settings import ServerSettings  # noqa: E402
from edge.server.transport.listener import listen, require_certificate  # noqa: E402
from runtime.errors import RequestError  # noqa: E402

from .serving import scripted  # noqa: E402
from .test_server import ASK, CHAT  # noqa: E402

unix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no Unix domain sockets")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A folder with certificates for localhost and their keys: cert.pem and key.pem, both in both.pem; other.pem is
    another key, encrypted.pem the first one with a password."""
    if not (openssl := shutil.which("openssl")):
        pytest.skip("needs openssl to make one")
    folder = tmp_path_factory.mktemp("certificate")

    def run(arguments):
        subprocess.run([openssl, *arguments.split()], check=True, capture_output=True, cwd=folder)

    names = "-subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1"
    run(f"req -x509 -newkey rsa:2048 -nodes -days 2 {names} -keyout key.pem -out cert.pem")
    run("genpkey -algorithm RSA -out other.pem")
    run("pkey -in key.pem -aes128 -passout pass:secret -out encrypted.pem")
    (folder / "both.pem").write_text((folder / "key.pem").read_text() + (folder / "cert.pem").read_text())
    return folder


@pytest.mark.parametrize("files", [("cert.pem", "key.pem"), ("both.pem", None)])
def test_it_speaks_https(bare_folder, certificate, files):
    cert, key = (name and str(certificate / name) for name in files)
    trusted = ssl.create_default_context(cafile=str(certificate / "cert.pem"))
    with scripted(bare_folder, ["\nHello there."], ssl_cert=cert, ssl_key=key) as (url, *_):
        assert url.startswith("https://127.0.0.1:")
        with httpx2.Client(base_url=url, verify=trusted, trust_env=False) as client:
            with client.stream("POST", CHAT, json=ASK | {"stream": True}) as stream:
                assert list(stream.iter_lines())[-2] == "data: [DONE]"
            assert client.get("/v1/models").status_code == 200
        with pytest.raises(httpx2.TransportError):
            httpx2.get(url.replace("https", "http"), trust_env=False)


@pytest.mark.parametrize(
    ("cert", "key", "words"),
    [
        ("nowhere.pem", None, "nowhere.pem cannot be read"),
        ("cert.pem", "nowhere.pem", "nowhere.pem cannot be read"),
        ("cert.pem", None, "cert.pem has no private key"),
        ("key.pem", None, "key.pem has no certificate"),
        ("cert.pem", "other.pem", "other.pem is not that of the certificate"),
        ("cert.pem", "encrypted.pem", "encrypted.pem is encrypted"),
        (None, "key.pem", "--ssl-key has no certificate"),
        ("damaged.pem", "key.pem", "damaged.pem and .*key.pem cannot be used"),
    ],
)
def test_files_that_are_not_a_certificate_and_its_key(certificate, cert, key, words):
    damaged = (certificate / "cert.pem").read_text().splitlines()
    (certificate / "damaged.pem").write_text("\n".join([damaged[0], *reversed(damaged[1:-1]), damaged[-1]]))
    cert, key = (name and str(certificate / name) for name in (cert, key))
    with pytest.raises(RequestError, match=words) as found:
        require_certificate(ServerSettings(ssl_cert=cert, ssl_key=key))
    assert found.value.hint


@unix
def test_it_listens_on_a_unix_socket(bare_folder, tmp_path):
    path = tmp_path / "edge.sock"
    with scripted(bare_folder, ["\nHello there."], uds=str(path)) as (url, *_):
        assert url == "http://localhost"
        with httpx2.Client(base_url=url, transport=httpx2.HTTPTransport(uds=str(path))) as client:
            assert client.post(CHAT, json=ASK).json()["choices"][0]["message"]["content"] == "Hello there."
            assert client.get("/metrics").status_code == 200
            assert client.get("/", headers={"host": "evil.example"}).status_code == 403
    assert not path.exists()


@unix
def test_a_stale_socket_file_is_replaced(tmp_path):
    path = tmp_path / "edge.sock"
    settings = ServerSettings(uds=str(path))
    with closing(socket.socket(socket.AF_UNIX)) as dead:
        dead.bind(str(path))
    with listen(settings) as listener:
        assert listener.address == f"unix:{path} (http://localhost)"
        with pytest.raises(RequestError, match=r"another server listens on .*edge\.sock"), listen(settings):
            pass
        assert path.is_socket()
        path.unlink()
        path.write_text("another's")  # as if another server had replaced it
    assert path.read_text() == "another's"


@unix
@pytest.mark.parametrize(
    ("name", "words"),
    [("file", "is not a socket"), ("x" * 200, "cannot be bound"), ("nowhere/edge.sock", "cannot be bound")],
)
def test_a_path_that_cannot_be_bound(tmp_path, name, words):
    (tmp_path / "file").write_text("precious")
    with pytest.raises(RequestError, match=words) as found, listen(ServerSettings(uds=str(tmp_path / name))):
        pass
    assert found.value.hint
    assert (tmp_path / "file").read_text() == "precious"


def test_windows_has_no_unix_sockets(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "platform", "win32")
    with (
        pytest.raises(RequestError, match="not supported on Windows"),
        listen(ServerSettings(uds=str(tmp_path / "x"))),
    ):
        pass


@unix
@pytest.mark.slow
def test_the_ready_line_names_the_socket(demo_folder, tmp_path):
    """The same program over HTTPS and below a path is above; here it is the command line's flags."""
    path = tmp_path / "edge.sock"
    command = [sys.executable, "-m", "edge", "serve", str(demo_folder.path), "--device", "CPU", "--ready-json"]
    with subprocess.Popen(
        [*command, "--uds", str(path), "--root-path", "glm/"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        ready = json.loads(process.stdout.readline())
        assert (ready["url"], ready["api"]) == ("http://localhost/glm", "http://localhost/glm/v1")
        assert ready["uds"] == str(path)
        with httpx2.Client(transport=httpx2.HTTPTransport(uds=ready["uds"])) as client:
            assert client.get(f"{ready['api']}/models").status_code == 200
        process.communicate(timeout=30)  # closes its standard input
    assert process.returncode == 0
    assert not path.exists()


@pytest.mark.parametrize(
    ("written", "path"),
    {
        "/v1/models": "/v1/models",
        "/v1/models/": "/v1/models",
        "/models": "/v1/models",
        "/models/tiny": "/v1/models/tiny",
        "//v1//models": "/v1/models",
        "/v1/v1/models": "/v1/models",
        "/glm/v1/models": "/v1/models",
        "/glm/models/": "/v1/models",
        "/glm": "/",
        "/glm/": "/",
        "/": "/",
        "//": "/",
        "/chat/completions": "/v1/chat/completions",
        "/chat": "/chat",
        "/chat/": "/chat",
        "/health/": "/health",
        "/glmx/v1/models": "/glmx/v1/models",
        "/nowhere/": "/nowhere",
        "/v1/nowhere": "/v1/nowhere",
    }.items(),
)
def test_a_path_has_one_spelling(written, path):
    paths = [*(endpoint.path for endpoint in ENDPOINTS), "/chat"]
    assert PathNormalizer(None, paths=paths, root_path="/glm").normalize(written) == path


def test_a_proxy_may_keep_the_root_path_or_remove_it(bare_folder):
    with scripted(bare_folder, ["\nHello.", "\nHello."], root_path="glm") as (url, *_):
        assert url.endswith("/glm")
        with httpx2.Client(base_url=url, trust_env=False) as client:
            assert client.post(CHAT, json=ASK).status_code == 200
            assert client.get("/openapi.json").json()["servers"] == [{"url": "/glm"}]
            assert client.get("/").status_code == 200
            assert client.get("/static/main.js").status_code == 200
            assert httpx2.post(url.removesuffix("/glm") + CHAT, json=ASK).status_code == 200


@pytest.mark.parametrize("path", ["http://host/glm", "a b", "/glm?x", "a//b", "x\0"])
def test_a_root_path_is_a_path(path):
    with pytest.raises(RequestError, match="is not a path"):
        ServerSettings(root_path=path)
    assert ServerSettings(root_path="/a/b-c_1/").root_path == "/a/b-c_1"


def test_a_spelling_does_not_get_past_the_guard(bare_folder):
    with scripted(bare_folder, [], api_key="secret") as (url, *_):
        for path in ("//v1/models", "/models", "/static/../v1/models", "//chat", "/v1//metrics", "/metrics/"):
            assert httpx2.get(f"{url}{path}").status_code in (401, 404), path
        assert httpx2.get(f"{url}/health/").status_code == 200


def test_a_connection_outlives_those_of_proxies():
    def config(**settings):
        app = type("App", (), {"state": type("State", (), {"request_log": None})})
        from edge.server.limits import Limits

        return uvicorn_config(app, Limits(), ServerSettings(**settings))

    assert config().timeout_keep_alive > 120  # Caddy's, the longest of them
    assert config(keep_alive=2.5).timeout_keep_alive == 3


def test_an_idle_connection_is_closed_in_the_end(bare_folder):
    with scripted(bare_folder, [], keep_alive=1) as (url, *_):
        host, port = url.removeprefix("http://").split(":")
        with closing(socket.create_connection((host, int(port)))) as connection:
            connection.settimeout(10)
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            received = b""
            while piece := connection.recv(4096):
                received += piece
    assert received.startswith(b"HTTP/1.1 200")


def test_flags_without_meaning_are_rejected(capsys, monkeypatch, demo_folder, tmp_path):
    monkeypatch.delenv("EDGE_API_KEY", raising=False)
    file = tmp_path / "file"
    file.write_text("")
    for arguments, words in (
        (["--ssl-cert", str(tmp_path / "no.pem")], "no.pem cannot be read"),
        (["--ssl-key", str(file)], "--ssl-key has no certificate"),
        (["--uds", str(file)], "is not a socket"),
    ):
        assert main(["serve", str(demo_folder.path), *arguments]) == 1
        assert words in capsys.readouterr().err


@pytest.mark.parametrize("more", [{"port": 8001}, {"host": "0.0.0.0"}])
def test_a_socket_beside_a_host_or_a_port_is_rejected(more):
    with pytest.raises(RequestError, match="the server has no host and no port"):
        ServerSettings(uds="edge.sock", **more)
