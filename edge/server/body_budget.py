"""What the requests that are not at their end hold in memory: the bytes of their bodies, and the values in them."""

import asyncio

from .errors import ApiError

_SMALL_BYTES = 2**16  # a body of so many is always taken: connections are bounded
_SMALL_VALUES = 2_000


class BodyBudget:
    """The memory budget of all requests together. For the event loop's thread only."""

    def __init__(self, nbytes: int, values: int) -> None:
        self._room_for_bytes = nbytes
        self._room_for_values = values
        self.parse_lock = asyncio.Lock()

    def share(self) -> "BudgetShare":
        return BudgetShare(self)

    def require(self, nbytes: int) -> None:
        """Raise ApiError (503) if a body of that size does not fit the budget now."""
        if nbytes > _SMALL_BYTES and nbytes > self._room_for_bytes:
            raise _busy()

    def reserve(self, nbytes: int, values: int) -> None:
        """Raise ApiError (503) if they do not fit the budget."""
        if nbytes > self._room_for_bytes or values > self._room_for_values:
            raise _busy()
        self._room_for_bytes -= nbytes
        self._room_for_values -= values

    def release(self, nbytes: int, values: int) -> None:
        self._room_for_bytes += nbytes
        self._room_for_values += values


def _busy() -> ApiError:
    return ApiError(503, "the server is reading too many large requests", code="busy")


class BudgetShare:
    """One request's part of the budget, until `close`. Large bodies are parsed one at a time, under `reading`."""

    def __init__(self, in_flight: BodyBudget) -> None:
        self._in_flight = in_flight
        self._counted = (0, 0)
        self.nbytes = 0  # that were read
        self.parse_lock = in_flight.parse_lock

    def add_bytes(self, count: int) -> None:
        """Raise ApiError (503) where all requests together have too many."""
        self.nbytes += count
        if self.nbytes > _SMALL_BYTES:
            self._count(self.nbytes, self._counted[1])

    def set_values(self, count: int) -> None:
        """Raise ApiError (503) where all requests together have too many."""
        if count > _SMALL_VALUES:
            self._count(self._counted[0], count)

    def close(self) -> None:
        self._in_flight.release(*self._counted)
        self._counted = (0, 0)

    def _count(self, nbytes: int, values: int) -> None:
        self._in_flight.reserve(nbytes - self._counted[0], values - self._counted[1])
        self._counted = (nbytes, values)
