"""The store of responses of a request's application, and the client whose records it may see."""

from starlette.requests import Request

from .store import Store


def store_of(request: Request) -> Store:
    """Return the application's store."""
    store: Store = request.app.state.response_store
    return store


def owner_of(request: Request) -> str:
    """Return the client: the number of its API key or its address, as the guard found it."""
    return str(request.scope.get("edge.client", ""))
