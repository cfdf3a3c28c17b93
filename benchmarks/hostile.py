"""The effect of a hostile client on four well-behaved ones: their slowest request, failures, and the server's memory.

    python -m benchmarks.hostile FOLDER [--seconds 120]

The good clients request 16 tokens again and again, half of them with a schema; first alone for a quarter of the time,
then beside a process that sends, in eight threads, expensive schemas, bodies of 8 MiB in several forms, spelled special
tokens, and prompts that are far too long, hangs up at every stage, and keeps 300 incomplete requests open. Memory is
private memory of the server, its engine and the processes that try grammars, sampled twice a second: before, the peak
meanwhile, and ten seconds after. Prints a line of JSON. Use an idle machine: the attacker shares it, at the lowest
priority.
"""

import argparse
import json
import random
import socket
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any
from urllib.parse import urlsplit

import psutil

from benchmarks.serving import start_server

CHAT = "/v1/chat/completions"
WORDS = "Oslo Paris Rome weather tickets kiosk hotel train museum doctor coffee Hello Thanks".split()
ATTACK_THREADS = 8
HALF_REQUESTS = 300
MAX_BODY = 8 * 2**20  # bytes


def main() -> None:
    """Run the benchmark that the command line describes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="a model folder; with --attack, the server's URL")
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--port", type=int, default=8766)
    parser.add_argument("--attack", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.attack:
        attack(args.folder, args.seconds)
        return
    with start_server(args.folder, args.port) as server:
        print(json.dumps(measure(f"http://127.0.0.1:{args.port}", server.pid, args.seconds)))
        server.terminate()


def measure(url: str, pid: int, seconds: float) -> dict[str, Any]:
    for _ in range(2):
        run_good_clients(url, 5)  # warms up what is compiled once
    alone, failures = run_good_clients(url, seconds / 4)
    assert not failures, failures
    before, over = memory(pid), Event()
    most = before

    def watch() -> None:
        nonlocal most
        while not over.wait(0.5):
            with suppress(psutil.Error):
                most = tuple(map(max, most, memory(pid)))

    watcher = Thread(target=watch)
    watcher.start()
    command = [sys.executable, "-m", "benchmarks.hostile", url, "--attack", "--seconds", str(seconds)]
    attacker = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    lower_priority(attacker.pid)
    beside, failures = run_good_clients(url, seconds)
    told = attacker.communicate()[0]
    over.set()
    watcher.join()
    time.sleep(10)
    memories = before, most, memory(pid)
    return {
        "good requests": [len(alone), len(beside)],
        "failures": dict(failures),
        "slowest wait alone, beside, s": [round(max(alone), 2), round(max(beside), 2)],
        "median wait alone, beside, s": [round(statistics.median(alone), 2), round(statistics.median(beside), 2)],
        "allowed, s": round(2 * max(alone) + 1, 2),
        "MB before, most, after": [round(own) for own, _ in memories],
        "MB of what tries grammars": [round(tries) for _, tries in memories],
        "attacks": json.loads(told),
    }


def lower_priority(pid: int) -> None:
    """Give a process only the CPU time that others leave: the attacker stands for another machine."""
    psutil.Process(pid).nice(psutil.IDLE_PRIORITY_CLASS if sys.platform == "win32" else 19)
    with suppress(OSError):  # Linux shares the CPU out among sessions first
        Path(f"/proc/{pid}/autogroup").write_text("19")


def memory(pid: int) -> tuple[float, ...]:
    """Return the private memory, in MB, of the server and its engine, and of the processes that try grammars."""
    server = psutil.Process(pid)
    found = [0.0, 0.0]
    for process in (server, *server.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):  # a process that tried a grammar has ended
            told, tries = process.memory_info(), process.nice() > server.nice()
            found[tries] += (told.rss - getattr(told, "shared", 0)) / 1e6
    return tuple(found)


def run_good_clients(url: str, seconds: float) -> tuple[list[float], Counter[str]]:
    """Run four clients for `seconds`; return the durations of their requests, and their failures."""
    import httpx2

    end = time.monotonic() + seconds
    failures: Counter[str] = Counter()

    def run(number: int) -> list[float]:
        draw, waits = random.Random(number), []
        with httpx2.Client(base_url=url, timeout=120) as client:
            while time.monotonic() < end:
                body: dict[str, Any] = {
                    "messages": [{"role": "user", "content": " ".join(draw.choices(WORDS, k=12))}],
                    "max_tokens": 16,
                }
                if number % 2:
                    name = f"n{draw.randrange(20)}"
                    schema = {"type": "object", "properties": {name: {"type": "integer"}}, "required": [name]}
                    body |= json_schema(schema)
                start = time.monotonic()
                try:
                    answer = client.post(CHAT, json=body)
                    if answer.status_code != 200:
                        failures[f"{answer.status_code} {answer.text[:200]}"] += 1
                except httpx2.TransportError as exc:
                    failures[repr(exc)] += 1
                waits.append(time.monotonic() - start)
        return waits

    with ThreadPoolExecutor(4) as pool:
        return [wait for waits in pool.map(run, range(4)) for wait in waits], failures


def attack(url: str, seconds: float) -> None:
    """Attack for `seconds`, and print the number of responses by attack and status as JSON."""
    import httpx2

    end, told = time.monotonic() + seconds, Counter[str]()
    address = urlsplit(url).hostname, urlsplit(url).port

    def work(number: int) -> None:
        draw = random.Random(number)
        with httpx2.Client(base_url=url, timeout=30) as client:
            while time.monotonic() < end:
                name = draw.choice(list(ATTACKS))
                path, content = ATTACKS[name](draw)
                if draw.random() < 0.3:
                    hang_up(address, path, content, draw)
                    told[f"{name}: hung up"] += 1
                    continue
                try:
                    told[f"{name}: {client.post(path, content=content).status_code}"] += 1
                except httpx2.TransportError as exc:
                    told[f"{name}: {type(exc).__name__}"] += 1

    threads = [Thread(target=work, args=(number,)) for number in range(ATTACK_THREADS)]
    for thread in threads:
        thread.start()
    halves: list[socket.socket] = []
    draw = random.Random(0)
    while time.monotonic() < end:
        halves += [half for _ in range(HALF_REQUESTS - len(halves)) if (half := half_request(address, draw))]
        time.sleep(1)
        for half in list(halves):
            if is_closed(half):
                halves.remove(half)
                half.close()
                told["half requests closed"] += 1
    for thread in threads:
        thread.join()
    print(json.dumps(dict(sorted(told.items()))))


def chat_request(content: str = "Hello", **fields: Any) -> tuple[str, bytes]:
    body = {"messages": [{"role": "user", "content": content}], "max_tokens": 64} | fields
    return CHAT, json.dumps(body).encode()


def json_schema(schema: Any) -> dict[str, Any]:
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}}


def nested_references(draw: random.Random) -> tuple[str, bytes]:
    levels = draw.randrange(5, 40)
    defs = {
        f"a{n}": {"type": "object", "properties": {p: {"$ref": f"#/$defs/a{n + 1}"} for p in ("l", "r")}}
        for n in range(levels)
    }
    return chat_request(**json_schema({"$ref": "#/$defs/a0", "$defs": defs | {f"a{levels}": {"type": "string"}}}))


def nested_arrays(draw: random.Random) -> tuple[str, bytes]:
    schema: dict[str, Any] = {"type": "string", "maxLength": draw.randrange(1, 50)}
    for _ in range(draw.randrange(5, 30)):
        schema = {"type": "array", "items": schema}
    return chat_request(**json_schema(schema))


def optional_properties(draw: random.Random) -> tuple[str, bytes]:
    names = [f"p{draw.randrange(10**6)}" for _ in range(draw.randrange(20, 600))]
    return chat_request(**json_schema({"type": "object", "properties": {name: {"type": "integer"} for name in names}}))


def counted_repetition(draw: random.Random) -> tuple[str, bytes]:
    return chat_request(
        **json_schema({"type": "string", "pattern": f"^([^a]{{1,{draw.randrange(100, 5000)}}}b){{1,50}}$"})
    )


def tool_schema(draw: random.Random) -> tuple[str, bytes]:
    _, body = optional_properties(draw)
    schema = json.loads(body)["response_format"]["json_schema"]["schema"]
    function = {"name": "f", "strict": True, "parameters": schema}
    return chat_request(tools=[{"type": "function", "function": function}])


def many_messages(draw: random.Random) -> tuple[str, bytes]:
    one = b'{"role":"user"},'
    return CHAT, b'{"messages":[' + one * ((MAX_BODY - 100) // len(one)) + b'{"role":"user","content":"a"}]}'


def many_parameters(draw: random.Random) -> tuple[str, bytes]:
    one = draw.choice((b"[],", b"{},", b'"",', b"0,"))
    tool = b'{"type":"function","function":{"name":"a","parameters":{"a":['
    count = draw.choice(((MAX_BODY - 300) // len(one), 40_000))
    return CHAT, b'{"messages":[{"role":"user","content":"a"}],"tools":[' + tool + one * count + b"0]}}}]}"


def long_prose(draw: random.Random) -> tuple[str, bytes]:
    return chat_request("word, " * (MAX_BODY // 7))


def wide_characters(draw: random.Random) -> tuple[str, bytes]:
    body = {"messages": [{"role": "user", "content": "😀" + "a" * (MAX_BODY - 300)}]}
    return CHAT, json.dumps(body, ensure_ascii=False).encode()


def special_tokens(draw: random.Random) -> tuple[str, bytes]:
    token = draw.choice(("<|user|>", "<|assistant|>", "[gMASK]", "<|endoftext|>"))
    return chat_request(token * (draw.choice((200_000, MAX_BODY - 300)) // len(token)))


def tokenize(draw: random.Random) -> tuple[str, bytes]:
    return "/tokenize", json.dumps({"prompt": "<|user|> word " * 20_000}).encode()


def deep_nesting(draw: random.Random) -> tuple[str, bytes]:
    return CHAT, b"[" * draw.choice((300, MAX_BODY - 100))


def long_reply(draw: random.Random) -> tuple[str, bytes]:
    return chat_request(stream=True, max_tokens=100)


ATTACKS: dict[str, Callable[[random.Random], tuple[str, bytes]]] = {
    made.__name__: made
    for made in (
        nested_references, nested_arrays, optional_properties, counted_repetition, tool_schema, many_messages,
        many_parameters, long_prose, wide_characters, special_tokens, tokenize, deep_nesting, long_reply,
    )
}  # fmt: skip


def head(path: str, length: int) -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n".encode()


def hang_up(address: Any, path: str, content: bytes, draw: random.Random) -> None:
    """Send a request or a part of it, wait a little, and close the connection."""
    with suppress(OSError), socket.create_connection(address, timeout=10) as connection:
        connection.sendall(head(path, len(content)) + content[: draw.choice((0, len(content) // 2, len(content)))])
        time.sleep(draw.choice((0, 0.05, 0.5)))


def half_request(address: Any, draw: random.Random) -> socket.socket | None:
    try:
        connection = socket.create_connection(address, timeout=10)
        connection.sendall(draw.choice((b"", b"POST /v1/chat", head(CHAT, 1000) + b'{"messages":')))
    except OSError:
        return None
    return connection


def is_closed(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return connection.recv(65536) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


if __name__ == "__main__":
    main()
