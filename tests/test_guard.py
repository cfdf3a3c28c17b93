"""Who may send requests: host names, origins, keys; and what browsers need to see of the answers."""

import pytest

pytest.importorskip("starlette")
pytest.importorskip("prometheus_client")
httpx2 = pytest.importorskip("httpx2")

from starlette.responses import PlainTextResponse  # noqa: E402

from edge.server.endpoint import Endpoint  # noqa: E402
from edge.server.guard.api_keys import ApiKey  # noqa: E402
from edge.server.guard.host_names import HostNames  # noqa: E402
from edge.server.guard.origins import Origins, is_own  # noqa: E402
from edge.server.limits import Limits  # noqa: E402
from edge.server.logs.request_record import CLIENT  # noqa: E402
from runtime.errors import RequestError  # noqa: E402

from .serving import scripted  # noqa: E402

CHAT = "/v1/chat/completions"
ASK = {"messages": [{"role": "user", "content": "Hi"}]}
ADDED = ["chat.example.com", "*.lan", "edge", "host.docker.internal", "192.0.2.7", "[2001:db8::1]", "例え.jp"]
HOSTS = {
    "localhost:8000": True, "127.0.0.1": True, "[::1]:80": True, "chat.example.com": True,
    "Chat.Example.COM:8443": True,
    "chat.example.com.": True, "a.lan": True, "a.b.lan:80": True, "edge:8000": True, "host.docker.internal:8000": True,
    "192.0.2.7:8000": True, "[2001:db8::1]": True, "xn--r8jz45g.jp": True,
    "lan": False, "evil.chat.example.com": False, "chat.example.com.evil.com": False, "xlan": False,
    "a.lan.evil": False,
    "192.0.2.8": False, "": False, "evil@edge": False, "edge/": False, ".lan@evil.com": False, "edge.local": False,
}  # fmt: skip


@pytest.mark.parametrize(("header", "accepted"), HOSTS.items())
def test_names_that_are_added(header, accepted):
    assert HostNames("127.0.0.1", ADDED).accept(header) is accepted


def test_a_star_adds_every_host_and_no_origin():
    every = HostNames("127.0.0.1", ["*"])
    assert every.accept("evil.example")
    assert not every.accept("a b")
    assert not is_own("https://evil.example", "localhost:8000", every)


@pytest.mark.parametrize("name", ["https://a.example", "a.example:80", "a.example/b", "", "a b", "*lan", "a.*", "**"])
def test_what_is_no_name_is_rejected(name):
    with pytest.raises(RequestError, match="is not a host name"):
        HostNames("127.0.0.1", [name])


# The origin of a page and the Host header, and whether the page is the server's own.
OWN = {
    "its own": ("http://localhost:8000", "localhost:8000", True),
    "another port of this machine": ("http://localhost:3000", "localhost:8000", False),
    "behind a proxy that keeps the host": ("https://chat.example.com", "chat.example.com", True),
    "behind a proxy of another port": ("https://chat.example.com:8443", "chat.example.com", True),
    "behind nginx as it comes": ("https://chat.example.com", "127.0.0.1:8000", True),
    "a name of a pattern": ("http://box.lan", "127.0.0.1:8000", True),
    "another page": ("https://evil.example", "chat.example.com", False),
    "a name in a name": ("https://chat.example.com.evil.example", "chat.example.com", False),
    "an application's": ("app://edge", "127.0.0.1:8000", False),
    "none": ("null", "127.0.0.1:8000", False),
    "no URL": ("http://[", "127.0.0.1:8000", False),
}


@pytest.mark.parametrize(("origin", "host", "own"), OWN.values(), ids=OWN)
def test_the_servers_own_page(origin, host, own):
    assert is_own(origin, host, HostNames("127.0.0.1", ADDED)) is own


ORIGINS = ["https://App.example/", "http://localhost:*", "vscode-webview://*", "null"]
ACCEPTED = {
    "https://app.example": True, "http://localhost:3000": True, "vscode-webview://1abc": True, "null": True,
    "http://app.example": False, "https://app.example:8443": False, "http://localhost": False,
    "https://appxexample": False, "https://app.example.evil.example": False, "": False,
}  # fmt: skip


@pytest.mark.parametrize(("origin", "accepted"), ACCEPTED.items())
def test_origins(origin, accepted):
    assert Origins(ORIGINS).accept(origin) is accepted
    assert Origins(["*"]).accept(origin)
    assert not Origins([]).accept(origin)


@pytest.mark.parametrize("origin", ["app.example", "https://", "https://a.example/b", "a b"])
def test_what_is_no_origin_is_rejected(origin):
    with pytest.raises(RequestError, match="is not an origin"):
        Origins([origin])


KEYS = (ApiKey("one-secret", "anna"), ApiKey("two-secret", "ben"))
# What is sent, and the name of the key in the log.
SENT = {
    "a bearer token": ({"Authorization": "Bearer one-secret"}, "anna"),
    "another key": ({"Authorization": "bearer  two-secret"}, "ben"),
    "Anthropic's header": ({"x-api-key": "two-secret"}, "ben"),
    "both, one of them right": ({"Authorization": "Bearer none", "x-api-key": "one-secret"}, "anna"),
    "a wrong key": ({"Authorization": "Bearer one-secre"}, None),
    "no bearer": ({"Authorization": "one-secret"}, None),
    "a name": ({"x-api-key": "anna"}, None),
    "an empty one": ({"x-api-key": ""}, None),
    "none": ({}, None),
}


def test_keys(bare_folder, caplog):
    caplog.set_level("INFO", "edge.server")
    with scripted(bare_folder, [], keys=KEYS) as (url, *_), httpx2.Client(base_url=url) as client:
        for headers, name in SENT.values():
            answer = client.get("/v1/models", headers=headers)
            assert answer.status_code == (401 if name is None else 200), headers
            assert answer.headers.get("www-authenticate") == ("Bearer" if name is None else None)
            if name is None:
                assert answer.json()["error"]["code"] == "invalid_api_key"
        assert client.get("/health").status_code == 200
    logged = [record.fields.get("key") for record in caplog.records if hasattr(record, "fields")]
    assert logged[:-1] == [name for _, name in SENT.values()]
    assert "secret" not in caplog.text


async def who(dispatcher, request):
    return PlainTextResponse(request.scope[CLIENT])


# The server's keys, the headers of a request, and the client among whom turns are shared out.
CLIENTS = {
    "an address": ((), {}, "127.0.0.1"),
    "behind a proxy on this machine": ((), {"X-Forwarded-For": "192.0.2.9"}, "192.0.2.9"),
    "the only key": (KEYS[:1], {"x-api-key": "one-secret"}, "127.0.0.1"),
    "one of several keys": (KEYS, {"x-api-key": "two-secret"}, "key ben"),
}


@pytest.mark.parametrize(("keys", "headers", "client"), CLIENTS.values(), ids=CLIENTS)
def test_a_client_is_an_address_or_a_key(bare_folder, keys, headers, client):
    with scripted(bare_folder, [], keys=keys, endpoints=[Endpoint("GET", "/who", who)]) as (url, *_):
        assert httpx2.get(f"{url}/who", headers=headers).text == client


PAGE = {"Origin": "https://app.example"}
PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}


@pytest.fixture(scope="module")
def client(demo_folder):
    settings = {"origins": ["https://app.example/"], "hosts": ["chat.example.com"], "api_key": "key"}
    with (
        scripted(demo_folder, ["\nHi."] * 9, limits=Limits(body_bytes=2**16), **settings) as (url, *_),
        httpx2.Client(base_url=url, headers={"Authorization": "Bearer key"}) as found,
    ):
        yield found


ERRORS = {
    "no key": ({"headers": {"Authorization": ""}, "json": ASK}, 401),
    "a foreign host": ({"headers": {"Host": "evil.example"}, "json": ASK}, 403),
    "invalid": ({"json": {}}, 400),
    "an unknown model": ({"json": ASK | {"model": "x"}}, 404),
    "too large": ({"content": b"[" * 2**17}, 413),
    "compressed": ({"headers": {"Content-Encoding": "gzip"}, "content": b"\x1f\x8b"}, 415),
}


@pytest.mark.parametrize(("options", "status"), ERRORS.values(), ids=ERRORS)
def test_a_page_can_read_its_errors(client, options, status):
    headers = options.get("headers", {}) | PAGE
    answer = client.post(CHAT, **options | {"headers": headers})
    assert answer.status_code == status
    assert answer.headers["access-control-allow-origin"] == PAGE["Origin"]
    assert "x-request-id" in answer.headers["access-control-expose-headers"]
    assert answer.json()["error"]["message"]


def test_a_page_asks_before_it_sends(client):
    for method in ("GET", "POST", "DELETE"):
        asked = PAGE | PREFLIGHT | {"Access-Control-Request-Method": method}
        answer = client.options(CHAT, headers=asked)
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, PAGE["Origin"])
        assert method in answer.headers["access-control-allow-methods"]
    private = client.options(CHAT, headers=PAGE | PREFLIGHT | {"Access-Control-Request-Private-Network": "true"})
    assert (private.status_code, private.headers["access-control-allow-private-network"]) == (200, "true")
    foreign = client.options(CHAT, headers=PREFLIGHT | {"Origin": "https://evil.example"})
    assert foreign.status_code == 400
    assert "access-control-allow-origin" not in foreign.headers


# Headers of a request to the page's own chat, and its status.
CHATS = {
    "the page itself": ({}, 200),
    "behind a proxy that keeps the host": (
        {"Host": "chat.example.com", "Origin": "https://chat.example.com"}, 200
    ),
    "behind nginx as it comes": ({"Origin": "https://chat.example.com"}, 200),
    "an allowed page": (PAGE, 403),
    "a foreign page": ({"Origin": "https://evil.example"}, 403),
}  # fmt: skip


@pytest.mark.parametrize(("headers", "status"), CHATS.values(), ids=CHATS)
def test_the_pages_chat(client, headers, status):
    assert client.post("/chat", json=ASK, headers=headers).status_code == status


def test_a_compressed_body_is_rejected_with_the_cure(client):
    answer = client.post(CHAT, content=b"\x1f\x8b", headers={"Content-Encoding": "gzip"})
    assert answer.json()["error"]["code"] == "unsupported_encoding"
    assert "without Content-Encoding" in answer.json()["error"]["message"]
    assert client.post(CHAT, json=ASK, headers={"Content-Encoding": "identity"}).status_code == 200
