"""Overhead of `edge.Chat` over bare OpenVINO GenAI: the same folder, prompts and greedy tokens, alternating in one run.

    python -m benchmarks.runtime_overhead FOLDER [--prompt-tokens 512] [--new-tokens 128] [--runs 11] [--json]

TTFT is from the question to the first token in Python. For `edge` it includes rendering, tokenization and parsing; bare
GenAI gets the rendered prompt, and the same properties. Figures are medians with the lowest and highest run. Each
prompt is new to both caches.
"""

import argparse
import json
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edge import Chat, Message, Model, ModelFolder, Sampling
from edge.bench import Summary, random_prompt
from runtime.backends.backend import Delta, Options
from runtime.backends.openvino.genai import properties
from runtime.backends.openvino.paged.batched import OpenVINO


@dataclass(frozen=True)
class ReplyTiming:
    """The timing of a reply: seconds to the first token, tokens per second after it, and the number of tokens."""

    ttft: float
    decode: float
    tokens: int

    @classmethod
    def of(cls, start: float, times: list[float]) -> "ReplyTiming":
        """Return the timing of a reply whose tokens arrived at `times`."""
        return cls(times[0] - start, (len(times) - 1) / (times[-1] - times[0]), len(times))


class TimedBackend:
    """A backend that records when its tokens arrive."""

    def __init__(self, backend: OpenVINO) -> None:
        self._backend = backend
        self.times: list[float] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def generate(self, request: Any) -> Any:
        """Generate with the backend, and record the times."""
        for part in self._backend.generate(request):
            if isinstance(part, Delta):
                self.times += [time.perf_counter()] * part.tokens
            yield part


def time_edge(chat: Chat, watched: Any, question: str) -> ReplyTiming:
    chat.reset()
    watched.times.clear()
    start = time.perf_counter()
    chat.send(question)
    return ReplyTiming.of(start, watched.times)


def time_bare(pipeline: Any, prompt: str, stops: set[int], new_tokens: int) -> ReplyTiming:
    import openvino_genai as genai

    config = genai.GenerationConfig()
    config.max_new_tokens = new_tokens
    config.stop_token_ids = stops
    config.apply_chat_template = False
    times: list[float] = []

    class TimingStreamer(genai.StreamerBase):  # type: ignore[misc]
        def write(self, token: int | list[int]) -> Any:
            times.extend([time.perf_counter()] * (1 if isinstance(token, int) else len(token)))
            return genai.StreamingStatus.RUNNING

        def end(self) -> None:
            pass

    start = time.perf_counter()
    pipeline.generate(prompt, config, TimingStreamer())
    return ReplyTiming.of(start, times)


def load_bare_pipeline(folder: Path) -> Any:
    import openvino_genai as genai

    scheduler = genai.SchedulerConfig()
    scheduler.enable_prefix_caching = True
    return genai.LLMPipeline(str(folder), "CPU", scheduler_config=scheduler, **properties(Options(), "CPU"))


def main() -> None:
    """Run the benchmark that the command line describes."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--prompt-tokens", type=int, default=512)
    arguments.add_argument("--new-tokens", type=int, default=128)
    arguments.add_argument("--runs", type=int, default=11)
    arguments.add_argument("--json", action="store_true")
    args = arguments.parse_args()

    folder = ModelFolder.open(args.folder)
    watched: Any = TimedBackend(OpenVINO.load(folder, "CPU", Options()))
    model = Model(folder, backend=watched)
    chat = Chat(model, sampling=Sampling(max_new_tokens=args.new_tokens))
    pipeline = load_bare_pipeline(folder.path)
    stops = {folder.manifest.special_tokens[name] for name in model.stop_tokens}
    runs: dict[str, list[ReplyTiming]] = {"edge": [], "genai": []}
    for seed in range(-1, args.runs):  # the first is a warm-up
        question = random_prompt(watched, args.prompt_tokens, seed)
        prompt = "".join(model.prompt([Message("user", question)]))
        for side in ("edge", "genai") if seed % 2 else ("genai", "edge"):
            if side == "edge":
                run = time_edge(chat, watched, question)
            else:
                run = time_bare(pipeline, prompt, stops, args.new_tokens)
            if seed >= 0:
                runs[side].append(run)
    report(runs["edge"], runs["genai"], args.json)


def report(ours: list[ReplyTiming], bare: list[ReplyTiming], as_json: bool) -> None:
    figures = {
        "edge": {"ttft": Summary.of([r.ttft for r in ours]), "decode": Summary.of([r.decode for r in ours])},
        "genai": {"ttft": Summary.of([r.ttft for r in bare]), "decode": Summary.of([r.decode for r in bare])},
    }
    ratio = statistics.median(a.decode / b.decode for a, b in zip(ours, bare, strict=True))
    added = statistics.median(a.ttft - b.ttft for a, b in zip(ours, bare, strict=True))
    if as_json:
        sides = {side: {name: asdict(m) for name, m in values.items()} for side, values in figures.items()}
        print(json.dumps(sides | {"decode_ratio": ratio, "ttft_added": added}, indent=2))
        return
    for side, values in figures.items():
        t, d = values["ttft"], values["decode"]
        print(
            f"{side:6} TTFT {t.median * 1e3:8.1f} ms ({t.low * 1e3:.1f} to {t.high * 1e3:.1f})"
            f"   decode {d.median:7.1f} tokens/s ({d.low:.1f} to {d.high:.1f})"
        )
    print(f"decode rate of edge over bare GenAI: {ratio:.3f}; TTFT added: {added * 1e3:.1f} ms (medians of the pairs)")


if __name__ == "__main__":
    main()
