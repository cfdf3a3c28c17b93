"""The store of responses of a request's application, and the client whose records it may see."""

from starlette.requests import Request

from ...logs.request_record import CLIENT
from .memory_store import MemoryStore
from .record import Store

_EMPTY = MemoryStore(0, 0)


def store_of(request: Request) -> Store:
    """Return the application's store; for a request of a batch, which has no application, one that stays empty."""
    if not has_store(request):
        return _EMPTY
    store: Store = request.app.state.response_store
    return store


def has_store(request: Request) -> bool:
    """Return whether the responses to this request can be stored."""
    return "app" in request.scope


def owner_of(request: Request) -> str:
    """Return the name of the client's API key where there are several; clients without one share their records,
    whatever their address is."""
    client = str(request.scope.get(CLIENT, ""))
    return client if client.startswith("key ") else ""
