"""A soak test: many short requests to a server, a third of them hung up; errors, memory growth and leaked requests.

    python -m benchmarks.soak FOLDER [--requests 2000] [--clients 8]

Memory is the USS of the server and its engine, without pages shared with the file cache, after every tenth of the
requests; its growth is from the first tenth to the end. A hang-up closes the connection after the first text. The time
from a hang-up to the release is until /metrics shows no running request, including the time of that request, which is
shown beside it.
"""

import argparse
import asyncio
import random
import re
import statistics
import time
from collections import Counter
from typing import Any

import psutil

from benchmarks.serving import start_server

WORDS = "Oslo Paris Rome weather tickets kiosk hotel train museum doctor coffee Hello Thanks".split()


def memory(pid: int) -> tuple[float, float]:
    """Return the USS of the server and of its engine, in MB."""
    server = psutil.Process(pid)
    engine = sum(child.memory_full_info().uss for child in server.children(recursive=True))
    return server.memory_full_info().uss / 1e6, engine / 1e6


async def send_request(client: Any, draw: random.Random, hang_up: bool) -> str:
    """Send a request; return its outcome."""
    body = {
        "messages": [{"role": "user", "content": " ".join(draw.choices(WORDS, k=draw.randint(1, 12)))}],
        "max_tokens": 400 if hang_up else draw.randint(1, 24),
        "stream": hang_up or draw.random() < 0.5,
        "temperature": draw.choice((0, 1)),
    }
    if not body["stream"]:
        answer = await client.post("/v1/chat/completions", json=body)
        return str(answer.status_code)
    async with client.stream("POST", "/v1/chat/completions", json=body) as answer:
        last = ""
        async for line in answer.aiter_lines():
            last = line or last
            if hang_up and '"content":"' in line and '"content":""' not in line:
                return "hung up"
    return str(answer.status_code) if last == "data: [DONE]" else f"ended with {last[:60]}"


async def gauge(client: Any, name: str) -> float:
    """Return the value of a gauge of /metrics."""
    text = (await client.get("/metrics")).text
    found = re.search(rf"^{name}{{[^}}]*}} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


async def measure_release(url: str, times: int = 10) -> tuple[float, float, float]:
    """Return median seconds from a hang-up to the release, between two tokens before, and to read /metrics."""
    import httpx2

    waits, gaps, looks = [], [], []
    body = {"prompt": "[1, 2, 3, ", "max_tokens": 400, "stream": True}
    async with httpx2.AsyncClient(base_url=url, timeout=60) as watcher:
        for _ in range(times):
            came = []
            async with (
                httpx2.AsyncClient(base_url=url, timeout=60) as client,
                client.stream("POST", "/v1/completions", json=body) as answer,
            ):
                async for line in answer.aiter_lines():
                    came += [time.perf_counter()] if line else []
                    if len(came) == 12:
                        break
            start = time.perf_counter()
            while await gauge(watcher, "edge_requests_running"):
                await asyncio.sleep(0)
            waits.append(time.perf_counter() - start)
            gaps.append((came[-1] - came[0]) / (len(came) - 1))
            start = time.perf_counter()
            await gauge(watcher, "edge_requests_running")
            looks.append(time.perf_counter() - start)
    return statistics.median(waits), statistics.median(gaps), statistics.median(looks)


async def soak(url: str, pid: int, requests: int, clients: int) -> None:
    """Run the soak test and print its figures."""
    import httpx2

    outcomes: Counter[str] = Counter()
    left = iter(range(requests))
    marks: list[tuple[float, float, float]] = []

    async def client_of(number: int) -> None:
        draw = random.Random(number)
        async with httpx2.AsyncClient(base_url=url, timeout=120) as client:
            for index in left:
                if index and index % -(-requests // 10) == 0:
                    marks.append(
                        (*await asyncio.to_thread(memory, pid), await gauge(client, "edge_kv_cache_bytes") / 1e6)
                    )
                try:
                    outcomes[await send_request(client, draw, index % 3 == 0)] += 1
                except httpx2.HTTPError as exc:
                    outcomes[type(exc).__name__] += 1

    start = time.perf_counter()
    await asyncio.gather(*(client_of(number) for number in range(clients)))
    seconds = time.perf_counter() - start
    async with httpx2.AsyncClient(base_url=url, timeout=60) as client:
        await asyncio.sleep(1)
        running = await gauge(client, "edge_requests_running")
        marks.append((*memory(pid), await gauge(client, "edge_kv_cache_bytes") / 1e6))
    print(f"{requests:,} requests by {clients} clients in {seconds:.0f} s: {dict(outcomes)}")
    print(f"requests still running after a second: {running:.0f}")
    wait, gap, look = await measure_release(url)
    print(
        f"from a hang-up to the release: {wait * 1e3:.1f} ms, {wait / gap:.1f} tokens of {gap * 1e3:.1f} ms;"
        f" reading /metrics takes {look * 1e3:.1f} ms"
    )
    for tenth, (server, engine, cache) in enumerate(marks, 1):
        print(
            f"memory at {tenth:2}/10: server {server:6.1f} MB, engine {engine:7.1f} MB, KV cache in use {cache:6.1f} MB"
        )
    first, *_, last = (server + engine for server, engine, _ in marks)
    half = sum(marks[len(marks) // 2 - 1][:2])
    print(f"grown by {last / first - 1:.1%} since the first tenth, by {last / half - 1:.1%} in the second half")


def main() -> None:
    """Run the benchmark that the command line describes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--port", type=int, default=8766)
    args = parser.parse_args()
    with start_server(args.folder, args.port) as server:
        asyncio.run(soak(f"http://127.0.0.1:{args.port}", server.pid, args.requests, args.clients))
        server.terminate()
    print(f"the server ended with {server.returncode}")


if __name__ == "__main__":
    main()
