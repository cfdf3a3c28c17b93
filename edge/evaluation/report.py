"""The report of `edge eval` as a folder: report.json, report.md and its charts."""

import json
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.errors import RequestError
from runtime.system.files import rename_over
from runtime.text import replace_controls, replace_surrogates

from .plot import bar_chart, line_chart

if TYPE_CHECKING:
    from convert.check.divergence import DivergenceFigures

    from .evaluate import Report

_COLUMNS = ("tokens", "mean KL", "p99 KL", "max KL", "top-1", "perplexity", "the checkpoint's")


def require_new_folder(target: Path) -> None:
    """Raise RequestError unless `target` is a new name in a folder that exists."""
    if os.path.lexists(target):
        raise RequestError(f"{str(target)!r} exists already", hint="choose another folder, or remove that one")
    if not target.absolute().parent.is_dir():
        raise RequestError(f"there is no folder {str(target.absolute().parent)!r}", hint="create it first")


def write_report(report: "Report", target: Path) -> None:
    """Write the report's folder, which appears only when it is complete. Raises RequestError where that fails."""
    require_new_folder(target)
    files = {"report.json": to_json(report), "report.md": markdown(report), **plots(report)}
    try:
        with tempfile.TemporaryDirectory(
            prefix=f".{target.name}.", dir=target.absolute().parent, ignore_cleanup_errors=True
        ) as scratch:
            whole = Path(scratch) / "report"
            whole.mkdir()
            for name, text in files.items():
                (whole / name).write_text(replace_surrogates(text), encoding="utf-8")
            rename_over(whole, target)
    except OSError as exc:
        raise RequestError(f"{str(target)!r} cannot be written: {exc.strerror}", hint="choose another folder") from exc


def to_json(report: "Report") -> str:
    """Return the report as JSON."""
    return json.dumps(asdict(report), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def plots(report: "Report") -> dict[str, str]:
    """Return the charts as SVG, by file name, of what was measured."""
    found = {}
    contexts = list(report.by_context)
    steps = [format_length(context) for context in contexts]
    if report.checkpoint:
        divergence = {
            "mean": [report.by_context[c].mean_kl for c in contexts],
            "99th percentile": [report.by_context[c].p99_kl for c in contexts],
        }
        found["kl.svg"] = line_chart(
            f"{report.recipe}: divergence by context length",
            steps,
            divergence,
            x="tokens before, up to",
            y="KL, nats a token",
        )
        sizes = {"checkpoint": report.checkpoint_weights / 1e6, report.recipe: report.weights / 1e6}
        found["size.svg"] = bar_chart("Weights", sizes, y="MB")
    if report.engine:
        # The first chunk of a prompt does not read the KV cache.
        series = {part.setting: [part.by_context[c].mean_kl for c in contexts] for part in report.engine}
        found["engine.svg"] = line_chart(
            f"{report.recipe}: effects of the engine",
            steps,
            series,
            x="tokens before, up to",
            y="mean KL, nats a token",
        )
    return found


def markdown(report: "Report", *, pictures: bool = True) -> str:
    """Return the report as Markdown, with or without links to its charts."""
    drawn = plots(report) if pictures else {}
    out = [f"# {Path(report.folder).name}: {report.recipe}", "", *_summary(report), ""]
    out += ["## Weights alone", "", *_table(("", *_COLUMNS), [("all", *_row(report.figures))]), ""]
    out += ["By context length:", "", *_table(("tokens before", *_COLUMNS), _rows(_by_length(report.by_context))), ""]
    out += _image(drawn, "kl.svg")
    out += ["By text:", "", *_table(("", *_COLUMNS), _rows(report.by_text)), ""]
    out += _image(drawn, "size.svg")
    if report.engine:
        out += ["## Effects of the engine", "", _engine_basis(report), "", *_engine_table(report), ""]
        out += _image(drawn, "engine.svg")
    if report.drift:
        out += ["## Greedy replies", "", *_drift_table(report), ""]
    if report.calls:
        rows = [(name, f"{right} of {total}", f"{right / total:.1%}") for name, (right, total) in report.calls.items()]
        out += ["## Tool calls", "", *_table(("", "right", "share"), rows), ""]
    if report.notes:
        out += ["## Notes", "", *(f"- {note}" for note in report.notes), ""]
    return replace_controls("\n".join(out))


def format_length(context: int) -> str:
    """Return a context length in short: 512, 8k, 1M."""
    return str(context) if context < 1024 else f"{context // 1024}k" if context < 1048576 else "1M"


def format_share(value: float | None) -> str:
    """Return a share in percent; a dash where it was not measured."""
    return "–" if value is None else f"{value:.2%}"


def format_nats(value: float | None) -> str:
    """Return a divergence in nats; a dash where it was not measured."""
    return "–" if value is None else f"{value:.2e}" if value < 1e-4 else f"{value:.4f}"


def _summary(report: "Report") -> Iterable[str]:
    yield f"- {report.weights / 1e6:,.1f} MB of weights, {report.bits_per_weight:.2f} bits a weight"
    if report.checkpoint:
        yield f"- against the checkpoint {report.checkpoint}, {report.checkpoint_weights / 1e6:,.1f} MB"
    lengths = report.texts.values()
    yield f"- {sum(lengths):,} tokens in {len(lengths)} texts, the longest {max(lengths):,}"
    yield f"- on {report.machine}, OpenVINO {report.versions['openvino']}"
    yield f"- {report.seconds:.0f} s, {report.peak_memory / 1e6:,.0f} MB of memory at most"


def _engine_basis(report: "Report") -> str:
    return (
        f"Against the same weights computed in f32, on the longest texts: {report.engine[0].figures.tokens:,} tokens."
    )


def _engine_table(report: "Report") -> list[str]:
    heading = (
        "setting",
        "runs with",
        "mean KL",
        "p99 KL",
        "max KL",
        "top-1",
        "perplexity",
        "mean KL from the checkpoint",
    )
    rows = []
    for part in report.engine:
        f, whole = part.figures, part.against_checkpoint
        against = format_nats(whole.mean_kl) if whole else ""
        divergences = map(format_nats, (f.mean_kl, f.p99_kl, f.max_kl))
        rows.append(
            (
                part.setting,
                part.runs_with,
                *divergences,
                format_share(f.top1),
                _format_perplexity(f.perplexity),
                against,
            )
        )
    return _table(heading, rows)


def _drift_table(report: "Report") -> list[str]:
    rows = [
        (
            drift.prompt,
            str(drift.tokens),
            "never" if drift.parts_at is None else f"after {drift.parts_at}",
            f"{drift.agreement:.1%}",
        )
        for drift in report.drift
    ]
    return _table(("prompt", "tokens", "the checkpoint parts", "agreement"), rows)


def _by_length(by_context: "Mapping[int, DivergenceFigures]") -> "dict[str, DivergenceFigures]":
    return {f"up to {format_length(context)}": figures for context, figures in by_context.items()}


def _rows(figures: "Mapping[str, DivergenceFigures]") -> list[Sequence[str]]:
    return [(name, *_row(some)) for name, some in figures.items()]


def _row(figures: "DivergenceFigures") -> Sequence[str]:
    divergences = map(format_nats, (figures.mean_kl, figures.p99_kl, figures.max_kl))
    return (
        f"{figures.tokens:,}",
        *divergences,
        format_share(figures.top1),
        _format_perplexity(figures.perplexity),
        _format_perplexity(figures.reference_perplexity),
    )


def _format_perplexity(value: float | None) -> str:
    return "–" if value is None else f"{value:,.2f}"


def _image(drawn: Mapping[str, str], name: str) -> list[str]:
    return [f"![{name}]({name})", ""] if name in drawn else []


def _table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [heading, ["---"] * len(heading), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
