"""Paths for which the guard has special rules, and a request's path below the server's root."""

from starlette.types import Scope

STATIC_PATH = "/static/"  # the page's files: no API key
PUBLIC_PATHS = ("/", "/health", "/ready")  # no API key: the page, which prompts for it, and health checks
SAME_ORIGIN_PATHS = ("/chat",)  # for the server's own page only, whatever origins are allowed elsewhere


def route_path(scope: Scope) -> str:
    """Return a request's path without the root path under which a proxy serves the application."""
    path, root = str(scope["path"]), str(scope.get("root_path", "")).rstrip("/")
    return path[len(root) :] if root and path.startswith(f"{root}/") else path
