"""Benchmark of a model on this machine: load time, TTFT, prefill and decode rates, peak memory."""

import random
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from runtime.backends.backend import Backend, Delta, Options, Request
from runtime.backends.choose import choose
from runtime.errors import RequestError
from runtime.sampling import SamplingParams
from runtime.source import ModelSource


@dataclass(frozen=True, slots=True)
class Summary:
    """Median, minimum and maximum of repeated runs."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Summary":
        """Summarize at least one value."""
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True, slots=True)
class BenchResult:
    """The result of a benchmark.

    `load` and `ttft` are in seconds, `prefill` and `decode` in tokens per second, `peak_memory` in bytes.
    """

    device: str
    reason: str
    runs: int
    prompt_tokens: int
    new_tokens: int
    load: float
    ttft: Summary
    prefill: Summary
    decode: Summary
    peak_memory: int


def benchmark(
    folder: ModelSource,
    *,
    device: str = "auto",
    prompt_tokens: int = 512,
    new_tokens: int = 128,
    runs: int = 5,
    options: Options = Options(),
) -> BenchResult:
    """Load the model, and generate `new_tokens` tokens greedily `runs` times, each time from a new prompt.

    Raises RequestError where prompt and reply do not fit the context, or a count is too small.
    """
    context = folder.manifest.context_length
    if min(prompt_tokens, new_tokens - 1, runs) < 1:
        raise RequestError(
            "a benchmark needs at least 1 prompt token, 2 new tokens and 1 run", hint="use larger numbers"
        )
    if prompt_tokens + new_tokens > context:
        raise RequestError(
            f"{prompt_tokens:,} prompt tokens and {new_tokens:,} new ones do not fit the context of {context:,}",
            hint="use fewer --prompt-tokens or --new-tokens",
        )
    options = replace(options, context=prompt_tokens + new_tokens, reply_tokens=new_tokens)
    choice = choose(device, folder, options)
    start = time.perf_counter()
    backend = choice.backend.load(folder, choice.device, options)
    load = time.perf_counter() - start
    measured = [_measure_once(backend, prompt_tokens, new_tokens, seed) for seed in range(-1, runs)][
        1:
    ]  # the first is a warm-up
    backend.close()
    ttfts, counts, rates = zip(*measured, strict=True)
    return BenchResult(
        device=choice.device,
        reason=choice.reason,
        runs=runs,
        prompt_tokens=counts[0],
        new_tokens=new_tokens,
        load=load,
        ttft=Summary.of(ttfts),
        prefill=Summary.of([count / ttft for count, ttft in zip(counts, ttfts, strict=True)]),
        decode=Summary.of(rates),
        peak_memory=peak_memory(),
    )


def _measure_once(backend: Backend, prompt_tokens: int, new_tokens: int, seed: int) -> tuple[float, int, float]:
    """Return TTFT in seconds, the prompt's length, and the decode rate in tokens per second after the first token."""
    prompt = random_prompt(backend, prompt_tokens, seed)
    start = time.perf_counter()
    first, generated = 0.0, 0
    for part in backend.generate(Request((prompt,), (), SamplingParams(max_new_tokens=new_tokens))):
        if isinstance(part, Delta) and part.tokens:
            first = first or time.perf_counter()
            generated += part.tokens
    end = time.perf_counter()
    return first - start, backend.count_tokens((prompt,)), (generated - 1) / (end - first)


def random_prompt(backend: Backend, tokens: int, seed: int) -> str:
    """Return a prompt of random numbers with nearly `tokens` tokens, at most that many, different for every seed."""
    draw = random.Random(seed)
    words = [str(draw.randrange(10, 1000)) for _ in range(tokens)]
    low, high = 1, tokens
    while low < high:  # the most words that fit
        middle = (low + high + 1) // 2
        if backend.count_tokens((" ".join(words[:middle]),)) <= tokens:
            low = middle
        else:
            high = middle - 1
    return " ".join(words[:low])


def peak_memory() -> int:
    """Return the peak resident memory of this process, in bytes."""
    if sys.platform == "win32":
        import psutil  # type: ignore[import-untyped,unused-ignore]

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
