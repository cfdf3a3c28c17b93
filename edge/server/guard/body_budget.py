"""The memory budget of request bodies: bytes, and the JSON values in them, of all requests that have not ended."""

import asyncio

from ..errors import ApiError

_SMALL_BYTES = 2**16  # a body up to this size is always accepted: the number of connections is bounded
_SMALL_VALUES = 2_000


class BodyBudget:
    """The budget of all requests together. Use it in the event loop only."""

    def __init__(self, nbytes: int, values: int) -> None:
        self._room_for_bytes = nbytes
        self._room_for_values = values
        self.parse_lock = asyncio.Lock()

    def share(self) -> "BudgetShare":
        """Return a new request's share, empty yet."""
        return BudgetShare(self)

    def require(self, nbytes: int) -> None:
        """Raise ApiError (503) if a body of that size does not fit the budget now."""
        if nbytes > _SMALL_BYTES and nbytes > self._room_for_bytes:
            raise _busy()

    def reserve(self, nbytes: int, values: int) -> None:
        """Reserve bytes and values. Raises ApiError (503) if they do not fit the budget."""
        if nbytes > self._room_for_bytes or values > self._room_for_values:
            raise _busy()
        self._room_for_bytes -= nbytes
        self._room_for_values -= values

    def release(self, nbytes: int, values: int) -> None:
        """Return them to the budget."""
        self._room_for_bytes += nbytes
        self._room_for_values += values


def _busy() -> ApiError:
    return ApiError(503, "the server is reading too many large requests", code="busy")


class BudgetShare:
    """One request's part of the budget, until `close`. Large bodies are parsed one at a time, under `parse_lock`."""

    def __init__(self, budget: BodyBudget) -> None:
        self._budget = budget
        self._reserved = (0, 0)
        self.nbytes = 0  # read so far
        self.parse_lock = budget.parse_lock

    def add_bytes(self, count: int) -> None:
        """Raise ApiError (503) if all requests together exceed the budget."""
        self.nbytes += count
        if self.nbytes > _SMALL_BYTES:
            self._reserve(self.nbytes, self._reserved[1])

    def set_values(self, count: int) -> None:
        """Raise ApiError (503) if all requests together exceed the budget."""
        if count > _SMALL_VALUES:
            self._reserve(self._reserved[0], count)

    def close(self) -> None:
        """Return the share to the budget."""
        self._budget.release(*self._reserved)
        self._reserved = (0, 0)

    def _reserve(self, nbytes: int, values: int) -> None:
        self._budget.reserve(nbytes - self._reserved[0], values - self._reserved[1])
        self._reserved = (nbytes, values)
