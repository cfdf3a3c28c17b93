"""checkpoint -> family -> estimate -> tokenizer -> weights -> graph -> verified -> sealed -> in its place.

What costs seconds and may refuse goes before what costs minutes: the tokenizer is converted and checked first.
"""

import errno
import json
import os
import re
from collections.abc import Generator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from openvino import Node

from runtime.backends.openvino.genai import error_line
from runtime.checkpoint.checkpoint import Checkpoint
from runtime.checkpoint.role_tokens import require_special_stop_tokens
from runtime.checkpoint.small_files import MAX_LICENCE_BYTES, UNREADABLE_HINT, read_file
from runtime.checkpoint.tensors import CheckpointTensors
from runtime.docstrings import require_docstrings
from runtime.errors import CheckpointError, ConversionError, DiskFull
from runtime.folder.integrity import record_verified
from runtime.folder.model_folder import FileRecord, Manifest, ModelFolder, write_manifest
from runtime.prompt.template import ChatTemplate, Prompt
from runtime.system.files import TEMPORARY_FOLDER_HINT, expand_user, is_temporary_folder_missing
from runtime.system.native_effects import keep_freed_memory
from runtime.system.out_of_memory import map_out_of_memory
from runtime.text import quoted
from runtime.version import VERSION

from .check import verify
from .estimate import Needs, devices, estimate, refuse_too_little
from .graph import decoder
from .output.ir_writer import IrWriter
from .output.journal import FILE, Journal
from .output.scratch import Scratch, scratch
from .output.tokenizer import write_tokenizer
from .recipe import Recipe, named
from .source import optimum
from .source.damage import Damage
from .weights import calibration as texts
from .weights.activations import Activations
from .weights.compress import compress, describe
from .weights.sensitivity import Sensitivity, candidates, sensitive, sensitivities

if TYPE_CHECKING:
    from .source.onnx_decoder import OnnxDecoder


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a conversion is: the step, what of it, and how far (of `total`, None where that is not known).

    The last one has the result.
    """

    name: str
    detail: str = ""
    done: int = 0
    total: int | None = None
    result: ModelFolder | None = None


Steps = Generator[Progress, None, None]
Exporter = Literal["edge", "optimum"]


def convert(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    recipe: str | Recipe = "int4",
    calibration: str | os.PathLike[str] | None = None,
    exporter: Exporter = "edge",
) -> Steps:
    """Converts the checkpoint `source`, a folder or a GGUF or ONNX file, into the model folder `target`, step by step.
    `calibration` is a file of texts for a recipe that reads some, instead of ours. The IR is written by us or by
    optimum-intel.

    `target` appears when all is done and verified; closing the generator, or any error, leaves nothing behind. Where a
    kill or Ctrl-C cut a conversion short, the same one goes on from the last weight that it had finished. Raises
    CheckpointError, ConversionError (DiskFull, VerificationError) or TemplateError.
    """
    if missing := [name for name in ("nncf", "tokenizers", "transformers") if find_spec(name) is None]:
        raise ConversionError(
            f"converting needs {', '.join(missing)}, which is not installed", hint='pip install "glm4-edge[convert]"'
        )
    require_docstrings(ConversionError)
    recipe = named(recipe) if isinstance(recipe, str) else recipe
    samples = texts.read(calibration or texts.BUILT_IN) if recipe.calibrated else ()
    if calibration and not samples:
        raise ConversionError(f"the recipe {recipe.name} reads no texts", hint="leave out --calibration")
    source, target = expand_user(source), expand_user(target).absolute()
    try:
        with (
            map_out_of_memory(ConversionError),
            keep_freed_memory(),
            scratch(target, (FILE, "openvino_model.bin")) as place,
        ):
            from .source.onnx import convert_onnx  # which is built from the parts of this file
            from .source.onnx_decoder import onnx_file

            file = onnx_file(source)
            if exporter == "optimum" and (source.is_file() or file):
                raise ConversionError("optimum-intel exports folders of safetensors only", hint="leave out --exporter")
            if file is None:
                steps = _convert(source, place, recipe, samples, exporter)
            else:
                steps = convert_onnx(file, place, recipe)
            for step in steps:
                place.check()
                yield step
    except OSError as exc:
        raise _explained(exc, target) from exc
    except RuntimeError as exc:  # OpenVINO's and NNCF's
        raise ConversionError(f"the conversion failed: {error_line(exc)}", hint="please report this") from exc


@dataclass(frozen=True, slots=True)
class Plan:
    """What is known before the work begins."""

    recipe: Recipe
    source: Checkpoint
    prompts: list[Prompt]
    needs: Needs
    calibration: Sequence[npt.NDArray[np.int64]] = ()
    sensitive: frozenset[str] = frozenset()
    exporter: Exporter = "edge"


def _convert(
    source: Path, place: Scratch, recipe: Recipe, samples: Sequence[texts.Sample], exporter: Exporter
) -> Steps:
    folder = place.path
    yield Progress("check", "checkpoint")
    described = Checkpoint.open(source)
    with described.weights(mapped=False) as checkpoint:
        plan = _plan(described, checkpoint, recipe, samples, exporter)
        refuse_too_little(replace(plan.needs, disk=plan.needs.disk - place.size()), folder.parent)
        yield Progress("check", "what is finished already")
        journal = Journal.open(folder, _job(checkpoint, plan))
        place.clear(but=(FILE, "openvino_model.bin"))
        yield Progress("check", plan.needs.told, 1, 1)
        yield Progress("tokenizer")
        write_tokenizer(described.tokenizer, folder)
        verify.check_tokenizer(folder, described.tokenizer, {piece for prompt in plan.prompts for piece in prompt})
        yield Progress("tokenizer", done=1, total=1)
        damage = Damage(checkpoint, described.tokenizer)
        if exporter != "edge" or recipe.calibrated or recipe.ratio < 1:  # which read the weights before they pass by
            yield from _searched(checkpoint, damage)
        if exporter == "edge":
            plan = yield from _measured(checkpoint, plan)
            written = yield from _weights(checkpoint, plan, folder, journal, damage)
        else:
            written = yield from _exported(checkpoint, plan, folder)
        copy_texts(described, folder)
        figures = yield from _verify(checkpoint, plan, folder, written.excerpt)
        yield Progress("seal", "hashes")
        complete = manifest(checkpoint, plan, written.notes, figures)
        checkpoint.require_unchanged()
    journal.remove()
    sealed = write_manifest(folder, complete, written.files)
    yield Progress("seal", "to disk")
    place.publish()
    result = ModelFolder(place.target, sealed.manifest)
    record_verified(result)
    yield Progress("seal", done=1, total=1, result=result)


def _plan(
    source: Checkpoint,
    checkpoint: CheckpointTensors,
    recipe: Recipe,
    samples: Sequence[texts.Sample],
    exporter: Exporter,
) -> Plan:
    if recipe.take_over and not checkpoint.quantized_types:
        raise ConversionError(
            f"the recipe {recipe.name} takes over the blocks of a quantised GGUF, and this checkpoint has none",
            hint="choose another recipe: int4, int8 or bf16",
        )
    require_special_stop_tokens(source.generation["eos_token_id"], source.tokenizer)
    special = source.manifest.special_tokens.keys()
    template = None if source.template is None else ChatTemplate(source.template, source.family, special)
    ids = texts.token_ids(samples, source.family, template, source.tokenizer)
    needs = estimate(checkpoint, recipe, tokens=sum(map(len, ids)))
    if exporter == "optimum":
        optimum.refuse(checkpoint.architecture, recipe)
        needs = optimum.needs(needs, _stored(checkpoint))
    return Plan(recipe, source, verify.prompts(source.family, template), needs, ids, exporter=exporter)


def _searched(checkpoint: CheckpointTensors, damage: Damage) -> Steps:
    """Looks for damage in all weights."""
    total, done = _stored(checkpoint), 0
    for name in checkpoint.names:
        yield Progress("check", name, done, total)
        tensor = checkpoint.tensor(name)
        damage.refuse(tensor)
        done += tensor.nbytes
        checkpoint.release()


def _stored(checkpoint: CheckpointTensors) -> int:
    """Bytes of the checkpoint's weights."""
    return sum(checkpoint.tensor(name).nbytes for name in checkpoint.names)


def _measured(checkpoint: CheckpointTensors, plan: Plan) -> Generator[Progress, None, Plan]:
    """The plan of a mixed recipe, with what it leaves in 8 bits."""
    if plan.recipe.ratio == 1.0:
        return plan
    names = list(candidates(checkpoint.architecture, plan.recipe))
    total = sum(checkpoint.tensor(name).nbytes for name in names)
    yield Progress("measure", total=total)
    found: list[Sensitivity] = []
    for one in sensitivities(checkpoint, plan.recipe):
        found.append(one)
        yield Progress("measure", one.name, sum(each.nbytes for each in found), total)
    left = sensitive(found, plan.recipe.ratio)
    return replace(plan, sensitive=left, needs=estimate(checkpoint, plan.recipe, left))


@dataclass(frozen=True, slots=True)
class Written:
    """Of the IR: notes on what is not the recipe's; where it is ours, the graph of the model's first layer alone,
    between its embedding and its head, over the same .bin; and the files whose hashes are known."""

    notes: tuple[str, ...]
    excerpt: str | None = None
    files: Mapping[str, FileRecord] = field(default_factory=dict)


def _exported(checkpoint: CheckpointTensors, plan: Plan, folder: Path) -> Generator[Progress, None, Written]:
    """Has optimum-intel write the IR. Its weights have other names than ours, and there is no graph of one layer."""
    try:
        for _ in optimum.export(plan.source.path, folder, plan.recipe):
            yield Progress("export", "optimum-intel")
    except ConversionError:
        checkpoint.require_unchanged()  # its process maps the files, and ends without a word where one becomes shorter
        raise
    yield Progress("export", done=1, total=1)
    return Written((f"the IR is optimum-intel's, exported with transformers {version('transformers')}",))


def _weights(
    checkpoint: CheckpointTensors, plan: Plan, folder: Path, journal: Journal, damage: Damage
) -> Generator[Progress, None, Written]:
    """Compresses the weights and writes the IR."""
    total = _stored(checkpoint)
    yield Progress("compress", total=total)
    weights: dict[str, Node] = {}
    notes: list[str] = []
    done = 0
    with IrWriter(folder / "openvino_model.xml", plan.needs.disk, journal) as ir:
        activations = Activations(checkpoint, plan.recipe, plan.calibration) if plan.calibration else None
        for weight in compress(checkpoint, plan.recipe, ir, plan.sensitive, activations, damage=damage):
            weights[weight.name], done = weight.node, done + weight.nbytes
            note = re.sub(r"[0-9]+", "N", weight.name, count=1) + f": {weight.note}"  # the same in every layer
            if weight.note and note not in notes:
                notes.append(note)
            yield Progress("compress", f"{weight.name} ({weight.note})" if weight.note else weight.name, done, total)
        yield Progress("save", "openvino_model.xml")
        model = decoder(checkpoint.architecture, weights.__getitem__)
        describe(model, plan.recipe)
        ir.save(model)
        excerpt = ir.xml(decoder(replace(checkpoint.architecture, layers=1), weights.__getitem__))
        files = {"openvino_model.bin": ir.file}
    yield Progress("save", done=1, total=1)
    return Written(tuple(notes), excerpt, files)


def copy_texts(source: Checkpoint, folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps(source.config, indent=2) + "\n", encoding="utf-8")
    (folder / "generation_config.json").write_text(json.dumps(source.generation, indent=2) + "\n", encoding="utf-8")
    if source.template is not None:
        (folder / "chat_template.jinja").write_text(source.template, encoding="utf-8", newline="")
    for licence in source.path.glob("LICENSE*"):
        if (text := read_file(source.path, licence.name, MAX_LICENCE_BYTES, within=True)) is None:
            continue
        if not licence.name.isprintable():
            raise CheckpointError(
                f"the licence {quoted(licence.name)} has no printable name", hint="rename or remove it"
            )
        (folder / licence.name).write_bytes(text)


def _verify(
    checkpoint: CheckpointTensors, plan: Plan, folder: Path, excerpt: str | None
) -> Generator[Progress, None, verify.Figures]:
    from .check.reference import logits

    ids = verify.token_ids(plan.prompts, plan.source.tokenizer)
    yield Progress("verify", "what the checkpoint answers", 0, 3)
    reference = logits(checkpoint, ids)
    yield Progress("verify", "what the converted model answers", 1, 3)
    converted = verify.converted_logits(folder, checkpoint.architecture, ids, whole=excerpt is None)
    figures = verify.compare(ids, reference, converted, plan.recipe)
    yield Progress("verify", "whether OpenVINO GenAI can use it", 2, 3)
    verify.check_generation(folder, excerpt, ids[0])
    yield Progress("verify", done=3, total=3)
    return figures


def manifest(
    checkpoint: "CheckpointTensors | OnnxDecoder", plan: Plan, notes: tuple[str, ...], figures: verify.Figures
) -> Manifest:
    described = plan.source.manifest
    if plan.source.template is None:
        notes = (*notes, "no chat template: a base model, for completion only")
    if checkpoint.quantized_types:
        kinds = ", ".join(checkpoint.quantized_types)
        notes = (*notes, f"made from weights in {kinds}: what they had lost already, the verification does not see")
    return replace(
        described,
        recipe=plan.recipe.name,
        source=replace(described.source, fingerprint=checkpoint.fingerprint()),
        versions=_versions(*(optimum.PACKAGES if plan.exporter == "optimum" else ())),
        devices=devices(plan.recipe, checkpoint.architecture, plan.needs.sizes),
        sizes=plan.needs.sizes,
        verification=asdict(figures),
        notes=notes,
    )


def _job(checkpoint: CheckpointTensors, plan: Plan) -> dict[str, Any]:
    """All that the bytes of the weights depend on."""
    read = sha256(b"".join(ids.tobytes() for ids in plan.calibration)).hexdigest()
    return {
        "checkpoint": checkpoint.stat_fingerprint(),
        "recipe": asdict(plan.recipe),
        "calibration": read,
        "exporter": plan.exporter,
        "versions": _versions(),
    }


def _versions(*more: str) -> dict[str, str]:
    names = ("openvino", "openvino-tokenizers", "nncf", "tokenizers", "transformers", *more)
    return {"glm4-edge": VERSION} | {name: version(name) for name in names}


def _explained(exc: OSError, target: Path) -> ConversionError:
    if is_temporary_folder_missing(exc):
        return ConversionError("no folder for temporary files can be written", hint=TEMPORARY_FOLDER_HINT)
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
            f"the disk of {str(target.parent)!r} takes no file so large",
            hint="choose a folder on another disk (FAT takes 4 GB), or lift the limit of `ulimit -f`",
        )
    if isinstance(exc, PermissionError):
        hint = "check the permissions of the folder, or choose another one"
    elif ours:
        hint = "check the disk"
    else:
        hint = UNREADABLE_HINT
    return ConversionError(f"{str(where)!r}: {(exc.strerror or str(exc)).lower()}", hint=hint)
