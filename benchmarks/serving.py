"""Throughput of `edge serve` relative to a bare GenAI pipeline under the same load, and the TTFT that HTTP adds.

    python -m benchmarks.serving FOLDER [--clients 1 4 16] [--new-tokens 64] [--runs 5]

Every client streams one greedy completion of `new-tokens` tokens, from prompts that are new to both; the rate is of all
clients together, from the first request to the last token. One thread steps the bare pipeline and reads every token
without decoding it. The clients are one process beside the server; it reads from sockets that are open before the clock
starts, and looks only for the first and the last event. Both alternate, and the ratio is the median of the pairs. TTFT
is the median over the clients up to the first text, and for the bare pipeline up to the first token of any request;
with one client the difference is what the server adds. Use a model whose tokens have text (`make_checkpoint
--tokenizer`): with others the first text is delayed.
"""

import argparse
import json
import os
import selectors
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context
from typing import Any

from edge.bench import Summary
from runtime.folder.model_folder import ModelFolder


def prompt(seed: int) -> str:
    return f"[{seed}, {seed * 7 % 1000}, " + "1, 2, 3, " * 8


def completion_request(seed: int, tokens: int) -> bytes:
    """Return the HTTP request of a streamed completion."""
    body = json.dumps({"prompt": prompt(seed), "max_tokens": tokens, "stream": True, "temperature": 0}).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"Content-Type: application/json\r\n\r\n" + body


def run_clients(port: int, seeds: Sequence[int], tokens: int) -> tuple[float, float]:
    """Return the seconds until all completions have ended, and the median seconds to the first event of one."""
    requests = [completion_request(seed, tokens) for seed in seeds]
    firsts: dict[Any, float] = {}
    ends: dict[Any, bytes] = {}
    with ExitStack() as opened, selectors.DefaultSelector() as ready:
        sockets = [opened.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in seeds]
        for connection in sockets:
            ready.register(connection, selectors.EVENT_READ)
        start = time.perf_counter()
        for connection, request in zip(sockets, requests, strict=True):
            connection.sendall(request)
        while ready.get_map():
            for key, _ in ready.select():
                came = key.fileobj.recv(65536)  # type: ignore[union-attr]
                if b"data: " in came:
                    firsts.setdefault(key.fileobj, time.perf_counter() - start)
                ends[key.fileobj] = (ends.get(key.fileobj, b"") + came)[-32:]
                if b"[DONE]" in ends[key.fileobj]:
                    ready.unregister(key.fileobj)
                if not came:
                    raise ConnectionError("the server closed the connection")
        return time.perf_counter() - start, statistics.median(firsts.values())


def client_process(pipe: Any, port: int) -> None:
    """Run clients for each (seeds, tokens) received; send the total seconds, and those to the first token."""
    while (wanted := pipe.recv()) is not None:
        pipe.send(run_clients(port, *wanted))


def pipeline_process(pipe: Any, folder: str) -> None:
    """Run the bare pipeline for each (seeds, tokens) received; send the seconds, and the tokens generated."""
    import numpy as np
    import openvino
    import openvino_genai as genai

    from runtime.backends.backend import Options
    from runtime.backends.openvino.genai import properties
    from runtime.backends.openvino.paged.pipeline import step_tokens

    scheduler = genai.SchedulerConfig()
    scheduler.enable_prefix_caching = True
    scheduler.cache_size = 0
    scheduler.max_num_batched_tokens = step_tokens("CPU")
    scheduler.dynamic_split_fuse = True
    pipeline = genai.ContinuousBatchingPipeline(folder, scheduler, "CPU", properties(Options(), "CPU"))
    tokenizer, number = pipeline.get_tokenizer(), 0
    opened = ModelFolder.open(folder)
    prefix = [opened.manifest.special_tokens[t] for t in ("[gMASK]", "<sop>") if t in opened.manifest.special_tokens]
    stops = {opened.manifest.special_tokens[t] for t in ("<|endoftext|>", "<|user|>", "<|observation|>")}
    while (wanted := pipe.recv()) is not None:
        seeds, tokens = wanted
        start, first, written, handles = time.perf_counter(), 0.0, 0, []
        for seed in seeds:
            config = genai.GenerationConfig(max_new_tokens=tokens, apply_chat_template=False)
            config.stop_token_ids = stops
            ids = prefix + tokenizer.encode(prompt(seed), add_special_tokens=False).input_ids.data[0].tolist()
            handles.append(pipeline.add_request(number, openvino.Tensor(np.array([ids], dtype=np.int64)), config))
            number += 1
        while pipeline.has_non_finished_requests():
            pipeline.step()
            for handle in handles:
                while handle.can_read():
                    (output,) = handle.read().values()
                    written += len(output.generated_ids)
                    first = first or time.perf_counter() - start
        pipe.send((time.perf_counter() - start, first, written))


@contextmanager
def start_server(folder: str, port: int) -> Iterator["subprocess.Popen[str]"]:
    """Start `edge serve` in a process of its own, and wait until its model is loaded."""
    command = [sys.executable, "-m", "edge", "serve", folder, "--device", "CPU", "--port", str(port)]
    quiet = os.environ | {"EDGE_QUIET": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=quiet) as server:
        assert server.stdout is not None
        server.stdout.readline()
        server.stdout.readline()
        yield server


def main() -> None:
    """Run the benchmark that the command line describes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--port", type=int, default=8765)
    args = parser.parse_args()
    spawn = get_context("spawn")
    with start_server(args.folder, args.port) as server:
        sides = {}
        for name, target, argument in (("edge", client_process, args.port), ("genai", pipeline_process, args.folder)):
            ours, theirs = spawn.Pipe()
            spawn.Process(target=target, args=(theirs, argument), daemon=True).start()
            sides[name] = ours
        seed = 0
        for clients in args.clients:
            pairs = []
            for run in range(-1, args.runs):  # the first is a warm-up
                seeds = list(range(seed, seed + clients))
                seed += clients
                figures = {}
                for name in ("edge", "genai") if run % 2 else ("genai", "edge"):
                    sides[name].send((seeds, args.new_tokens))
                    figures[name] = sides[name].recv()
                if run >= 0:
                    written = figures["genai"][2]
                    pairs.append(
                        (
                            written / figures["edge"][0],
                            written / figures["genai"][0],
                            figures["edge"][1],
                            figures["genai"][1],
                        )
                    )
            ours, bare_, ttft, bare_ttft = (Summary.of(values) for values in zip(*pairs, strict=True))
            ratio = Summary.of([a / b for a, b, _, _ in pairs])
            added = Summary.of([(c - d) * 1e3 for _, _, c, d in pairs])
            print(
                f"{clients:3} clients: edge {ours.median:7.1f} tokens/s, bare {bare_.median:7.1f},"
                f" ratio {ratio.median:.3f} ({ratio.low:.3f} to {ratio.high:.3f});"
                f" TTFT {ttft.median * 1e3:.1f} ms, bare {bare_ttft.median * 1e3:.1f},"
                f" added {added.median:.1f} ms ({added.low:.1f} to {added.high:.1f})",
                flush=True,
            )
        for pipe in sides.values():
            pipe.send(None)
        server.terminate()


if __name__ == "__main__":
    main()
