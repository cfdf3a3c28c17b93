"""The queue in front of a model: its slots and its room are shared out among the clients."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from random import Random

import pytest

pytest.importorskip("starlette")
pytest.importorskip("prometheus_client")
httpx2 = pytest.importorskip("httpx2")

from edge.server.errors import ApiError  # noqa: E402
from edge.server.guard.api_keys import ApiKey  # noqa: E402
from edge.server.limits import Limits  # noqa: E402
from edge.server.pool.request_queue import RequestQueue  # noqa: E402

from .serving import scripted  # noqa: E402
from .test_server import until  # noqa: E402


class Run:
    """Requests to a queue, and the order in which they were served or rejected."""

    def __init__(self, running, waiting):
        self.queue = RequestQueue(running, waiting)
        self.served, self.rejected = [], []
        self.tasks = []

    async def send(self, *clients, count=1, seconds=60.0):
        for client in clients:
            self.tasks.append(asyncio.create_task(self._request(client, count, seconds)))
            await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def _request(self, client, count, seconds):
        try:
            await self.queue.acquire(count, asyncio.get_running_loop().time() + seconds, client)
        except ApiError as exc:
            self.rejected.append((client, exc.status, exc.code))
        else:
            self.served.append(client)

    async def release(self, count=1):
        self.queue.release(count)
        await asyncio.sleep(0)
        await asyncio.sleep(0)


def test_one_client_of_80_requests_and_another_with_1():
    async def run():
        one = Run(16, 64)
        await one.send(*["a"] * 80)
        assert (one.queue.running, one.queue.waiting) == (16, 64)
        await one.send("b")
        assert one.rejected == [("a", 429, "queue_full")]
        await one.send("a")
        assert one.rejected[1:] == [("a", 429, "queue_full")]
        for _ in range(2):
            await one.release()
        assert "b" in one.served[16:18]
        for _ in range(80 - 2):
            await one.release()
        assert one.served.count("a") == 79
        assert (one.queue.running, one.queue.waiting) == (0, 0)

    asyncio.run(run())


# The requests that wait behind one that runs, by client and number of replies, and the order in which they are served.
ORDERS = {
    "one client": ("aaa", "aaa"),
    "in turn": ("aaabbbc", "abcabab"),
    "who comes later": ("aaaab", "abaaa"),
    "two replies count twice": ("AAAbbbb", "AbbAbbA"),
}


@pytest.mark.parametrize(("sent", "order"), ORDERS.values(), ids=ORDERS)
def test_slots_go_round(sent, order):
    async def run():
        one = Run(2, 64)
        await one.send("x", count=2)
        for client in sent:
            await one.send(client, count=2 if client.isupper() else 1)
        for _ in range(20):
            await one.release(one.queue.running)
        return "".join(one.served)

    assert asyncio.run(run()) == f"x{order}"


def test_nobody_starves():
    """New clients come at each release; the request of two slots and the client of many are served in between."""

    async def run():
        one = Run(2, 64)
        await one.send("x", "x")
        await one.send("wide", count=2)
        await one.send(*["many"] * 20)
        for number in range(40):
            await one.send(f"new {number}")
            await one.release(one.queue.running)
        return one.served

    served = asyncio.run(run())
    assert "wide" in served[:6]
    assert served.count("many") == 20


def test_the_room_is_shared_out():
    async def run():
        one = Run(1, 6)
        await one.send(*["a"] * 7)
        await one.send(*["b"] * 4)
        assert [client for client, *_ in one.rejected] == ["a", "a", "a", "b"]
        await one.send("c", "d", "e", "f")
        assert (one.queue.waiting, one.queue.running) == (6, 1)
        for _ in range(10):
            await one.release(one.queue.running)
        return one.served

    served = asyncio.run(run())
    assert len(served) == 7
    assert set("abcdef") == set(served)


def test_who_leaves_is_not_served():
    async def run():
        one = Run(1, 4)
        await one.send("a", "a", "b", "a")
        one.tasks[2].cancel()
        await one.send("c", seconds=0.0)
        await asyncio.sleep(0.01)
        assert one.rejected == [("c", 503, "timeout")]
        assert one.queue.waiting == 2
        for _ in range(3):
            await one.release(one.queue.running)
        assert (one.served, one.queue.running, one.queue.waiting) == (["a"] * 3, 0, 0)

    asyncio.run(run())


def test_a_stopped_queue_rejects_all():
    async def run():
        one = Run(1, 4)
        await one.send("a", "a", "b")
        one.queue.stop()
        await one.send("c")
        await asyncio.sleep(0)
        assert sorted(one.rejected) == [(client, 503, "stopping") for client in "abc"]
        assert (one.queue.running, one.queue.waiting) == (1, 0)

    asyncio.run(run())


def test_an_engine_of_fewer_slots_serves_one_request_at_a_time():
    async def run():
        one = Run(4, 4)
        await one.send("a", count=4)
        await one.send("b", count=4)
        await one.send("c")
        one.queue.limit = 1
        await one.release(4)
        assert (one.rejected, one.served) == ([], ["a", "b"])
        await one.release(4)
        assert one.served == ["a", "b", "c"]

    asyncio.run(run())


@pytest.mark.parametrize("seed", range(20))
def test_no_slot_is_lost(seed):
    """Requests of several clients come, go, are cancelled and time out at random; none runs beyond the limit."""
    random = Random(seed)

    async def run():
        one = Run(4, 8)
        for _ in range(300):
            match random.randrange(4):
                case 0 | 1:
                    count, seconds = random.randint(1, 4), random.choice([0.0, 60.0])
                    await one.send(random.choice("abcde"), count=count, seconds=seconds)
                case 2:
                    random.choice(one.tasks or [asyncio.create_task(asyncio.sleep(0))]).cancel()
                case 3 if one.queue.running:
                    await one.release(random.randint(1, one.queue.running))
            await asyncio.sleep(0)
            assert 0 <= one.queue.running <= one.queue.limit
            assert 0 <= one.queue.waiting <= 8
        while one.queue.running or one.queue.waiting:
            await one.release(one.queue.running)
            await asyncio.sleep(0)
        await asyncio.gather(*one.tasks, return_exceptions=True)
        assert (one.queue.running, one.queue.waiting) == (0, 0)

    asyncio.run(run())


@pytest.mark.slow
def test_keys_share_a_server(bare_folder):
    """One key fills the queue; the request of another takes a place in it, and the second turn."""
    keys, done = (ApiKey("one", "anna"), ApiKey("two", "ben")), []
    limits = Limits(running=1, waiting=4)

    def ask(url, key):
        body = {"messages": [{"role": "user", "content": "Hi"}]}
        headers = {"x-api-key": key}
        status = httpx2.post(f"{url}/v1/chat/completions", json=body, headers=headers, timeout=60).status_code
        done.append((key, status))

    with (
        scripted(bare_folder, ["\nHi."] * 9, pause=0.1, keys=keys, limits=limits) as (url, dispatcher, _),
        ThreadPoolExecutor(5) as pool,
    ):
        (entry,) = dispatcher.pool.entries.values()
        entry.queue.running = 1
        for waiting in range(1, 5):
            pool.submit(ask, url, "one")
            until(lambda waiting=waiting: entry.queue.waiting == waiting)
        pool.submit(ask, url, "two")
        until(lambda: done)
        dispatcher.call(entry.queue.release, 1)
    assert done == [("one", 429), ("one", 200), ("two", 200), ("one", 200), ("one", 200)]
