"""A queue in front of a model: it bounds the replies that run and the requests that wait, and shares both out among
the clients.

The next slot goes to the client whose turn has the lowest number. A turn of `n` replies moves its client `n` numbers
on, and a client that has not waited before comes right after the turn that was served last: whoever sends many requests
waits for those of others between two of its own (start-time fair queueing, Goyal et al. 1996).
"""

import asyncio
from collections import deque
from dataclasses import dataclass, field

from ..errors import ApiError, server_stopping

_MAX_REMEMBERED = 1000  # clients without a waiting request


@dataclass(frozen=True, slots=True, eq=False)
class _Waiter:
    """A request that waits for `count` slots."""

    client: str
    count: int
    granted: "asyncio.Future[None]"


@dataclass(slots=True)
class _Client:
    """A client's waiting requests, the number of its next turn, and when it got that number."""

    turn: int
    since: int
    waiters: deque[_Waiter] = field(default_factory=deque)

    @property
    def waiting(self) -> int:
        """The number of replies that wait."""
        return sum([waiter.count for waiter in self.waiters])


class RequestQueue:
    """`running` slots for replies, and room for `waiting` requests behind them. Use it in the event loop only."""

    def __init__(self, running: int, waiting: int) -> None:
        self.running = 0
        self.waiting = 0
        self.limit = running
        self._clients: dict[str, _Client] = {}
        self._room = waiting
        self._turn = 0  # the last one that was served
        self._changes = 0  # of turns, to order clients of the same one
        self._stopped = False

    async def acquire(self, count: int, deadline: float, client: str = "") -> None:
        """Wait for `count` slots, until `deadline` in the loop's time. Raises ApiError if the queue is full, or the
        deadline passes."""
        if self._stopped:
            raise server_stopping()
        if not self.waiting and self.running + count <= self.limit:
            self._serve(self._client(client), count)
            return
        if self.waiting >= self._room:
            self._make_room(client, count)
        waiter = _Waiter(client, count, asyncio.get_running_loop().create_future())
        self._client(client).waiters.append(waiter)
        self.waiting += 1
        try:
            async with asyncio.timeout_at(deadline):
                await waiter.granted
        except (TimeoutError, asyncio.CancelledError) as exc:
            granted = waiter.granted
            if granted.done() and not granted.cancelled() and granted.exception() is None:
                self.release(count)  # granted at the same moment
            if isinstance(exc, TimeoutError):
                raise ApiError(503, "the request timed out while waiting in the queue", code="timeout") from None
            raise
        finally:
            if (found := self._clients.get(client)) and waiter in found.waiters:
                self._remove(waiter)
                self._grant()

    def release(self, count: int) -> None:
        """Return `count` slots."""
        self.running -= count
        self._grant()

    def stop(self) -> None:
        """Reject every request that waits, and every later one."""
        self._stopped = True
        for waiter in [waiter for client in self._clients.values() for waiter in client.waiters]:
            self._reject(waiter, server_stopping())

    def _client(self, name: str) -> _Client:
        found = self._clients.get(name)
        if found is None or (not found.waiters and found.turn <= self._turn):
            if len(self._clients) >= _MAX_REMEMBERED:
                kept = {name: one for name, one in self._clients.items() if one.waiters or one.turn > self._turn}
                self._clients = kept
            self._changes += 1
            found = self._clients[name] = _Client(self._turn + 1, self._changes)
        return found

    def _serve(self, client: _Client, count: int) -> None:
        """Count a turn of the client's."""
        self.running += count
        self._changes += 1
        self._turn = max(self._turn, client.turn)
        client.turn, client.since = client.turn + count, self._changes

    def _grant(self) -> None:
        """Serve the requests whose turn it is, as far as there are slots for them."""
        while self.waiting:
            waiting = (client for client in self._clients.values() if client.waiters)
            client = min(waiting, key=lambda one: (one.turn, one.since))
            waiter = client.waiters[0]
            if self.running and self.running + waiter.count > self.limit:
                return  # one of more slots than there are, as the engine has fewer than it seemed, runs alone
            self._remove(waiter)
            if not waiter.granted.done():
                self._serve(client, waiter.count)
                waiter.granted.set_result(None)

    def _make_room(self, name: str, count: int) -> None:
        """Reject the newest request of the client that has the most replies waiting, in favor of one that has fewer.
        Raises ApiError if there is none."""
        own = self._clients[name].waiting if name in self._clients else 0
        greediest = max(self._clients.values(), key=lambda one: one.waiting, default=None)
        if greediest is None or greediest.waiting <= own + count:
            taken = self.running + self.waiting
            raise ApiError(429, f"the queue is full: {taken} requests are running or waiting", code="queue_full")
        message = "the queue is full, and most of its requests are yours: another client's took the place of this one"
        self._reject(greediest.waiters[-1], ApiError(429, message, code="queue_full"))

    def _reject(self, waiter: _Waiter, error: ApiError) -> None:
        self._remove(waiter)
        if not waiter.granted.done():
            waiter.granted.set_exception(error)

    def _remove(self, waiter: _Waiter) -> None:
        self._clients[waiter.client].waiters.remove(waiter)
        self.waiting -= 1


def too_many_replies(limit: int) -> ApiError:
    """Return the error for a request of more replies than a model runs at once."""
    return ApiError(400, f"n: this model runs at most {limit} replies at once", param="n", code="invalid_value")
