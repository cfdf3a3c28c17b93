"""`convert`: checkpoint -> plan -> tokenizer -> IR -> verification -> manifest -> model folder under its name.

Steps of seconds that may reject the checkpoint precede those of minutes: the tokenizer is converted and checked first.
"""

import errno
import os
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from runtime.backends.openvino.genai import error_line
from runtime.checkpoint.adapters.reference import AdapterLike
from runtime.checkpoint.files.small_files import UNREADABLE_HINT
from runtime.docstrings import require_docstrings
from runtime.errors import ConversionError, DiskFull
from runtime.folder.integrity import record_verified
from runtime.folder.ir_files import DECODER, LANGUAGE, TABLE, TOWER
from runtime.folder.model_folder import ModelFolder, write_manifest
from runtime.progress import Progress
from runtime.system.files import TEMPORARY_FOLDER_HINT, expand_user, is_temporary_folder_missing
from runtime.system.installation import install_hint
from runtime.system.native_effects import keep_freed_memory
from runtime.system.out_of_memory import map_out_of_memory

from .check import verify
from .estimate import require_resources
from .job import (
    ConversionPlan,
    Exporter,
    Source,
    Steps,
    WrittenIr,
    build_manifest,
    copy_text_files,
    make_plan,
)
from .output.ir_writer import cut
from .output.journal import journal_path
from .output.scratch import ScratchFolder, scratch_folder
from .output.tokenizer import write_tokenizer
from .recipe import Recipe, get_recipe
from .samples import Sample
from .source.onnx import OnnxSource
from .source.optimum import OptimumSource
from .source.safetensors import SafetensorsSource
from .weights import calibration as texts

# Files of an interrupted conversion that the next one adopts
_RESUMED = frozenset(f"{name}{end}" for name in (DECODER, LANGUAGE, TABLE, TOWER) for end in (".bin", ".jsonl"))

SOURCES: Mapping[Exporter, Sequence[type[Source]]] = {  # the first that accepts a checkpoint converts it
    "edge": (OnnxSource, SafetensorsSource),
    "optimum": (OptimumSource,),
}


def convert(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    recipe: str | Recipe | None = None,
    calibration: str | os.PathLike[str] | None = None,
    exporter: Exporter = "edge",
    *,
    context: int | None = None,
    adapters: Sequence[AdapterLike] = (),
) -> Steps:
    """Convert the checkpoint `source` (a folder, or a GGUF or ONNX file) into the model folder `target`, step by step.

    If `recipe` is None, the source chooses it: int4-fit, int4 for vision models and ONNX files, stored for weights that
    are quantised in 4 bits already. `calibration` is a file of texts for a data-aware recipe, in place of the built-in
    ones. `exporter` writes the IR: "edge", or optimum-intel.
    `context` extends the model's context to so many tokens, where its makers say how. `adapters` are folders of LoRA
    adapters, "DIR" or "DIR@WEIGHT", whose updates are added to the weights before they are compressed.

    `target` appears when it is complete and verified; closing the generator, or any error, leaves nothing behind. After
    a kill or Ctrl-C, the same conversion resumes after the last weight that was finished. Raises CheckpointError,
    ConversionError (DiskFull, VerificationError) or TemplateError.
    """
    if missing := [name for name in ("nncf", "tokenizers", "transformers") if find_spec(name) is None]:
        raise ConversionError(
            f"converting needs {', '.join(missing)}, which is not installed", hint=install_hint("convert")
        )
    require_docstrings(ConversionError)
    recipe = get_recipe(recipe) if isinstance(recipe, str) else recipe
    source, target = expand_user(source), expand_user(target).absolute()
    try:
        with (
            map_out_of_memory(ConversionError),
            keep_freed_memory(),
            scratch_folder(target, _RESUMED) as place,
        ):
            kind = _source_kind(source, exporter)
            opening = partial(kind.open, source, context=context, adapters=adapters)
            for step in _run(opening, place, recipe, calibration):
                place.raise_pending_signal()
                yield step
    except OSError as exc:
        raise _map_os_error(exc, target) from exc
    except RuntimeError as exc:  # raised by OpenVINO and NNCF
        raise ConversionError(f"the conversion failed: {error_line(exc)}", hint="please report this") from exc


def _source_kind(path: Path, exporter: Exporter) -> type[Source]:
    for kind in SOURCES[exporter]:
        if kind.accepts(path):
            return kind
    raise ConversionError("optimum-intel exports folders of safetensors only", hint="leave out --exporter")


def _run(
    open_source: Callable[[], Source],
    place: ScratchFolder,
    recipe: Recipe | None,
    calibration: str | os.PathLike[str] | None,
) -> Steps:
    folder = place.path
    yield Progress("check", "checkpoint")
    with closing(open_source()) as source:
        chosen = recipe or get_recipe(source.default_recipe)
        plan = make_plan(source, chosen, _read_samples(chosen, calibration), built_in=not calibration)
        # The files of an earlier conversion are either reused or removed: their space counts as free.
        require_resources(replace(plan.estimate, disk=plan.estimate.disk - place.size()), folder.parent)
        yield Progress("check", "the files of an interrupted conversion")
        source.prepare(plan, place)
        yield Progress("check", f"{chosen.name}, {plan.estimate.summary}", 1, 1)
        yield Progress("tokenizer")
        tokenizer = source.checkpoint.tokenizer
        write_tokenizer(tokenizer, folder)
        verify.check_tokenizer(folder, tokenizer, {piece for prompt in plan.prompts for piece in prompt})
        yield Progress("tokenizer", done=1, total=1)
        written = yield from source.write_ir(plan, folder)
        for file, record in written.files.items():
            cut(folder / file, record)
        copy_text_files(source.checkpoint, folder)
        figures = yield from _verify(source, plan, folder, written)
        yield Progress("seal", "hashes")
        manifest = build_manifest(source, plan, written, figures)
        source.refuse_changed()
    for file in written.files:
        journal_path(folder / file).unlink(missing_ok=True)
    sealed = write_manifest(folder, manifest, written.files)
    yield Progress("seal", "to disk")
    place.publish()
    result = ModelFolder(place.target, sealed.manifest)
    record_verified(result)
    yield Progress("seal", done=1, total=1, result=result)


def _read_samples(recipe: Recipe, file: str | os.PathLike[str] | None) -> Sequence[Sample]:
    if recipe.needs_calibration:
        return texts.read_calibration_samples(file or texts.BUILT_IN)
    if file:
        raise ConversionError(
            f"the recipe {recipe.name} does not use calibration texts", hint="leave out --calibration"
        )
    return ()


def _verify(
    source: Source, plan: ConversionPlan, folder: Path, written: WrittenIr
) -> Generator[Progress, None, verify.VerificationFigures]:
    ids, architecture = plan.token_ids, source.checkpoint.architecture
    yield Progress("verify", "logits of the checkpoint", 0, 3)
    reference = source.reference_logits(plan)
    yield Progress("verify", "logits of the converted model", 1, 3)
    converted = verify.converted_logits(folder, architecture, ids, whole=written.excerpt is None)
    figures = verify.compare(ids, reference, converted, plan.recipe)
    yield Progress("verify", "generation with OpenVINO GenAI", 2, 3)
    verify.check_generation(folder, written.excerpt, ids[0], paged=written.paged)
    yield Progress("verify", done=3, total=3)
    return figures


def _map_os_error(exc: OSError, target: Path) -> ConversionError:
    if is_temporary_folder_missing(exc):
        return ConversionError("no folder for temporary files is writable", hint=TEMPORARY_FOLDER_HINT)
    where = Path(exc.filename) if isinstance(exc.filename, str) else target.parent
    ours = where in (target, target.parent) or any(part.startswith(f".{target.name}.") for part in where.parts)
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        if not ours:
            return DiskFull(f"the disk of {str(where.parent)!r} is full", hint=TEMPORARY_FOLDER_HINT)
        return DiskFull(
            f"the disk of {str(target.parent)!r} is full", hint="make room, or choose a folder on another disk"
        )
    if exc.errno == errno.EFBIG:
        return ConversionError(
            f"the disk of {str(target.parent)!r} does not support files of this size",
            hint="choose a folder on another disk (FAT has a limit of 4 GB), or raise the limit of `ulimit -f`",
        )
    if isinstance(exc, PermissionError):
        hint = "check the permissions of the folder, or choose another one"
    elif ours:
        hint = "check the disk"
    else:
        hint = UNREADABLE_HINT
    return ConversionError(f"{str(where)!r}: {(exc.strerror or str(exc)).lower()}", hint=hint)
