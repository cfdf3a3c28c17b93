"""The chat page's own files: read once, sent with rules that hold the page to this server.

A browser may keep what it got but has to ask whether it is still the same, by a hash of the content, so that no page
of an older version is shown. The policy lets the page load and ask nothing but this server, run no script that is not a
file of it, and be framed by nobody; it also closes the ways by which text becomes markup (Trusted Types).
"""

from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from importlib.resources.abc import Traversable

from starlette.requests import Request
from starlette.responses import Response

from ..errors import ApiError

STATIC_PATH = "/static/"
_CONTENT_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A file's content, its kind, and the tag by which a browser asks whether it is still the same."""

    content: bytes
    content_type: str
    etag: str

    @classmethod
    def read(cls, path: Traversable, kind: str) -> "StaticFile":
        content = path.read_bytes()
        return cls(content, f"{kind}; charset=utf-8", f'"{sha256(content).hexdigest()[:32]}"')


class PageFiles:
    """The files by their names: index.html is at /, the others are under PATH."""

    def __init__(self) -> None:
        self._files = dict(_read(files("edge.server") / "static", ""))

    async def index(self, request: Request) -> Response:
        return self._answer(request, "index.html")

    async def file(self, request: Request) -> Response:
        return self._answer(request, request.path_params["name"])

    def _answer(self, request: Request, name: str) -> Response:
        file = self._files.get(name)
        if file is None:
            raise ApiError(404, f"the page has no file {name[:100]!r}", code="not_found")
        headers = _HEADERS | {"ETag": file.etag}
        known = {tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")}
        if file.etag in known:
            return Response(status_code=304, headers=headers)
        return Response(file.content, headers=headers, media_type=file.content_type)


def _read(folder: Traversable, prefix: str) -> list[tuple[str, StaticFile]]:
    found = []
    for entry in folder.iterdir():
        if entry.is_dir():
            found += _read(entry, f"{prefix}{entry.name}/")
        elif kind := _CONTENT_TYPES.get(entry.name.rpartition(".")[2]):
            found.append((prefix + entry.name, StaticFile.read(entry, kind)))
    return found
