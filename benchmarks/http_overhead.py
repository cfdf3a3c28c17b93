"""The time that HTTP adds to a reply: `edge serve` against `edge.Chat`, each with an engine process of its own.

    python -m benchmarks.http_overhead FOLDER [--new-tokens 8] [--runs 41]

A greedy chat of one message, the same for both, on a connection that is open; both sides alternate. TTFT is up to the
first text of the stream, the whole up to its end. The difference is the median of the pairs, and its quartiles.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator

import httpx2

import edge
from benchmarks.serving import start_server

Times = tuple[float, float]  # seconds to the first text, and to the end


def timed(stream: Iterator[str]) -> Times:
    """Return the times of a stream of texts."""
    start, first = time.perf_counter(), 0.0
    for text in stream:
        first = first or (time.perf_counter() - start if text else 0.0)
    return first, time.perf_counter() - start


def by_http(client: httpx2.Client, question: str, tokens: int) -> Iterator[str]:
    """Yield the texts of a reply by HTTP."""
    body = {"messages": [{"role": "user", "content": question}], "max_tokens": tokens, "temperature": 0, "stream": True}
    with client.stream("POST", "/v1/chat/completions", json=body) as answer:
        for line in answer.iter_lines():
            if line.startswith("data: {"):
                yield json.loads(line[6:])["choices"][0]["delta"].get("content") or ""


def by_chat(chat: edge.Chat, question: str, tokens: int) -> Iterator[str]:
    """Yield the texts of a reply in Python."""
    chat.reset()
    for event in chat.stream(question, max_tokens=tokens, temperature=0):
        yield event.text if isinstance(event, edge.Text) else ""


def main() -> None:
    """Run the benchmark that the command line describes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--new-tokens", type=int, default=8)
    parser.add_argument("--runs", type=int, default=41)
    parser.add_argument("--port", type=int, default=8767)
    args = parser.parse_args()
    with (
        edge.Chat(args.folder, device="CPU") as chat,
        start_server(args.folder, args.port) as server,
        httpx2.Client(base_url=f"http://127.0.0.1:{args.port}", timeout=120) as client,
    ):
        sides: dict[str, Callable[[str], Times]] = {
            "http": lambda question: timed(by_http(client, question, args.new_tokens)),
            "python": lambda question: timed(by_chat(chat, question, args.new_tokens)),
        }
        found: dict[str, list[Times]] = {name: [] for name in sides}
        for run in range(-3, args.runs):  # the first are a warm-up
            for name in sorted(sides, reverse=bool(run % 2)):
                times = sides[name](f"Who are you, number {run}?")
                found[name] += [times] if run >= 0 else []
        server.terminate()
    for index, what in enumerate(("TTFT", "whole")):
        added = sorted(
            (http[index] - python[index]) * 1e3 for http, python in zip(found["http"], found["python"], strict=True)
        )
        low, _, high = statistics.quantiles(added, n=4)
        sizes = ", ".join(
            f"{name} {statistics.median(t[index] for t in times) * 1e3:.1f} ms" for name, times in found.items()
        )
        print(f"{what}: {sizes}; added {statistics.median(added):.1f} ms ({low:.1f} to {high:.1f})")


if __name__ == "__main__":
    main()
