"""docs/proxies.md: its configurations, run by real proxies where they are installed, and checked everywhere."""

import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import time
from contextlib import closing, contextmanager, suppress
from getpass import getuser
from itertools import pairwise
from pathlib import Path

import pytest

pytest.importorskip("starlette")
pytest.importorskip("prometheus_client")
httpx2 = pytest.importorskip("httpx2")

from edge.cli import parser  # noqa: E402
from edge.server.limits import Limits  # noqa: E402

from .serving import free_port, scripted  # noqa: E402
from .test_docs import blocks, command_lines  # noqa: E402

PAGE = Path(__file__).resolve().parents[1] / "docs" / "proxies.md"
BLOCKS = {block.info: block.text for block in blocks(PAGE.read_text(encoding="utf-8")) if block.info}
REPLY = "\nOne two three four five six seven."
ASK = {"messages": [{"role": "user", "content": "Count."}]}
# Each configuration, the name that it serves, its scheme and the path below which it serves.
PROXIES = {
    "Caddyfile": ("chat.example.com", "https", ""),
    "Caddyfile.lan": ("chat.lan", "https", ""),
    "nginx.conf": ("chat.example.com", "http", ""),
    "nginx-full.conf": ("chat.example.com", "http", ""),
    "nginx-socket.conf": ("chat.example.com", "http", ""),
    "nginx-path.conf": ("chat.example.com", "http", "/edge"),
}
NGINX = """user {user}; daemon off; pid {folder}/pid; error_log {folder}/error.log;
events {{}}
http {{
    access_log off; gzip on;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    {text}
}}
"""
# Debian's nginx has `gzip on` as above; where Caddy finds its own names and ports is not what is tested.
CADDY = "{{\n\tadmin off\n\tskip_install_trust\n\tlocal_certs\n\tauto_https disable_redirects\n}}\n{text}"


@contextmanager
def proxying(name, server, folder):
    """A proxy with the configuration of that name before a server: the port that it listens on."""
    kind, port = "nginx" if name.startswith("nginx") else "caddy", free_port()
    if shutil.which(kind) is None:
        pytest.skip(f"{kind} is not installed")
    text = BLOCKS[name].replace("127.0.0.1:8000", server.removeprefix("http://"))
    text = text.replace("/run/user/1000/edge.sock", str(folder / "edge.sock"))
    if kind == "nginx":
        text = NGINX.format(user=getuser(), folder=folder, text=text.replace("listen 80;", f"listen 127.0.0.1:{port};"))
        command = ("nginx", "-c", str(folder / name), "-p", str(folder))
    else:
        text = CADDY.format(text=re.sub(r"^(\S+) \{$", rf"\1:{port} {{", text, flags=re.M))
        command = ("caddy", "run", "--adapter", "caddyfile", "--config", str(folder / name))
    (folder / name).write_text(text, encoding="utf-8")
    log = folder / "log"
    with log.open("wb") as out:
        environment = os.environ | {"XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "HOME": str(folder)}
        proxy = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=environment)
    try:
        for _ in range(300):
            assert proxy.poll() is None, log.read_text(errors="replace")
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield port
    finally:
        proxy.terminate()
        proxy.wait(30)


class Visitor:
    """A browser as the proxy sees it: the public name in the URL, the certificate of Caddy's own authority."""

    def __init__(self, name, port, folder):
        self.host, self.scheme, self.path = PROXIES[name]
        self.origin = f"{self.scheme}://{self.host}:{port}"
        authority = folder / "caddy" / "pki" / "authorities" / "local" / "root.crt"
        verify = ssl.create_default_context(cafile=str(authority)) if self.scheme == "https" else True
        self.client = httpx2.Client(
            base_url=f"{self.scheme}://127.0.0.1:{port}{self.path}", verify=verify, timeout=30, trust_env=False
        )
        self.client.headers["Host"] = self.origin.partition("://")[2]

    def send(self, method, path, **options):
        options.setdefault("extensions", {"sni_hostname": self.host})
        return self.client.request(method, path, **options)

    def stream(self, path, body):
        """The lines of a stream, and when each came."""
        request = self.client.build_request(
            "POST", path, json=body, headers={"Origin": self.origin}, extensions={"sni_hostname": self.host}
        )
        with closing(self.client.send(request, stream=True)) as response:
            assert response.status_code == 200, response.read()
            return [(time.monotonic(), line) for line in response.iter_lines() if line]


@pytest.fixture(params=PROXIES)
def visitor(request, bare_folder, tmp_path):
    name = request.param
    folder = tmp_path / "proxy"
    folder.mkdir()
    settings = {"hosts": [PROXIES[name][0]], "limits": Limits(heartbeat_seconds=0.5)}
    if name == "nginx-socket.conf":
        settings["uds"] = str(folder / "edge.sock")
    with (
        scripted(bare_folder, [REPLY] * 9, pause=0.05, **settings) as (url, *_),
        proxying(name, url, folder) as port,
    ):
        found = until_ready(name, port, folder)
        yield found
        found.client.close()


def until_ready(name, port, folder):
    for _ in range(100):  # Caddy makes its certificates first
        with suppress(OSError):  # of the authority's certificate
            visitor = Visitor(name, port, folder)
            with suppress(httpx2.TransportError):
                if visitor.send("GET", "/health").status_code == 200:
                    return visitor
            visitor.client.close()
        time.sleep(0.1)
    raise AssertionError((folder / "log").read_text(encoding="utf-8", errors="replace"))


@pytest.mark.proxies
def test_the_page_and_its_chat_work_through_a_proxy(visitor):
    page = visitor.send("GET", "/")
    assert page.status_code == 200
    files = re.findall(r'(?:src|href)="(static/[^"]+)"', page.text)
    assert "static/main.js" in files
    for file in files:
        assert visitor.send("GET", f"/{file}", headers={"Origin": visitor.origin}).status_code == 200
    assert visitor.send("GET", "/chat").json()["models"]
    events = visitor.stream("/chat", ASK)
    assert "event: finish" in [line for _, line in events]
    foreign = visitor.send("POST", "/chat", json=ASK, headers={"Origin": "https://evil.example"})
    assert foreign.status_code == 403
    assert visitor.send("GET", "/v1/models").headers["x-request-id"]


@pytest.mark.proxies
def test_lines_of_json_come_word_by_word_through_a_proxy(visitor):
    lines = visitor.stream("/api/chat", ASK | {"model": "bare"})
    texts = [(at, json.loads(line)["message"]["content"]) for at, line in lines]
    assert "".join(text for _, text in texts) == REPLY.strip()
    assert len({round(at, 2) for at, _ in texts}) > 10, texts


@pytest.mark.proxies
def test_a_reply_comes_word_by_word_through_a_proxy(visitor):
    whole = visitor.send("POST", "/v1/chat/completions", json=ASK)
    assert whole.json()["choices"][0]["message"]["content"] == REPLY.strip()
    lines = visitor.stream("/v1/chat/completions", ASK | {"stream": True})
    assert lines[-1][1] == "data: [DONE]"
    chunks = [(at, json.loads(line.removeprefix("data: "))) for at, line in lines[:-1] if line.startswith("data: ")]
    texts = [(at, chunk["choices"][0]["delta"].get("content")) for at, chunk in chunks if chunk["choices"]]
    words = [(at, text) for at, text in texts if text]
    assert "".join(text for _, text in words) == REPLY.strip()
    seconds = words[-1][0] - words[0][0]
    assert seconds > 0.5 * 0.05 * len(REPLY), seconds
    assert len({round(at, 2) for at, _ in words}) > 10, words


@pytest.mark.proxies
def test_a_browser_before_nginx(browser, bare_folder, tmp_path):
    """A name in .localhost is this machine for a browser, and a foreign host for the server until it is allowed."""
    with (
        scripted(bare_folder, [REPLY] * 2, pause=0.1, hosts=["*.localhost"]) as (url, *_),
        proxying("nginx.conf", url, tmp_path) as port,
    ):
        browser.open(f"http://chat.localhost:{port}")
        browser.type("Count.\n")
        browser.until("return document.querySelector('.reply .prose')?.textContent.length > 3")
        assert browser.js("return document.querySelector('.busy') !== null")
        assert browser.replied() == REPLY.strip()
        assert browser.complaints() == []


def test_every_configuration_is_run_or_checked():
    assert set(BLOCKS) == {*PROXIES, "traefik.yaml", "Dockerfile", "compose.yaml"}


def test_the_containers_commands_are_known():
    (command,) = re.findall(r"^CMD (.*)$", BLOCKS["Dockerfile"], re.M)
    program, *arguments = json.loads(command)
    args = parser().parse_args(arguments)
    assert (program, args.run is not None) == ("edge", True)
    assert '"--allow-host", "edge"' in command
    yaml = pytest.importorskip("yaml")
    services = yaml.safe_load(BLOCKS["compose.yaml"])["services"]
    assert "edge" in services  # the name that the others use
    assert services["open-webui"]["environment"]["OPENAI_API_BASE_URL"] == "http://edge:8000/v1"
    assert services["edge"]["volumes"] == [f"./glm4-int4:{arguments[1]}:ro"]
    traefik = yaml.safe_load(BLOCKS["traefik.yaml"])["http"]
    assert traefik["routers"]["edge"]["service"] in traefik["services"]


def test_each_name_of_the_page_is_allowed_by_a_command():
    text = PAGE.read_text(encoding="utf-8")
    allowed = set()
    for block in blocks(text):
        if not block.language:
            for words in command_lines(block.text):
                allowed |= {after for word, after in pairwise(words) if word == "--allow-host"}
    assert {host for host, *_ in PROXIES.values()} <= allowed
