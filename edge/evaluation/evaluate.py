"""Evaluation of a model folder against its checkpoint: the work of `edge eval`.

The reference is the uncompressed model, computed from the checkpoint's files layer by layer, in f32 and without torch.
The folder's model is computed in f32 as well, so that `figures` show the effect of weight compression alone and are the
same on every machine. The effects of the engine on this machine (a compressed KV cache, rounded activations) are
measured separately, against the folder's model in f32.

Drift: generating with the reference would read the whole file for every token. Instead it scores the folder's greedy
reply in one pass, which gives its own choice after each token. Up to the first difference both have the same context,
so that is where two independent replies would diverge as well. `agreement` is over the whole reply.
"""

import os
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from convert.samples import read_samples
from runtime.checkpoint.checkpoint import Checkpoint
from runtime.docstrings import require_docstrings
from runtime.errors import BackendError
from runtime.folder.model_folder import CONVERT_AGAIN
from runtime.system.out_of_memory import HINT, MESSAGE, is_out_of_memory
from runtime.text import one_line

from ..bench import peak_memory
from . import test_sets, tool_calls
from .target import EvaluationTarget

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from convert.check.cpu_plugin import CpuPlugin, PluginSetting
    from convert.check.divergence import Comparison, DivergenceFigures, LogitSource
    from convert.check.reference import Floats, Head

    Ids = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class EngineResult:
    """The effect of one engine setting, over all tokens and by context length.

    The baseline is the folder's model in f32; for the default setting also the checkpoint, where there is one.
    `runs_with` describes the plugin's effective settings.
    """

    setting: str
    runs_with: str
    figures: "DivergenceFigures"
    by_context: Mapping[int, "DivergenceFigures"]
    against_checkpoint: "DivergenceFigures | None" = None


@dataclass(frozen=True, slots=True)
class Drift:
    """The divergence of a greedy reply of the engine from the checkpoint's.

    `parts_at` is the number of tokens before the first difference, None where there is none; `agreement` is the share
    of tokens that the checkpoint would have chosen as well.
    """

    prompt: str
    tokens: int
    parts_at: int | None
    agreement: float


@dataclass(frozen=True, slots=True)
class Report:
    """The results of an evaluation. Sizes are in bytes, times in seconds.

    `texts` has the number of tokens by text; `calls` has the correct replies and their total by row; `checkpoint` is ""
    without one.
    """

    folder: str
    recipe: str
    checkpoint: str
    machine: str
    context: int
    weights: int
    bits_per_weight: float
    checkpoint_weights: int
    texts: Mapping[str, int]
    figures: "DivergenceFigures"
    by_context: Mapping[int, "DivergenceFigures"]
    by_text: Mapping[str, "DivergenceFigures"]
    engine: tuple[EngineResult, ...] = ()
    drift: tuple[Drift, ...] = ()
    calls: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    peak_memory: int = 0
    versions: Mapping[str, str] = field(default_factory=dict)


def evaluate(
    folder: str | os.PathLike[str],
    against: Path | None = None,
    *,
    texts: Path | None = None,
    calls: Path | None = None,
    context: int | None = None,
    new_tokens: int = 64,
) -> Generator[str, None, Report]:
    """Evaluate a model folder; yield a description of each step, and return the report.

    Without a checkpoint the report has perplexity, the engine's settings and tool calls.

    Raises ModelFolderError; CheckpointError; RequestError for unusable texts, tasks or lengths; VerificationError where
    the folder was converted from another checkpoint or its logits are NaN; and BackendError where memory is too little
    or the engine fails.
    """
    start = time.perf_counter()
    require_docstrings(BackendError)
    target = EvaluationTarget.open(folder, context)
    calls = calls or test_sets.find(target.folder.manifest.source.fingerprint, "calls.jsonl")
    tasks = tool_calls.read_tasks(calls) if calls else []
    samples = None if texts is None else read_samples(texts)
    source = None
    if against is not None:
        yield "checking that the folder was converted from this checkpoint"
        source = target.open_checkpoint(against)
    ids = target.token_ids(samples, source)
    try:
        report = yield from _measure(target, source, ids, new_tokens)
        yield "tool calls"
        scores = _score_calls(target, tasks)
    except KeyError as exc:  # a graph that we did not make
        raise BackendError(
            f"the model has no {exc}: it cannot be evaluated layer by layer, and is too large to be loaded whole",
            hint="close other programs, or use a machine with more memory",
        ) from exc
    except RuntimeError as exc:
        if is_out_of_memory(exc):
            raise BackendError(MESSAGE, hint=HINT) from exc
        from runtime.backends.openvino.genai import error_line

        raise BackendError(f"the engine failed: {error_line(exc)}", hint=CONVERT_AGAIN) from exc
    return replace(report, calls=scores, seconds=time.perf_counter() - start, peak_memory=peak_memory())


def _measure(
    target: EvaluationTarget, source: Checkpoint | None, ids: "Mapping[str, Ids]", new_tokens: int
) -> Generator[str, None, Report]:
    from convert.check import cpu_plugin as engine
    from convert.check import divergence as quality
    from convert.check import layerwise as saved
    from convert.check import reference

    texts, path = list(ids.values()), target.folder.path
    notes: list[str] = []
    obstacle = target.require_memory(texts)
    if obstacle:
        notes.append(f"the engine's settings and drift were not measured: {obstacle}")
    layers = saved.LayerwiseModel(path, target.architecture) if obstacle else None
    head = layers.head() if layers else engine.plugin_head(path)
    replies: list[_GreedyReply] = []
    if source and new_tokens and not layers:
        yield "greedy replies"
        loaded = engine.CpuPlugin(path, engine.AS_DEPLOYED)
        replies = _greedy_replies(target, loaded, head, new_tokens)
        loaded.close()
    yield "evaluating the converted model"
    exact = layers or engine.CpuPlugin(path, engine.WEIGHTS_ONLY)
    answers = quality.LogitSource(exact.hidden_states(texts), head)
    if isinstance(exact, engine.CpuPlugin):
        exact.close()
    del exact, layers
    with ExitStack() as stack:
        wanted: LogitSource | None = None
        drift: tuple[Drift, ...] = ()
        if source:
            yield "evaluating the checkpoint"
            checkpoint = stack.enter_context(source.weights(mapped=False))
            states = reference.hidden_states(checkpoint, [*texts, *(reply.tokens for reply in replies)])
            wanted = quality.LogitSource(states[: len(texts)], reference.checkpoint_head(checkpoint))
            drift = tuple(map(_measure_drift, replies, states[len(texts) :], [wanted.head] * len(replies)))
        yield "comparing them"
        readings = quality.compare_logits(texts, answers, wanted)
        effects: list[EngineResult] = []
        if not obstacle:
            effects = yield from _measure_settings(target, texts, answers, wanted, notes)
    figures = readings.figures()
    known = figures.reference_perplexity or figures.perplexity
    if known is not None and known > target.architecture.vocab:
        notes.append(
            "on these texts the model is worse than a uniform guess: use --texts of a kind that it was trained on"
        )
    return Report(
        **target.describe(source),
        texts={name: len(tokens) for name, tokens in ids.items()},
        figures=figures,
        by_context=readings.by_context(),
        by_text=_by_text(readings, list(ids)),
        engine=tuple(effects),
        drift=drift,
        notes=tuple(notes),
    )


@dataclass(frozen=True, slots=True)
class _GreedyReply:
    """Token ids of a prompt and of the greedy reply to it."""

    name: str
    prompt: "Ids"
    reply: "Ids"

    @property
    def tokens(self) -> "Ids":
        import numpy as np

        return np.concatenate([self.prompt, self.reply])


def _greedy_replies(target: EvaluationTarget, engine: "CpuPlugin", head: "Head", new_tokens: int) -> list[_GreedyReply]:
    import numpy as np

    found = []
    for name, prompt in target.reply_prompts().items():
        room = min(new_tokens, target.context - len(prompt))
        if reply := engine.greedy(prompt, head, room, target.stop_ids) if room > 0 else []:
            found.append(_GreedyReply(name, prompt, np.array(reply)))
    return found


def _measure_drift(reply: _GreedyReply, states: "Floats", head: "Head") -> Drift:
    from convert.check.divergence import greedy_tokens

    same = greedy_tokens(states[len(reply.prompt) - 1 : -1], head) == reply.reply
    return Drift(reply.name, len(same), None if same.all() else int(same.argmin()), float(same.mean()))


def _longest_texts(texts: "Sequence[Ids]", tokens: int) -> list[int]:
    """Return the indices of the longest texts, at least one, with at most `tokens` in all.

    The engine's effects show in long texts, and each text is evaluated once for every setting.
    """
    longest, *others = sorted(range(len(texts)), key=lambda number: -len(texts[number]))
    found, left = [longest], tokens - len(texts[longest])
    for number in others:
        if len(texts[number]) <= left:
            found.append(number)
            left -= len(texts[number])
    return found


def _measure_settings(
    target: EvaluationTarget,
    texts: "Sequence[Ids]",
    exact: "LogitSource",
    wanted: "LogitSource | None",
    notes: list[str],
) -> Generator[str, None, list[EngineResult]]:
    """Measure the effect of each setting of the engine on the longest texts. Those that the CPU plugin does not support
    on this machine are noted."""
    from convert.check import cpu_plugin as engine

    results = []
    numbers = _longest_texts(texts, 2 * target.context)
    longest, exact = [texts[number] for number in numbers], exact.select(numbers)
    wanted = wanted and wanted.select(numbers)
    for setting in engine.settings():
        yield f"evaluating the engine: {setting.name}"
        try:
            results.append(_measure_setting(target.folder.path, setting, longest, exact, wanted))
        except RuntimeError as exc:
            notes.append(
                f"the CPU plugin does not support the setting {setting.name!r} on this machine: {one_line(exc)}"
            )
    return results


def _measure_setting(
    path: Path, setting: "PluginSetting", texts: "Sequence[Ids]", exact: "LogitSource", wanted: "LogitSource | None"
) -> EngineResult:
    from convert.check import cpu_plugin as engine
    from convert.check import divergence as quality

    loaded = engine.CpuPlugin(path, setting)
    runs_with = loaded.describe_plugin()
    answers = quality.LogitSource(loaded.hidden_states(texts), engine.plugin_head(path, setting))
    loaded.close()
    readings = quality.compare_logits(texts, answers, exact)
    against = wanted if setting is engine.AS_DEPLOYED else None
    figures = quality.compare_logits(texts, answers, against).figures() if against else None
    return EngineResult(setting.name, runs_with, readings.figures(), readings.by_context(), figures)


def _by_text(readings: "Comparison", names: Sequence[str]) -> dict[str, "DivergenceFigures"]:
    """Group the figures by kind: the part of a text's name before the colon."""
    import numpy as np

    kinds = [name.split(":")[0] for name in names]
    numbers = {kind: [i for i, other in enumerate(kinds) if other == kind] for kind in kinds}
    return {kind: readings.figures(np.isin(readings.text_index, some)) for kind, some in numbers.items()}


def _score_calls(target: EvaluationTarget, tasks: Sequence[tool_calls.ToolCallTask]) -> tool_calls.Scores:
    from runtime.model import Model

    if not tasks:
        return {}
    with Model(target.folder, device="CPU") as model:
        return tool_calls.score(model, tasks)
