"""Tuning: the few settings of the CPU's engine that matter are tried on this machine, and the fastest is kept."""

import statistics
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from runtime.backends.backend import Backend, Options
from runtime.backends.choose import choose
from runtime.backends.tuned_settings import TunedSettings, describe, keep_tuned_settings
from runtime.errors import RequestError
from runtime.source import ModelSource

from .bench import measure_once

MARGIN = 0.03  # what is faster by less is noise
_ROUNDS = 2
_PROMPT, _REPLY = 512, 64  # tokens
_FEW_CORES = 4  # with which one is not left to other programs


@dataclass(frozen=True, slots=True)
class Trial:
    """Settings that were tried: their median seconds for a prompt and its reply, and by which part of that time they
    were faster than the engine's own in every round: what else the machine does seldom helps twice."""

    settings: Mapping[str, Any]
    seconds: float
    gain: float

    @property
    def name(self) -> str:
        """The settings in words."""
        return describe_settings(self.settings)


@dataclass(frozen=True, slots=True)
class TuningResult:
    """All trials, the first that of the engine's own settings; what was kept, and in which file."""

    trials: tuple[Trial, ...]
    kept: TunedSettings
    path: Path


def describe_settings(settings: Mapping[str, Any]) -> str:
    """Return the settings in words."""
    return ", ".join(f"{name} = {value}" for name, value in settings.items()) or "the engine's own"


def tune(folder: ModelSource, *, report: Callable[[str], None] = lambda _: None) -> TuningResult:
    """Try settings on the CPU, each in turn in each round, and keep the fastest for the next load: if nothing is faster
    by more than MARGIN, none. None of them lowers the quality of replies. `report` receives a line for each load.

    Raises RequestError for a source that is no model folder, and what loading raises.
    """
    if folder.model_folder is None:
        raise RequestError(
            f"{folder.path} is no model folder, whose settings can be tuned", hint="`edge convert` makes one of it"
        )
    options = Options(tuned=False)
    choice = choose("CPU", folder, options)
    tried = list(candidates())
    seconds: list[list[float]] = [[] for _ in tried]
    for number in range(_ROUNDS):
        order = range(len(tried)) if number % 2 == 0 else reversed(range(len(tried)))
        for index in order:
            with closing(choice.backend.load(folder, choice.device, replace(options, **tried[index]))) as backend:
                seconds[index].append(_measure(backend, folder, seed=100 * number + index))
            report(f"round {number + 1} of {_ROUNDS}, {describe_settings(tried[index])}: {seconds[index][-1]:.2f} s")
    own = seconds[0]
    trials = tuple(
        Trial(
            settings,
            statistics.median(found),
            min(1 - one / base for one, base in zip(found, own, strict=True)),
        )
        for settings, found in zip(tried, seconds, strict=True)
    )
    best = max(trials, key=lambda trial: trial.gain)
    settings, gain = (best.settings, best.gain) if best.gain > MARGIN else ({}, 0.0)
    kept = replace(describe(folder.model_folder), settings=settings, gain=gain)
    return TuningResult(trials, kept, keep_tuned_settings(kept))


def candidates() -> Iterator[dict[str, Any]]:
    """Yield the settings to try on this machine, the engine's own first."""
    import psutil  # type: ignore[import-untyped]

    physical, logical = psutil.cpu_count(logical=False) or 1, psutil.cpu_count() or 1
    yield {}
    if logical > physical:
        yield {"threads": logical}
    if physical >= _FEW_CORES:
        yield {"threads": physical - 1}
    if sys.platform != "darwin":
        if physical < logical < 2 * physical:  # some of its cores have one thread: they are efficiency cores
            yield {"cores": "performance"}
        yield {"pinning": True}
        yield {"pinning": False}
    yield {"activation_group": 32}
    yield {"activation_group": 0}


def _measure(backend: Backend, folder: ModelSource, seed: int) -> float:
    """Return the seconds of a new prompt and its reply, after a short one to warm up."""
    reply = min(_REPLY, folder.manifest.context_length // 4)
    prompt = min(_PROMPT, folder.manifest.context_length - reply)
    measure_once(backend, (), min(prompt, 16), 2, -seed - 1)
    run = measure_once(backend, (), prompt, reply, seed)
    return run.ttft + (reply - 1) / run.decode
