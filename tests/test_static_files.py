"""The page's files over HTTP: what they are, with which rules they come, and that no old one is shown."""

import re
from hashlib import sha256
from pathlib import Path

import pytest

import edge

pytest.importorskip("starlette")
pytest.importorskip("prometheus_client")
httpx2 = pytest.importorskip("httpx2")

from .serving import scripted  # noqa: E402

STATIC = Path(edge.__file__).resolve().parent / "server" / "static"


def test_the_page_comes_without_a_key_and_is_held_to_its_server(bare_folder):
    with scripted(bare_folder, [], api_key="secret") as (url, *_):
        page = httpx2.get(f"{url}/")
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        rules = dict(rule.strip().split(" ", 1) for rule in page.headers["content-security-policy"].split(";"))
        assert rules["default-src"] == rules["frame-ancestors"] == rules["base-uri"] == rules["form-action"] == "'none'"
        assert rules["script-src"] == rules["style-src"] == rules["connect-src"] == "'self'"
        assert rules["require-trusted-types-for"] == "'script'"
        for name, value in (
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cache-control", "no-cache"),
        ):
            assert page.headers[name] == value
        assert not re.search(r"<script>|<style|\son\w+=|https?:", page.text)
        assert httpx2.get(f"{url}/", headers={"Host": "evil.example"}).status_code == 403
        assert httpx2.get(f"{url}/chat").status_code == 401


def test_every_file_is_there_and_asked_for_again(bare_folder):
    kinds = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".woff2": "font/woff2"}
    with scripted(bare_folder, []) as (url, *_), httpx2.Client(base_url=url) as client:
        for path in STATIC.rglob("*.*"):
            if path.suffix not in kinds:
                continue
            address = f"/static/{path.relative_to(STATIC).as_posix()}"
            file = client.get(address)
            assert (file.status_code, file.content) == (200, path.read_bytes()), address
            charset = "" if path.suffix == ".woff2" else "; charset=utf-8"
            assert file.headers["content-type"] == kinds[path.suffix] + charset
            again = client.get(address, headers={"If-None-Match": f'"other", W/{file.headers["etag"]}'})
            assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", file.headers["etag"])
            assert client.get(address, headers={"If-None-Match": '"older"'}).status_code == 200
        for address in (
            "nowhere.js",
            "../page.py",
            "%2e%2e/page.py",
            "..%2fpage.py",
            "/etc/passwd",
            "vendor",
            "README.md",
        ):
            assert client.get(f"/static/{address}").status_code == 404


def test_what_others_wrote_is_as_it_was_copied_and_its_licences_are_there():
    vendor = STATIC / "vendor"
    sums = dict(line.split("  ./")[::-1] for line in (vendor / "SHA256SUMS").read_text().splitlines())
    there = {
        path.relative_to(vendor).as_posix(): path
        for path in vendor.rglob("*")
        if path.suffix in (".js", ".css", ".woff2")
    }
    assert sums == {name: sha256(path.read_bytes()).hexdigest() for name, path in there.items()}
    licences = (vendor / "LICENSES.txt").read_text(encoding="utf-8")
    for package, version in re.findall(
        r"^\| `[^`]+` \| ([^ ,:|]+).*?\| ([\d.]+) \|", (vendor / "README.md").read_text(), re.M
    ):
        name = {"katex": "KaTeX", "@highlightjs/cdn-assets": "highlight.js"}.get(package, package)
        assert f"\n{name} {version} (" in licences
    assert not re.search(r"https?:|\.woff\)|\.ttf\)", (vendor / "katex" / "katex.css").read_text())


def test_modules_load_what_is_there_and_nothing_else(bare_folder):
    for path in STATIC.rglob("*.js"):
        for name in re.findall(
            r"^(?:import|export)[^;]*?from\s*[\"']([^\"']+)", path.read_text(encoding="utf-8"), re.M
        ):
            assert name.startswith("./"), f"{path.name} imports {name}"
            assert (path.parent / name).is_file(), f"{path.name} imports {name}"
    own = list(STATIC.glob("*.js"))
    assert not [
        path.name for path in own if re.search(r"innerHTML|outerHTML|insertAdjacentHTML|\beval\b", path.read_text())
    ]
