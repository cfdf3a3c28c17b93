"""The page's own files, read once and sent with headers that confine the page to this server.

A browser may cache a file but has to revalidate it by a hash of its content, so that it never shows the page of an
older version. The content security policy lets the page load from and connect to this server only, run no script but
its own files, and be framed by nobody; Trusted Types prevent text from becoming markup. It may use the microphone
where the server has a model that transcribes.
"""

from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.resources import files
from importlib.resources.abc import Traversable

from starlette.requests import Request
from starlette.responses import Response

from ..endpoint import Endpoint
from ..errors import ApiError
from ..guard.paths import STATIC_PATH
from ..pool.dispatcher import Dispatcher

_CONTENT_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml; charset=utf-8",
    "woff2": "font/woff2",
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "font-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A file's content, its content type, and the entity tag by which a browser revalidates it."""

    content: bytes
    content_type: str
    etag: str

    @classmethod
    def read(cls, path: Traversable, content_type: str) -> "StaticFile":
        """Read the file and hash its content."""
        content = path.read_bytes()
        return cls(content, content_type, f'"{sha256(content).hexdigest()[:32]}"')


async def get_index(dispatcher: Dispatcher, request: Request) -> Response:
    """Return the page."""
    return _respond(dispatcher, request, "index.html")


async def get_file(dispatcher: Dispatcher, request: Request) -> Response:
    """Return a file of the page. Raises ApiError (404)."""
    return _respond(dispatcher, request, request.path_params["name"])


def _respond(dispatcher: Dispatcher, request: Request, name: str) -> Response:
    file = _page_files().get(name)
    if file is None:
        raise ApiError(404, f"the page has no file {name[:100]!r}", code="not_found")
    microphone = "(self)" if dispatcher.pool.speech.has("transcription") else "()"
    permissions = f"camera=(), geolocation=(), microphone={microphone}"
    headers = _HEADERS | {"ETag": file.etag, "Permissions-Policy": permissions}
    known = {tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")}
    if file.etag in known:
        return Response(status_code=304, headers=headers)
    return Response(file.content, headers=headers, media_type=file.content_type)


@cache
def _page_files() -> dict[str, StaticFile]:
    return dict(_read_folder(files("edge.server") / "static", ""))


def _read_folder(folder: Traversable, prefix: str) -> list[tuple[str, StaticFile]]:
    found = []
    for entry in folder.iterdir():
        if entry.is_dir():
            found += _read_folder(entry, f"{prefix}{entry.name}/")
        elif content_type := _CONTENT_TYPES.get(entry.name.rpartition(".")[2]):
            found.append((prefix + entry.name, StaticFile.read(entry, content_type)))
    return found


ENDPOINTS = (
    Endpoint("GET", "/", get_index, on_kiosk=True, documented=False),
    Endpoint("GET", f"{STATIC_PATH}{{name:path}}", get_file, on_kiosk=True, documented=False),
)
