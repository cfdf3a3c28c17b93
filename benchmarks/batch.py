"""Throughput of `edge batch`, relative to the same requests sent to `edge serve` one after another.

    python -m benchmarks.batch FOLDER [--requests 500] [--new-tokens 64] [--sequential 50]

Each request is a greedy completion of `new-tokens` tokens, from a prompt of its own. Of those sent one after another
the first `sequential` are timed. Neither time includes loading the model. Use a model whose tokens have text
(`make_checkpoint --tokenizer`).
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx2

from .serving import prompt, start_server


def write_requests(path: Path, count: int, tokens: int) -> list[dict[str, object]]:
    """Write the file of requests, and return their bodies."""
    bodies: list[dict[str, object]] = [
        {"prompt": prompt(seed), "max_tokens": tokens, "temperature": 0} for seed in range(count)
    ]
    with path.open("w", encoding="utf-8") as file:
        for number, body in enumerate(bodies):
            request = {"custom_id": str(number), "method": "POST", "url": "/v1/completions", "body": body}
            file.write(json.dumps(request) + "\n")
    return bodies


def run_batch(folder: str, requests: Path, output: Path) -> float:
    """Run `edge batch`, and return the tokens per second."""
    command = [sys.executable, "-m", "edge", "batch", str(requests), str(output), "--model", folder, "--device", "CPU"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = re.search(r"\(([\d.]+) tokens/s\)", done.stderr)
    assert found, done.stderr[-1000:]
    return float(found[1])


def send_in_turn(port: int, bodies: list[dict[str, object]]) -> float:
    """Send the requests one after another, and return the tokens per second."""
    with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=600) as client:
        client.post("/v1/completions", json=bodies[-1]).raise_for_status()  # a warm-up
        start, tokens = time.perf_counter(), 0
        for body in bodies:
            tokens += client.post("/v1/completions", json=body).json()["usage"]["completion_tokens"]
        return tokens / (time.perf_counter() - start)


def main() -> None:
    """Run the benchmark that the command line describes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--sequential", type=int, default=50)
    parser.add_argument("--port", type=int, default=8766)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        requests, output = Path(name, "requests.jsonl"), Path(name, "results.jsonl")
        bodies = write_requests(requests, args.requests, args.new_tokens)
        batched = run_batch(args.folder, requests, output)
        size = os.path.getsize(output)
    with start_server(args.folder, args.port) as server:
        in_turn = send_in_turn(args.port, bodies[: args.sequential])
        server.terminate()
    print(f"edge batch, {args.requests} requests: {batched:.1f} tokens/s ({size:,} bytes of results);", end=" ")
    print(f"one after another: {in_turn:.1f} tokens/s; ratio {batched / in_turn:.2f}")


if __name__ == "__main__":
    main()
