"""The format of an error by its request's path, for errors that no endpoint answers with: 401, 403, 404, 405, 413."""

from collections.abc import Iterable

from .endpoint import Endpoint
from .errors import ErrorFormat


class ErrorFormats:
    """The formats of the APIs that have their own. It applies to their endpoints' paths, to all paths below those, and
    to unknown paths beside them if the endpoints there have one format."""

    def __init__(self, endpoints: Iterable[Endpoint]) -> None:
        formats = {endpoint.path: endpoint.error_format for endpoint in endpoints}
        beside: dict[str, set[ErrorFormat | None]] = {}
        for path, found in formats.items():
            beside.setdefault(_parent(path), set()).add(found)
        self._formats = {path: found for path, found in formats.items() if found}
        for path, all_found in beside.items():
            (first, *others) = all_found
            if first and not others and path not in formats:
                self._formats[path] = first
        self._known = {*formats}

    def get(self, path: str) -> ErrorFormat | None:
        """Return the format of the API to which a path belongs; None for OpenAI's."""
        while path and path not in self._formats:
            if path in self._known:
                return None
            path = _parent(path)
        return self._formats.get(path)


def _parent(path: str) -> str:
    return path.rpartition("/")[0]
