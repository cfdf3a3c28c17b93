"""Conversion of a checkpoint, from its name to a model folder, and adoption of an OpenVINO folder: `edge.convert` and
`edge.adopt`."""

import os
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.cancellation import Cancellation
from runtime.checkpoint.adapters.reference import AdapterLike, parse_adapters
from runtime.checks import require, require_integer
from runtime.errors import ConversionCancelled, ConversionError
from runtime.folder.model_folder import ModelFolder
from runtime.progress import Progress
from runtime.system.files import expand_user

from .import_path import require_own_package

if TYPE_CHECKING:
    from convert.job import Exporter, Steps


def convert(
    checkpoint: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    recipe: str | None = None,
    *,
    calibration: str | os.PathLike[str] | None = None,
    exporter: "Exporter" = "edge",
    context: int | None = None,
    revision: str | None = None,
    hub: str = "huggingface",
    adapter: AdapterLike | Sequence[AdapterLike] = (),
    progress: Callable[[Progress], object] | None = None,
    cancellation: Cancellation | None = None,
) -> ModelFolder:
    """Convert a GLM-4 checkpoint to a model folder, and return it; the same as `edge convert`.

    `checkpoint` is a folder with config.json, safetensors (or an exported model.onnx) and a tokenizer; a .gguf file; or
    the name of a model of `edge.models()` or of the hub, or of a GGUF file there (REPOSITORY:FILE.gguf), which is
    downloaded: from the `hub` "huggingface" or "modelscope", at a `revision` (branch, tag or commit). `folder` must not
    exist yet. `recipe` is one of `edge recipes` (default: int4-fit; int4 for vision models, ONNX files and the exporter
    "optimum"; stored if the weights are quantised in 4 bits already), `calibration` a file of texts for recipes that
    are fitted to texts, `exporter` "edge" or "optimum". `context` extends the context to so many tokens, as the makers
    of GLM-4-0414 and GLM-Z1 do by YaRN: up to 131,072. `adapter` is the folder of a LoRA adapter (PEFT's), or several,
    each with an optional @WEIGHT: their updates are added to the weights.

    Blocks until the folder is complete and verified: twenty minutes for 9B on two cores, or two with the recipe int4.
    `progress` is called with every step, in this thread; an exception that it raises ends the conversion.
    `cancellation` may end it from any thread, before the current weight is finished: it raises ConversionCancelled.
    Neither leaves any files. A killed conversion is resumed by the next one of the same checkpoint and recipe.

    Raises CheckpointError, ConversionError (DiskFull, VerificationError, ConversionCancelled) or TemplateError, and
    RequestError for an argument of the wrong type.

    Example:
        folder = edge.convert("./GLM-4-9B-0414", "./glm4-int4-g64", recipe="int4-g64", progress=print)
        with edge.Chat(folder) as converted:
            print(converted.send("Who are you?"))
    """
    require("checkpoint", checkpoint, str | os.PathLike, "a path or a model's name")
    require("folder", folder, str | os.PathLike, "a path")
    require("recipe", recipe, str | None, "a recipe's name, such as int4")
    if context is not None:
        require_integer("context", context, 1, 2**31 - 1)
    require("revision", revision, str | None, "a branch, a tag or a commit")
    require("hub", hub, str, "huggingface or modelscope")
    report = _cancellable(progress, cancellation)
    steps = open_conversion(
        checkpoint,
        expand_user(folder),
        recipe,
        calibration,
        exporter,
        context=context,
        revision=revision,
        hub=hub,
        adapters=parse_adapters(adapter),
        quiet=True,
        report=report,
    )
    return _run_to_end(steps, report)


def adopt(
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    progress: Callable[[Progress], object] | None = None,
) -> ModelFolder:
    """Make the OpenVINO folder of another program a model folder, and return it; the same as `edge adopt`.

    `folder` is one of optimum-cli, of the hub's converted models or of GLM-4's own OpenVINO demo. It gets a manifest,
    edge.json; nothing else in it changes. With `out`, which must not exist yet, a linked copy gets the manifest, and
    a tokenizer IR and a chat template of ours if the folder has none that fit.

    Blocks until graph, configuration and tokenizer are checked and the model has generated text: it is loaded twice.
    `progress` is called with every step, in this thread; an exception that it raises ends the adoption.

    Raises CheckpointError, ConversionError (DiskFull, VerificationError), ModelFolderError or TemplateError, and
    RequestError for an argument of the wrong type.

    Example:
        folder = edge.adopt("./glm4-openvino", "./glm4-adopted")
        print(folder.recipe, folder.manifest.notes)
    """
    require("folder", folder, str | os.PathLike, "a path")
    require("out", out, str | os.PathLike | None, "a path")
    require("progress", progress, Callable | None, "a function that takes a Progress")  # type: ignore[arg-type]
    return _run_to_end(open_adoption(folder, out), progress or (lambda _: None))


def _cancellable(
    progress: Callable[[Progress], object] | None, cancellation: Cancellation | None
) -> Callable[[Progress], None]:
    """Return what reports each step: it raises ConversionCancelled once the conversion is cancelled, unless it is
    complete."""
    require("progress", progress, Callable | None, "a function that takes a Progress")  # type: ignore[arg-type]

    def report(step: Progress) -> None:
        if cancellation is not None and cancellation.cancelled and step.result is None:
            raise ConversionCancelled("the conversion was cancelled", hint="convert again")
        if progress is not None:
            progress(step)

    return report


def _run_to_end(steps: "Steps", report: Callable[[Progress], object]) -> ModelFolder:
    result: ModelFolder | None = None
    with closing(steps):
        for step in steps:
            result = step.result or result
            report(step)
    if result is None:
        raise RuntimeError("the conversion ended without a result")
    return result


def open_adoption(folder: str | os.PathLike[str], target: str | os.PathLike[str] | None) -> "Steps":
    """Return the steps of an adoption."""
    require_own_package("convert")
    from convert.adopt import adopt as adopt_steps

    return adopt_steps(folder, target)


def open_conversion(
    checkpoint: str | os.PathLike[str],
    folder: Path,
    recipe: str | None,
    calibration: str | os.PathLike[str] | None,
    exporter: "Exporter",
    *,
    context: int | None = None,
    revision: str | None = None,
    hub: str = "huggingface",
    adapters: Sequence[AdapterLike] = (),
    quiet: bool,
    report: Callable[[Progress], None] | None = None,
) -> "Steps":
    """Check the arguments, download the checkpoint if it is not a path, and return the steps of its conversion.
    `revision`, `hub`, `quiet` and `report` are those of `resolve_checkpoint`."""
    require_own_package("convert")
    from convert.output.scratch import refuse_existing
    from convert.pipeline import convert as convert_steps
    from convert.recipe import get_recipe
    from convert.weights.calibration import read_calibration_samples

    from .hub.resolve import resolve_checkpoint

    if exporter not in ("edge", "optimum"):
        raise ConversionError(f"there is no exporter {exporter!r}", hint="choose edge or optimum")
    refuse_existing(folder)  # before any download
    if recipe is not None:
        get_recipe(recipe)
    if calibration:
        read_calibration_samples(calibration)
    path = resolve_checkpoint(checkpoint, revision=revision, hub=hub, quiet=quiet, report=report)
    return convert_steps(path, folder, recipe, calibration, exporter, context=context, adapters=adapters)
