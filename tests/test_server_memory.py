"""What a server's memory does while requests come and go."""

import sys
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

pytest.importorskip("starlette")
pytest.importorskip("prometheus_client")
httpx2 = pytest.importorskip("httpx2")

from .test_serve import program  # noqa: E402
from .test_server import CHAT  # noqa: E402


def memory(process):
    """MB of the server, and of its engine."""
    server = psutil.Process(process.pid)
    return server.memory_info().rss / 1e6, sum(one.memory_info().rss for one in server.children()) / 1e6


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="its memory is not counted like this")
def test_it_stays_within_bounds(demo_folder, tmp_path):
    """Measured: 0.3 and 21 MB. The engine grew by hundreds when it kept 5,000 compiled batch sizes."""

    def ask(number):
        body = {
            "messages": [{"role": "user", "content": f"{number} " * (1 + number % 40)}],
            "max_tokens": 1 + number % 9,
        }
        if number % 3:
            return client.post(CHAT, json=body).status_code
        with client.stream("POST", CHAT, json=body | {"stream": True}) as reply:  # it hangs up
            return reply.status_code

    with (
        program(demo_folder.path, "--device", "CPU", log=tmp_path / "log") as (url, process),
        httpx2.Client(base_url=url, timeout=60) as client,
        ThreadPoolExecutor(8) as pool,
    ):
        assert set(pool.map(ask, range(100))) == {200}
        before = memory(process)
        assert set(pool.map(ask, range(100, 300))) == {200}
        server, engine = (now - then for now, then in zip(memory(process), before, strict=True))
    assert server < 10, (server, engine)
    assert engine < 60, (server, engine)
