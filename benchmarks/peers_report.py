"""The tables and charts of benchmarks/peers.py."""

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edge.bench import Summary
from edge.evaluation.plot import bar_chart

PROMPTS = (128, 512, 2048)  # tokens


@dataclass(frozen=True, slots=True)
class ConversionCost:
    """The cost of a conversion: wall and CPU seconds, and bytes. `extra_disk` is the peak beside the result."""

    seconds: float
    cpu: float
    anonymous: int
    extra_disk: int
    size: int


@dataclass(frozen=True, slots=True)
class EngineSpeed:
    """The speed of an engine in one process: seconds, tokens per second, bytes. Lists have a value for each of PROMPTS.

    `ttft_cpu` and `token_cpu` are CPU seconds up to the first token, and for each following token.
    """

    load: float
    ttft: list[float]
    decode: list[float]
    ttft_cpu: list[float]
    token_cpu: list[float]
    anonymous: int
    touched: int
    about: str


def format_spread(values: Sequence[float], scale: float = 1.0, digits: int = 1) -> str:
    m = Summary.of([value * scale for value in values])
    return f"{m.median:,.{digits}f} ({m.low:,.{digits}f} to {m.high:,.{digits}f})"


def markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table with all columns but the first aligned right."""
    rule = ["---", *["---:"] * (len(headings) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in (headings, rule, *rows)) + "\n"


def conversion_table(found: Mapping[str, Sequence[ConversionCost]]) -> str:
    headings = ("converting", "s", "CPU s", "peak anonymous MB", "extra disk MB", "result MB")
    scales = {"seconds": 1.0, "cpu": 1.0, "anonymous": 1e-6, "extra_disk": 1e-6, "size": 1e-6}
    rows = [
        [name, *(format_spread([getattr(cost, key) for cost in costs], scale, 0) for key, scale in scales.items())]
        for name, costs in found.items()
    ]
    return markdown_table(headings, rows)


def running_table(found: Mapping[str, Sequence[EngineSpeed]], read: Mapping[str, int], bandwidth: float) -> str:
    """Return the table of inference; `read` has the bytes that each contender reads for a token."""
    lengths = " / ".join(f"{count:,}" for count in PROMPTS)
    columns: dict[str, tuple[str, float, int]] = {
        "ttft": (f"TTFT s at {lengths}", 1, 2),
        "decode": (f"decode tokens/s after {lengths}", 1, 1),
        "ttft_cpu": ("TTFT CPU s", 1, 2),
        "token_cpu": ("CPU ms a token", 1e3, 1),
    }
    rows = []
    for name, speeds in found.items():
        rate = statistics.median(one.decode[0] for one in speeds)
        rows.append(
            [
                name,
                format_spread([one.load for one in speeds], digits=2),
                *(
                    " / ".join(
                        format_spread([getattr(one, key)[i] for one in speeds], scale, digits)
                        for i in range(len(PROMPTS))
                    )
                    for key, (_, scale, digits) in columns.items()
                ),
                format_spread([one.anonymous for one in speeds], 1e-6, 0),
                format_spread([one.touched for one in speeds], 1e-6, 0),
                f"{rate * read[name] / bandwidth:.0%} of {bandwidth / 1e9:.0f} GB/s",
            ]
        )
    headings = ("running", "load s", *(heading for heading, *_ in columns.values()))
    return markdown_table((*headings, "peak anonymous MB", "file MB", "bandwidth"), rows)


def ratios(found: Mapping[str, Sequence[Any]], figures: Mapping[str, Callable[[Any], float]]) -> str:
    """Return a table of the first contender over each other: medians of the ratios of each round."""
    ours, *others = found
    rows = [
        [
            f"{ours} over {other}",
            *(
                f"{statistics.median(of(a) / of(b) for a, b in zip(found[ours], found[other], strict=True)):.2f}"
                for of in figures.values()
            ),
        ]
        for other in others
    ]
    return markdown_table(("ratio", *figures), rows) if rows else ""


COSTS: dict[str, Callable[[ConversionCost], float]] = {
    "s": lambda cost: cost.seconds,
    "CPU s": lambda cost: cost.cpu,
    "anonymous": lambda cost: cost.anonymous,
    "peak disk": lambda cost: cost.extra_disk + cost.size,
}
SPEEDS: dict[str, Callable[[EngineSpeed], float]] = {
    "load": lambda speed: speed.load,
    **{f"TTFT {count:,}": lambda speed, i=i: speed.ttft[i] for i, count in enumerate(PROMPTS)},  # type: ignore[misc]
    **{f"decode {count:,}": lambda speed, i=i: speed.decode[i] for i, count in enumerate(PROMPTS)},  # type: ignore[misc]
    "CPU s to the first": lambda speed: speed.ttft_cpu[0],
    "CPU s a token": lambda speed: speed.token_cpu[0],
    "memory": lambda speed: speed.anonymous + speed.touched,
}


def markdown(report: Mapping[str, Any], left_out: Sequence[str]) -> str:
    facts = report["machine"]
    loads = ", ".join(f"{load[0]:.1f}" for load in report["load_average"])
    parts = [
        f"{facts['cpu']}, {facts['cores']} cores, {facts['threads']} used ({', '.join(facts['features'])}); medians of "
        f"{len(next(iter(report['running'].values())))} rounds, lowest and highest in brackets; load average at the "
        f"start, between and at the end: {loads}; "
        + ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
        + ".",
        *(f"Left out: --{name.replace('_', '-')} was not given." for name in left_out),
    ]
    if "conversion" in report:
        parts += [conversion_table(report["conversion"]), ratios(report["conversion"], COSTS)]
    running = report["running"]
    parts += [running_table(running, report["read"], report["bandwidth"]), ratios(running, SPEEDS)]
    parts += [f"{name}: {speeds[0].about}" for name, speeds in running.items()]
    return "\n\n".join(part.rstrip() for part in parts if part) + "\n"


def charts(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    def chart(title: str, unit: str, key: str, of: Callable[[Any], float]) -> str:
        found = {name: Summary.of([of(one) for one in measured]) for name, measured in report[key].items()}
        medians = {name: summary.median for name, summary in found.items()}
        return bar_chart(title, medians, y=unit, ranges={name: (one.low, one.high) for name, one in found.items()})

    if "conversion" in report:
        yield "conversion_seconds", chart("Converting", "seconds", "conversion", COSTS["s"])
        yield (
            "conversion_memory",
            chart("Converting: peak anonymous memory", "GB", "conversion", lambda c: c.anonymous / 1e9),
        )
    for i, count in enumerate(PROMPTS):
        yield f"ttft_{count}", chart(f"TTFT at {count:,} tokens", "seconds", "running", lambda s, i=i: s.ttft[i])
    yield "decode", chart(f"Decoding after {PROMPTS[0]:,} tokens", "tokens/s", "running", lambda s: s.decode[0])
    yield "memory", chart("Running: peak memory", "GB", "running", lambda s: (s.anonymous + s.touched) / 1e9)
