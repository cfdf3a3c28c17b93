"""Which hosts are this machine, which URLs are none, and what a failed request comes from, whatever made it."""

import re

import pytest

from runtime.system import network

from .serving import free_port

HERE = ["localhost", "a.localhost", "127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1", "0.0.0.0"]
ELSEWHERE = ["", "example.org", "localhost.example.org", "127.example.org", "10.0.0.1", "::2", "128.0.0.1"]


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        for spelled in (name, name.upper()):
            monkeypatch.delenv(spelled, raising=False)


@pytest.mark.parametrize("host", HERE + ELSEWHERE)
def test_what_is_this_machine(host):
    assert network.is_loopback(host) == (host in HERE)


NO_URLS = {
    "": "begin with http",
    "huggingface.co": "begin with http",
    "localhost:8000": "begin with http",
    "file:///etc/passwd": "begin with http",
    "http://": "no host",
    "http://:80": "no host",
    "http://host:0": "port 0",
    "http://host:99999": "Port",
    "http://host:port": "Port",
    "http://[::1": "IPv6",
    "http://a b": "blank",
    "http://a\u200bb": "blank|host",
    "http://a..b": "host name",
    f"http://{'a' * 64}.org": "host name",
}


@pytest.mark.parametrize(("url", "words"), NO_URLS.items())
def test_what_is_no_url(url, words):
    with pytest.raises(ValueError, match=words):
        network.parse_server_url(url)


@pytest.mark.parametrize("url", ["http://host", "https://host:8000/v1", "http://[::1]:8000", "http://köln.example"])
def test_what_is_a_url(url):
    assert network.parse_server_url(url).hostname


PROXIES = [
    ({"HTTP_PROXY": "http://p:1"}, "http://host", ("http://p:1", "HTTP_PROXY")),
    ({"HTTP_PROXY": "http://p:1"}, "https://host", None),
    ({"all_proxy": "socks5://p:1"}, "https://host", ("socks5://p:1", "all_proxy")),
    ({"HTTP_PROXY": "http://p:1", "NO_PROXY": "host"}, "http://host", None),
    ({"HTTP_PROXY": "http://p:1", "NO_PROXY": "*"}, "http://host", None),
    ({"HTTP_PROXY": "http://p:1", "NO_PROXY": ""}, "http://127.0.0.2:80", None),
    ({"ALL_PROXY": "http://p:1"}, "http://[::1]:80", None),
]


@pytest.mark.parametrize(("environment", "url", "wanted"), PROXIES)
def test_which_proxy_a_url_has(monkeypatch, environment, url, wanted):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert network.find_proxy(url) == wanted


NOWHERE = f"http://127.0.0.1:{free_port()}"
FAULTS = [
    (NOWHERE, {}, "^127.0.0.1:[0-9]+ refused the connection$"),
    ("http://host.invalid", {}, "^the name host.invalid cannot be looked up$"),
    ("http://host.invalid", {"HTTP_PROXY": NOWHERE}, "^the proxy http://127.0.0.1:[0-9]+ of HTTP_PROXY refused"),
    (
        "http://host.invalid",
        {"HTTP_PROXY": "http://[::1"},
        "^the proxy http://\\[::1 of HTTP_PROXY is no URL of a proxy",
    ),
    (
        "http://host.invalid",
        {"ALL_PROXY": "gopher://p:1"},
        "^the proxy gopher://p:1 of ALL_PROXY is of an unsupported kind$",
    ),
    ("http://host.invalid", {"HTTP_PROXY": "http://proxy.invalid:1"}, "^the name of the proxy .* cannot be looked up$"),
]


@pytest.mark.parametrize("library", ["requests", "httpx2"])
@pytest.mark.parametrize(("url", "environment", "words"), FAULTS, ids=[words for *_, words in FAULTS])
def test_a_failed_request(monkeypatch, library, url, environment, words):
    http = pytest.importorskip(library)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(Exception, match=r"\w") as caught:
        http.get(url)
    fault = network.explain(caught.value, url)
    assert re.search(words, fault.cause)
    assert bool(fault.hint) == bool(environment)


def test_what_is_no_fault_of_the_network():
    assert network.explain(KeyError("a"), "http://host") is None
    assert network.explain(OSError(28, "No space left on device"), "http://host") is None
