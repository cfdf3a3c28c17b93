"""Benchmark of a model on this machine: load time, TTFT, prefill and decode rates, peak memory."""

import random
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from runtime.backends.backend import Backend, Delta, Options, Request
from runtime.backends.choose import choose
from runtime.backends.tuned_settings import apply_tuned_settings
from runtime.errors import RequestError
from runtime.pictures import Picture, PictureLike
from runtime.prompt.template import Prompt
from runtime.sampling import SamplingParams
from runtime.source import ModelSource

if TYPE_CHECKING:
    import numpy as np


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

    `load`, `ttft` and `picture` are in seconds, `prefill` and `decode` in tokens per second, `peak_memory` in bytes.
    `picture` is the part of `ttft` that a new picture takes, and one that the engine knows does not; None without any.
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
    picture: Summary | None = None


def benchmark(
    folder: ModelSource,
    *,
    device: str = "auto",
    prompt_tokens: int = 512,
    new_tokens: int = 128,
    runs: int = 5,
    options: Options = Options(),
    picture: PictureLike | None = None,
) -> BenchResult:
    """Load the model, and generate `new_tokens` tokens greedily `runs` times, each time from a new prompt; with a
    picture, from a new one, which differs from it in a pixel, and a prompt after it.

    Raises RequestError where prompt and reply do not fit the context, a count is too small, or the model reads no
    pictures.
    """
    _check_counts(folder.manifest.context_length, prompt_tokens, new_tokens, runs)
    pixels = None if picture is None else Picture.open(picture).pixels()
    if pixels is not None and folder.manifest.vision is None:
        raise RequestError("the model reads no pictures", hint="leave out --picture")
    if pixels is None:
        options = replace(options, context=prompt_tokens + new_tokens, reply_tokens=new_tokens)
    choice, options = apply_tuned_settings(choose(device, folder, options), folder, options)
    start = time.perf_counter()
    backend = choice.backend.load(folder, choice.device, options)
    load = time.perf_counter() - start
    if pixels is not None and not backend.reads_pictures:
        backend.close()
        raise RequestError(f"{choice.device} reads no pictures", hint="leave out --picture")
    measured, known = [], []
    for seed in range(-1, runs):  # the first is a warm-up
        pictures = _pictures(pixels, seed)
        measured.append(measure_once(backend, pictures, prompt_tokens, new_tokens, seed))
        if pictures:
            known.append(measure_once(backend, pictures, prompt_tokens, 2, runs + seed + 1))
    backend.close()
    del measured[0], known[:1]
    ttfts = [run.ttft for run in measured]
    counts = [run.prompt_tokens for run in measured]
    return BenchResult(
        device=choice.device,
        reason=choice.reason,
        runs=runs,
        prompt_tokens=counts[0],
        new_tokens=new_tokens,
        load=load,
        ttft=Summary.of(ttfts),
        prefill=Summary.of([count / ttft for count, ttft in zip(counts, ttfts, strict=True)]),
        decode=Summary.of([run.decode for run in measured]),
        peak_memory=peak_memory(),
        picture=Summary.of([new.ttft - run.ttft for new, run in zip(measured, known, strict=True)]) if known else None,
    )


def _check_counts(context: int, prompt_tokens: int, new_tokens: int, runs: int) -> None:
    if min(prompt_tokens, new_tokens - 1, runs) < 1:
        raise RequestError(
            "a benchmark needs at least 1 prompt token, 2 new tokens and 1 run", hint="use larger numbers"
        )
    if prompt_tokens + new_tokens > context:
        raise RequestError(
            f"{prompt_tokens:,} prompt tokens and {new_tokens:,} new ones do not fit the context of {context:,}",
            hint="use fewer --prompt-tokens or --new-tokens",
        )


@dataclass(frozen=True, slots=True)
class Run:
    """One run: TTFT in seconds, the prompt's length, and the decode rate in tokens per second after the first token."""

    ttft: float
    prompt_tokens: int
    decode: float


def measure_once(
    backend: Backend, pictures: tuple[Picture, ...], prompt_tokens: int, new_tokens: int, seed: int
) -> Run:
    """Read a new prompt of so many tokens, and write so many."""
    prompt: Prompt = (*pictures, random_prompt(backend, prompt_tokens, seed))
    start = time.perf_counter()
    first, generated = 0.0, 0
    for part in backend.generate(Request(prompt, (), SamplingParams(max_new_tokens=new_tokens))):
        if isinstance(part, Delta) and part.tokens:
            first = first or time.perf_counter()
            generated += part.tokens
    end = time.perf_counter()
    return Run(first - start, backend.count_tokens(prompt), (generated - 1) / (end - first))


def _pictures(pixels: "np.ndarray | None", seed: int) -> tuple[Picture, ...]:
    """Return a picture that differs from those of other seeds, so that the engine does not know it."""
    if pixels is None:
        return ()
    changed = pixels.copy()
    changed[0, 0] = [seed & 255, seed >> 8 & 255, changed[0, 0, 2] ^ 1]
    return (Picture.open(changed),)


def random_prompt(backend: Backend, tokens: int, seed: int) -> str:
    """Return a prompt of random numbers with nearly `tokens` tokens, at most that many, different for every seed."""
    draw = random.Random(str(seed))  # of a number it drops the sign
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
