"""The effect of one request on others, and on event loops that wait for it.

    python -m benchmarks.isolation threads FOLDER [--count 100]     new processes whose threads call at once: hung
    python -m benchmarks.isolation heartbeat FOLDER                 the longest gap of an event loop and of a Qt window
    python -m benchmarks.isolation cancel FOLDER                    cancelling a prompt, and another reply meanwhile
    python -m benchmarks.isolation chats FOLDER                     ten alternating chats: computed over new tokens
    python -m benchmarks.isolation hostile FOLDER [--count 200]     four clients beside hostile grammars
    python -m benchmarks.isolation grammars FOLDER [--count 5000]   an engine's memory with distinct schemas

Each prints a line of JSON. Use an idle machine.
"""

import argparse
import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from threading import Event, Thread
from typing import Any

import psutil

import edge
from runtime.backends.backend import Delta, Options, Request
from runtime.backends.openvino.paged.batched import OpenVINO
from runtime.backends.openvino.paged.prefix_cache import BLOCK
from runtime.backends.openvino.process.backend import SubprocessBackend
from runtime.errors import EdgeError
from runtime.folder.model_folder import ModelFolder
from runtime.grammar.grammar import Grammar, JsonSchema, Regex
from runtime.sampling import SamplingParams

ROOT = str(Path(__file__).resolve().parents[1])
THREADS = """
import sys; sys.path.insert(0, sys.argv[1])
import edge, threading
model = edge.Model(sys.argv[2], device="CPU", in_process=sys.argv[3] == "in")
gate = threading.Barrier(8)
def one():
    gate.wait()
    for _ in range(3):
        list(model.reply([edge.Message("user", "Who are you?")], sampling=edge.Sampling(max_new_tokens=4)))
threads = [threading.Thread(target=one) for _ in range(8)]
[t.start() for t in threads]; [t.join() for t in threads]
model.close()
"""
WINDOW = """
import sys, time; sys.path.insert(0, sys.argv[1])
from threading import Thread
from PySide6.QtCore import QTimer
from PySide6.QtWidgets import QApplication, QLabel
import edge
app = QApplication([]); label = QLabel("0"); label.show()
chat = edge.Chat(sys.argv[2], device="CPU")
last, gaps, count = time.perf_counter(), [], 0
def frame():
    global last, count
    now = time.perf_counter(); gaps.append(now - last); last = now; count += 1; label.setText(str(count))
timer = QTimer(); timer.timeout.connect(frame); timer.start(16)
def talk():
    chat.send(sys.argv[3], sampling=edge.Sampling(max_new_tokens=8)); QTimer.singleShot(0, app, app.quit)
thread = Thread(target=talk); QTimer.singleShot(100, thread.start)
app.exec(); thread.join(); print(max(gaps[5:]))
"""


def prompt_of(count: Callable[[str], int], tokens: int) -> str:
    draw = random.Random(tokens)
    words, text = [chr(97 + i) * 2 for i in range(26)], ""
    while count(text) < tokens:
        text += " ".join(draw.choice(words) for _ in range(50)) + " "
    return text


def threads(folder: str, count: int) -> dict[str, Any]:
    hung = {"in": 0, "own": 0}
    for where in hung:
        for _ in range(count):
            try:
                subprocess.run([sys.executable, "-c", THREADS, ROOT, folder, where], timeout=120, check=True)
            except subprocess.SubprocessError:
                hung[where] += 1
    return {"processes": count, "hung, engine in the same process": hung["in"], "in its own": hung["own"]}


def heartbeat(folder: str, tokens: int) -> dict[str, Any]:
    with edge.Chat(folder, device="CPU") as chat:
        text = prompt_of(lambda text: chat.model.count_tokens([edge.Message("user", text)]), tokens)
        read = chat.model.count_tokens([edge.Message("user", text)])

        async def beat(done: asyncio.Event) -> float:
            worst, last = 0.0, time.perf_counter()
            while not done.is_set():
                await asyncio.sleep(0.01)
                now = time.perf_counter()
                worst, last = max(worst, now - last), now
            return worst - 0.01

        async def run() -> tuple[float, float]:
            done = asyncio.Event()
            beating = asyncio.create_task(beat(done))
            start = time.perf_counter()
            await asyncio.to_thread(lambda: list(chat.stream(text, sampling=edge.Sampling(max_new_tokens=8))))
            done.set()
            return await beating, time.perf_counter() - start

        gap, seconds = asyncio.run(run())
    found: dict[str, Any] = {"prompt tokens": read, "asyncio gap, s": round(gap, 3), "reply, s": round(seconds, 1)}
    if find_spec("PySide6"):
        environment = os.environ | {"QT_QPA_PLATFORM": "offscreen"}
        command = [sys.executable, "-c", WINDOW, ROOT, folder, text]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        found["Qt frame gap, s"] = round(float(done.stdout), 3)
    return found


def cancel(folder: str, tokens: int) -> dict[str, Any]:
    with closing(SubprocessBackend.load(ModelFolder.open(folder), "CPU", Options())) as engine:
        text = prompt_of(lambda text: engine.count_tokens((text,)), tokens)
        idle, silences = [], []
        for number in range(5):
            alone = Request((f"{number} {text}",), (), SamplingParams(max_new_tokens=4))
            thread = Thread(target=lambda request=alone: list(engine.generate(request)))
            thread.start()
            time.sleep(0.5)
            start = time.perf_counter()
            alone.cancellation.cancel()
            thread.join()
            engine.count_tokens(("a",))  # answered when the engine has left its step
            idle.append(time.perf_counter() - start)
        writing, ended = Event(), Event()
        gaps: list[float] = []

        def write() -> None:
            last = 0.0
            for part in engine.generate(Request(("hello",), (), SamplingParams(max_new_tokens=4000))):
                if isinstance(part, Delta) and part.tokens:
                    now = time.perf_counter()
                    gaps.append(now - last if last else 0.0)
                    last = now
                    writing.set()
                if ended.is_set():
                    return

        thread = Thread(target=write)
        thread.start()
        writing.wait()
        time.sleep(1)
        before, gaps[:] = statistics.median(gaps[1:]), []
        start = time.perf_counter()
        list(engine.generate(Request((f"beside {text}",), (), SamplingParams(max_new_tokens=1))))
        beside = time.perf_counter() - start
        silences = sorted(gaps)
        ended.set()
        thread.join()
        start = time.perf_counter()
        list(engine.generate(Request((f"alone {text}",), (), SamplingParams(max_new_tokens=1))))
        alone_rate = tokens / (time.perf_counter() - start)
    return {
        "prompt tokens": tokens,
        "cancel to idle, s": [round(seconds, 3) for seconds in sorted(idle)],
        "a reply's gap alone, s": round(before, 3),
        "its longest silence beside a prompt, s": round(silences[-1], 3),
        "prompt alone, tokens/s": round(alone_rate, 1),
        "prompt beside a reply, tokens/s": round(tokens / beside, 1),
    }


def chats(folder: str, turns: int) -> dict[str, Any]:
    """Count the tokens computed, to a block, by reading prompts in steps of one block."""
    with closing(OpenVINO.load(ModelFolder.open(folder), "CPU", Options())) as engine:
        engine._tokens_alone = engine._tokens_beside = BLOCK
        steps = 0
        pipeline = engine.pipeline

        class Steps:
            def __getattr__(self, name: str) -> Any:
                return getattr(pipeline, name)

            def add_request(self, number: int, prompt: Any, config: Any) -> Any:
                nonlocal steps
                steps += 1  # a slice is a request and a step
                return pipeline.add_request(number, prompt, config)

        engine.pipeline = Steps()
        engine._replies.add(-1)  # as if others wrote: a prompt is read in slices of one block
        room = min(engine.max_prompt_tokens, 16_000) // (turns + 1)
        words = "five six seven " * (room // (2 * engine.count_tokens(("five six seven ",))))
        texts = [f"[gMASK]<sop><|user|>\n{number} {words}" for number in range(10)]
        computed = new = 0
        for turn in range(turns):
            for number, text in enumerate(texts):
                longer = f"{text}<|assistant|>\nYes.<|user|>\n{turn} and {words}"
                before = engine.count_tokens((text,)) if turn else 0
                steps = 0
                list(engine.generate(Request((longer,), (), SamplingParams(max_new_tokens=1))))
                texts[number] = longer
                if turn:
                    computed += steps * BLOCK
                    new += engine.count_tokens((longer,)) - before
    return {"chats": 10, "turns": turns, "computed over new": round(computed / new, 3)}


HOSTILE: tuple[Callable[[int], Grammar], ...] = (
    lambda n: Regex(rf"a\bc{n}"),
    lambda n: Regex(f"(?=a)b{n}"),
    lambda n: Regex(rf"(a|b)\1{n}"),
    lambda n: Regex("((a{900}){900}){900}" + str(n)),
    lambda n: Regex("([^x]|[a-zé]){0,2000}" + str(n)),
    lambda n: JsonSchema.from_schema({"type": "string", "maxLength": 2000 + n}),
    lambda n: JsonSchema.from_schema(
        {"type": "object", "properties": {f"p{i}{n}": {"type": "string"} for i in range(40)}}
    ),
)


def hostile(folder: str, count: int) -> dict[str, Any]:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    with closing(SubprocessBackend.load(ModelFolder.open(folder), "CPU", Options())) as engine:

        def ask(grammar: Grammar | None) -> float:
            start = time.perf_counter()
            request = Request(
                ("[gMASK]<sop><|user|>\nHello<|assistant|>",), (), SamplingParams(max_new_tokens=16), grammar
            )
            list(engine.generate(request))
            return time.perf_counter() - start

        def client(number: int, more: Callable[[], bool]) -> Iterator[float]:
            turn = 0
            while more():
                turn += 1
                name = f"n{number}{turn}"
                own = JsonSchema.from_schema(schema | {"properties": {name: {"type": "integer"}}, "required": [name]})
                yield ask((None, Regex("[0-9]{4}"), JsonSchema.from_schema(schema), own)[number])

        def measured(more: Callable[[int], Callable[[], bool]]) -> tuple[list[float], int]:
            failed = 0

            def run(number: int) -> list[float]:
                nonlocal failed
                try:
                    return list(client(number, more(number)))
                except EdgeError:
                    failed += 1
                    return []

            with ThreadPoolExecutor(4) as pool:
                found = list(pool.map(run, range(4)))
                print([round(max(f), 2) for f in found], file=sys.stderr)
                return [seconds for one in found for seconds in one], failed

        def times(left: int) -> Callable[[int], Callable[[], bool]]:
            def start(_: int) -> Callable[[], bool]:
                turns = iter([True] * left)
                return lambda: next(turns, False)

            return start

        ask(Regex("[0-9]{2}"))
        alone, _ = measured(times(20))
        refused, admitted = 0, 0
        with ThreadPoolExecutor(8) as attackers:

            def attack(number: int) -> None:
                nonlocal refused, admitted
                try:
                    ask(HOSTILE[number % len(HOSTILE)](number))
                    admitted += 1
                except EdgeError:
                    refused += 1

            attacks = [attackers.submit(attack, number) for number in range(count)]
            beside, failed = measured(lambda _: lambda: not all(one.done() for one in attacks))
    return {
        "hostile": count,
        "refused": refused,
        "admitted": admitted,
        "innocent": len(beside),
        "failed": failed,
        "slowest alone, s": round(max(alone), 2),
        "slowest beside, s": round(max(beside), 2),
        "median alone, s": round(statistics.median(alone), 2),
        "median beside, s": round(statistics.median(beside), 2),
    }


def grammars(folder: str, count: int) -> dict[str, Any]:
    draw = random.Random(5)
    kinds: tuple[Callable[[int], dict[str, Any]], ...] = (
        lambda n: {"type": "integer"},
        lambda n: {"type": "string"},
        lambda n: {"type": "string", "pattern": f"^[a-z]{{1,9}}-{n}$"},
        lambda n: {"type": "array", "items": {"type": "boolean"}},
        lambda n: {"enum": [f"v{n}", f"w{n}"]},
        lambda n: {"type": "string", "format": "date"},
    )
    options = Options()
    with closing(SubprocessBackend.load(ModelFolder.open(folder), "CPU", options)) as engine:
        pids, failed, most, per = {engine.pid}, 0, 0, []
        loaded = psutil.Process(engine.pid).memory_info().rss
        for number in range(count):
            names = [f"p{number}_{i}" for i in range(draw.randrange(1, 4))]
            schema = {
                "type": "object",
                "properties": {name: draw.choice(kinds)(number) for name in names},
                "required": names,
                "additionalProperties": False,
            }
            request = Request(("Hi",), (), SamplingParams(max_new_tokens=2), JsonSchema.from_schema(schema))
            try:
                list(engine.generate(request))
            except EdgeError:
                failed += 1
            pids.add(engine.pid)
            most = max(most, psutil.Process(engine.pid).memory_info().rss - loaded)
            per.append(engine.grammar_memory)
    grown = [after - before for before, after in pairwise(per) if after > before]
    return {
        "schemas": count,
        "failed": failed,
        "engines": len(pids),
        "most above loaded, MB": round(most / 1e6),
        "a grammar, MB: median": round(statistics.median(grown) / 1e6, 2),
        "most": round(max(grown) / 1e6, 2),
    }


def main() -> None:
    """Run the benchmark that the command line describes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("threads", "heartbeat", "cancel", "chats", "hostile", "grammars"))
    parser.add_argument("folder")
    parser.add_argument("--count", type=int)
    args = parser.parse_args()
    counts = {"threads": 100, "heartbeat": 2000, "cancel": 2000, "chats": 4, "hostile": 200, "grammars": 5000}
    found = globals()[args.what](args.folder, args.count or counts[args.what])
    print(json.dumps({"figure": args.what, **found}))


if __name__ == "__main__":
    main()
