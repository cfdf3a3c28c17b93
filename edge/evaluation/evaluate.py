"""How well a model folder keeps what its checkpoint knows: the work of `edge eval`.

The reference is the uncompressed graph over the checkpoint's files, a layer at a time, in f32; no torch. The
folder's model is computed in f32, too: `figures` tell what the compression of its weights does, and nothing else, and
are the same on every machine. What the engine adds on this one (a compressed KV cache, rounded activations) has figures
of its own, against that.

Drift: the reference cannot generate freely, since every token would take it through the whole file. It need not. It
reads the folder's own greedy reply and tells after each token what it would have said; up to the first difference both
have read the same, so that is where two free replies part, too. `agreement` counts on, with the folder's words.
"""

import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.checkpoint.checkpoint import Checkpoint
from runtime.docstrings import require_docstrings
from runtime.errors import BackendError
from runtime.folder.model_folder import CONVERT_AGAIN
from runtime.system.out_of_memory import CURE, MESSAGE, is_out_of_memory
from runtime.text import one_line

from ..bench import peak_memory
from . import corpus as library
from . import tool_calls
from .target import EvaluationTarget

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from convert.check.cpu_plugin import Engine, Setting
    from convert.check.divergence import Answers, Figures, Readings
    from convert.check.reference import Floats, Head

    Ids = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class EngineResult:
    """The model under one setting of the engine, which then `runs_with` so much: against the weights alone, in all and
    by context length; and against the checkpoint, where there is one, for the engine as it runs."""

    setting: str
    runs_with: str
    figures: "Figures"
    by_context: Mapping[int, "Figures"]
    against_checkpoint: "Figures | None" = None


@dataclass(frozen=True, slots=True)
class Drift:
    """A greedy reply of the engine as it runs. `parts_at` counts the tokens before the checkpoint would have said
    another, None where it never does; `agreement` is the share of tokens that it would have said, too."""

    prompt: str
    tokens: int
    parts_at: int | None
    agreement: float


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that was found. Sizes are bytes, times seconds; `texts` has the tokens of each, by name, and `calls`
    right replies, of how many, by what is counted. `checkpoint` is "" where there was none."""

    folder: str
    recipe: str
    checkpoint: str
    machine: str
    context: int
    weights: int
    bits_per_weight: float
    checkpoint_weights: int
    texts: Mapping[str, int]
    figures: "Figures"
    by_context: Mapping[int, "Figures"]
    by_text: Mapping[str, "Figures"]
    engine: tuple[EngineResult, ...] = ()
    drift: tuple[Drift, ...] = ()
    calls: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    peak_memory: int = 0
    versions: Mapping[str, str] = field(default_factory=dict)


def evaluate(
    folder: Path,
    against: Path | None = None,
    *,
    texts: Path | None = None,
    calls: Path | None = None,
    context: int | None = None,
    new_tokens: int = 64,
) -> Generator[str, None, Report]:
    """Yields what it does next, and returns the report. Without a checkpoint, perplexity, the engine's settings and
    calls are still found.

    Raises ModelFolderError, CheckpointError, RequestError for texts and lengths that do not fit, VerificationError
    where the folder is not of that checkpoint or answers NaN, BackendError where memory is too little or the engine
    fails.
    """
    start = time.perf_counter()
    require_docstrings(BackendError)
    subject = EvaluationTarget.open(folder, context)
    tasks = None if calls is None else tool_calls.read_tasks(calls)
    samples = None if texts is None else library.read_samples(texts)
    source = None
    if against is not None:
        yield "is the folder of this checkpoint?"
        source = subject.open_checkpoint(against)
    ids = subject.token_ids(samples, source)
    try:
        report = yield from _measure(subject, source, ids, new_tokens)
        yield "tool calls"
        scores = _score_calls(subject, tasks)
    except KeyError as exc:  # a graph that we did not make
        raise BackendError(
            f"the model has no {exc}: it can only be read whole, and memory is too little for that",
            hint="close other programs, or use a larger machine",
        ) from exc
    except RuntimeError as exc:
        if is_out_of_memory(exc):
            raise BackendError(MESSAGE, hint=CURE) from exc
        from runtime.backends.openvino.genai import error_line

        raise BackendError(f"the engine failed: {error_line(exc)}", hint=CONVERT_AGAIN) from exc
    return replace(report, calls=scores, seconds=time.perf_counter() - start, peak_memory=peak_memory())


def _measure(
    subject: EvaluationTarget, source: Checkpoint | None, ids: "Mapping[str, Ids]", new_tokens: int
) -> Generator[str, None, Report]:
    from convert.check import cpu_plugin as engine
    from convert.check import divergence as quality
    from convert.check import layerwise as saved
    from convert.check import reference

    texts, path = list(ids.values()), subject.folder.path
    notes: list[str] = []
    obstacle = subject.require_memory(texts)
    if obstacle:
        notes.append(f"no figures of the engine's settings, and no drift: {obstacle}")
    layers = saved.Layers(path, subject.architecture) if obstacle else None
    head = layers.head() if layers else engine.head(path)
    replies: list[_GreedyReply] = []
    if source and new_tokens and not layers:
        yield "greedy replies"
        loaded = engine.Engine(path, engine.AS_IT_RUNS)
        replies = _greedy_replies(subject, loaded, head, new_tokens)
        loaded.close()
    yield "what the converted model says"
    exact = layers or engine.Engine(path, engine.WEIGHTS_ALONE)
    answers = quality.Answers(exact.states(texts), head)
    if isinstance(exact, engine.Engine):
        exact.close()
    del exact, layers
    with ExitStack() as stack:
        wanted: Answers | None = None
        drift: tuple[Drift, ...] = ()
        if source:
            yield "what the checkpoint says"
            checkpoint = stack.enter_context(source.weights(mapped=False))
            states = reference.states(checkpoint, [*texts, *(reply.tokens for reply in replies)])
            wanted = quality.Answers(states[: len(texts)], reference.head(checkpoint))
            drift = tuple(map(_measure_drift, replies, states[len(texts) :], [wanted.head] * len(replies)))
        yield "how far they part"
        readings = quality.read(texts, answers, wanted)
        parts = []
        numbers = _longest_texts(texts, 2 * subject.context)
        longest = [texts[number] for number in numbers]
        for setting in () if obstacle else engine.settings():
            yield f"the engine: {setting.name}"
            try:
                parts.append(
                    _measure_setting(path, setting, longest, answers.of(numbers), wanted and wanted.of(numbers))
                )
            except RuntimeError as exc:
                notes.append(f"this CPU's plugin does not take the setting {setting.name!r}: {one_line(exc)}")
    figures = readings.figures()
    known = figures.reference_perplexity or figures.perplexity
    if known is not None and known > subject.architecture.vocab:
        notes.append("the model does not know these texts, a blind guess would do better: give --texts that it knows")
    return Report(
        **subject.describe(source),
        texts={name: len(tokens) for name, tokens in ids.items()},
        figures=figures,
        by_context=readings.by_context(),
        by_text=_by_text(readings, list(ids)),
        engine=tuple(parts),
        drift=drift,
        notes=tuple(notes),
    )


@dataclass(frozen=True, slots=True)
class _GreedyReply:
    """Token ids: the prompt's, and the greedy reply's."""

    name: str
    prompt: "Ids"
    reply: "Ids"

    @property
    def tokens(self) -> "Ids":
        import numpy as np

        return np.concatenate([self.prompt, self.reply])


def _greedy_replies(subject: EvaluationTarget, engine: "Engine", head: "Head", new_tokens: int) -> list[_GreedyReply]:
    import numpy as np

    found = []
    for name, prompt in subject.reply_prompts().items():
        room = min(new_tokens, subject.context - len(prompt))
        if said := engine.greedy(prompt, head, room, subject.stop_ids) if room > 0 else []:
            found.append(_GreedyReply(name, prompt, np.array(said)))
    return found


def _measure_drift(reply: _GreedyReply, states: "Floats", head: "Head") -> Drift:
    from convert.check.divergence import likeliest

    same = likeliest(states[len(reply.prompt) - 1 : -1], head) == reply.reply
    return Drift(reply.name, len(same), None if same.all() else int(same.argmin()), float(same.mean()))


def _longest_texts(texts: "Sequence[Ids]", tokens: int) -> list[int]:
    """Numbers of the longest text, and of the next ones that together have no more than so many tokens: an engine shows
    in long texts what it adds, and reads each text once for every setting."""
    longest, *others = sorted(range(len(texts)), key=lambda number: -len(texts[number]))
    found, left = [longest], tokens - len(texts[longest])
    for number in others:
        if len(texts[number]) <= left:
            found.append(number)
            left -= len(texts[number])
    return found


def _measure_setting(
    path: Path, setting: "Setting", texts: "Sequence[Ids]", exact: "Answers", wanted: "Answers | None"
) -> EngineResult:
    from convert.check import cpu_plugin as engine
    from convert.check import divergence as quality

    loaded = engine.Engine(path, setting)
    runs_with = loaded.chosen()
    answers = quality.Answers(loaded.states(texts), engine.head(path, setting))
    loaded.close()
    readings = quality.read(texts, answers, exact)
    against = wanted if setting is engine.AS_IT_RUNS else None
    figures = quality.read(texts, answers, against).figures() if against else None
    return EngineResult(setting.name, runs_with, readings.figures(), readings.by_context(), figures)


def _by_text(readings: "Readings", names: Sequence[str]) -> dict[str, "Figures"]:
    """By kind, which is what stands before a colon in a text's name."""
    import numpy as np

    kinds = [name.split(":")[0] for name in names]
    numbers = {kind: [i for i, other in enumerate(kinds) if other == kind] for kind in kinds}
    return {kind: readings.figures(np.isin(readings.text, some)) for kind, some in numbers.items()}


def _score_calls(
    subject: EvaluationTarget, tasks: Sequence[tool_calls.ToolCallTask] | None
) -> Mapping[str, tuple[int, int]]:
    """The user's tasks; without, those of the embedded checkpoint where the folder is made of it."""
    from runtime.model import Model

    if tasks is None and not subject.is_the_demo:
        return {}
    with Model(subject.folder, device="CPU") as model:
        return tool_calls.held_out(model) if tasks is None else tool_calls.score(model, tasks)
