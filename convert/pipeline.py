"""checkpoint -> family -> estimate -> tokenizer -> weights -> graph -> verified -> sealed -> in its place.

What costs seconds and may refuse goes before what costs minutes: the tokenizer is converted and checked first.
"""

import errno
import json
import os
import re
import shutil
from collections.abc import Generator
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from openvino import Node

from runtime.backends.genai import brief
from runtime.checkpoint import Checkpoint
from runtime.checkpoint_folder import CheckpointFolder
from runtime.errors import ConversionError, DiskFull
from runtime.model_folder import Manifest, ModelFolder, seal
from runtime.template import Prompt, Template
from runtime.version import VERSION

from . import optimum, verify
from .compress import compress, describe
from .estimate import Needs, devices, estimate, refuse_too_little
from .graph import decoder
from .recipe import Recipe, named
from .scratch import publish, scratch
from .tokenizer import write_tokenizer
from .writer import IrWriter


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
    exporter: Exporter = "edge",
) -> Steps:
    """Converts the checkpoint folder `source` into the model folder `target`, a step at a time; the IR is written by us
    or by optimum-intel.

    `target` appears when all is done and verified; closing the generator, or any error, leaves nothing behind. Raises
    CheckpointError, ConversionError (DiskFull, VerificationError) or TemplateError.
    """
    if missing := [name for name in ("nncf", "tokenizers", "transformers") if find_spec(name) is None]:
        raise ConversionError(
            f"converting needs {', '.join(missing)}, which is not installed", hint='pip install "glm4-edge[convert]"'
        )
    recipe = named(recipe) if isinstance(recipe, str) else recipe
    source, target = Path(source).expanduser(), Path(target).expanduser().absolute()
    try:
        with scratch(target) as folder:
            yield from _convert(source, folder, target, recipe, exporter)
    except OSError as exc:
        raise _explained(exc, target) from exc
    except RuntimeError as exc:  # OpenVINO's and NNCF's
        raise ConversionError(f"the conversion failed: {brief(exc)}", hint="please report this") from exc
    except MemoryError as exc:
        raise ConversionError("the memory is full", hint="close other programs, or use a larger machine") from exc


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is known before the work begins."""

    recipe: Recipe
    exporter: Exporter
    source: CheckpointFolder
    prompts: list[Prompt]
    needs: Needs


def _convert(source: Path, folder: Path, target: Path, recipe: Recipe, exporter: Exporter) -> Steps:
    yield Progress("check", "checkpoint")
    described = CheckpointFolder.open(source)
    with described.weights() as checkpoint:
        plan = _plan(described, checkpoint, recipe, exporter)
        refuse_too_little(plan.needs, folder.parent)
        yield Progress("check", done=1, total=1)
        yield Progress("tokenizer")
        write_tokenizer(described.tokenizer, folder)
        verify.check_tokenizer(folder, described.tokenizer, {piece for prompt in plan.prompts for piece in prompt})
        yield Progress("tokenizer", done=1, total=1)
        notes, excerpt = yield from (_weights if exporter == "edge" else _exported)(checkpoint, plan, folder)
        _copy_texts(described, folder)
        figures = yield from _verify(checkpoint, plan, folder, excerpt)
        yield Progress("seal", "hashes")
        manifest = _manifest(checkpoint, plan, notes, figures)
    sealed = seal(folder, manifest)
    yield Progress("seal", "to disk")
    publish(folder, target)
    yield Progress("seal", done=1, total=1, result=ModelFolder(target, sealed.manifest))


def _plan(source: CheckpointFolder, checkpoint: Checkpoint, recipe: Recipe, exporter: Exporter) -> _Plan:
    needs = estimate(checkpoint, recipe)
    if exporter == "optimum":
        optimum.refuse(checkpoint.architecture, recipe)
        needs = optimum.needs(needs, _stored(checkpoint))
    special = source.manifest.special_tokens.keys()
    template = None if source.template is None else Template(source.template, source.family, special)
    return _Plan(recipe, exporter, source, verify.prompts(source.family, template), needs)


def _stored(checkpoint: Checkpoint) -> int:
    """Bytes of the checkpoint's weights."""
    return sum(checkpoint.tensor(name).data.nbytes for name in checkpoint.names)


Written = Generator[Progress, None, tuple[tuple[str, ...], str | None]]


def _exported(checkpoint: Checkpoint, plan: _Plan, folder: Path) -> Written:
    """Has optimum-intel write the IR. Its weights have other names than ours, and there is no graph of one layer."""
    for _ in optimum.export(plan.source.path, folder, plan.recipe):
        yield Progress("export", "optimum-intel")
    yield Progress("export", done=1, total=1)
    return (f"the IR is optimum-intel's, exported with transformers {version('transformers')}",), None


def _weights(checkpoint: Checkpoint, plan: _Plan, folder: Path) -> Written:
    """Compresses the weights and writes the IR. Returns notes on what is not the recipe's, and the graph of the model's
    first layer alone, between its embedding and its head, over the same .bin."""
    total = _stored(checkpoint)
    yield Progress("compress", total=total)
    weights: dict[str, Node] = {}
    notes: list[str] = []
    done = 0
    with IrWriter(folder / "openvino_model.xml", plan.needs.disk) as ir:
        for weight in compress(checkpoint, plan.recipe, ir):
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
    yield Progress("save", done=1, total=1)
    return tuple(notes), excerpt


def _copy_texts(source: CheckpointFolder, folder: Path) -> None:
    shutil.copyfile(source.path / "config.json", folder / "config.json")
    (folder / "generation_config.json").write_text(json.dumps(source.generation, indent=2) + "\n", encoding="utf-8")
    if source.template is not None:
        (folder / "chat_template.jinja").write_text(source.template, encoding="utf-8", newline="")
    for licence in source.path.glob("LICENSE*"):
        if licence.is_file():
            shutil.copyfile(licence, folder / licence.name)


def _verify(
    checkpoint: Checkpoint, plan: _Plan, folder: Path, excerpt: str | None
) -> Generator[Progress, None, verify.Figures]:
    import numpy as np

    from .reference import logits

    ids = [np.array([i for piece in prompt for i in plan.source.tokenizer.encode(piece)]) for prompt in plan.prompts]
    yield Progress("verify", "what the checkpoint answers", 0, 3)
    reference = logits(checkpoint, ids)
    yield Progress("verify", "what the converted model answers", 1, 3)
    converted = verify.converted_logits(folder, checkpoint.architecture, ids, whole=excerpt is None)
    figures = verify.compare(ids, reference, converted, plan.recipe)
    yield Progress("verify", "whether OpenVINO GenAI can use it", 2, 3)
    verify.check_generation(folder, excerpt, ids[0])
    yield Progress("verify", done=3, total=3)
    return figures


def _manifest(checkpoint: Checkpoint, plan: _Plan, notes: tuple[str, ...], figures: verify.Figures) -> Manifest:
    described = plan.source.manifest
    if plan.source.template is None:
        notes = (*notes, "no chat template: a base model, for completion only")
    packages: tuple[str, ...] = ("openvino", "openvino-tokenizers", "nncf", "tokenizers", "transformers")
    if plan.exporter == "optimum":
        packages += optimum.PACKAGES
    return replace(
        described,
        recipe=plan.recipe.name,
        source=replace(described.source, fingerprint=checkpoint.fingerprint()),
        versions={"glm4-edge": VERSION} | {name: version(name) for name in packages},
        devices=devices(plan.recipe, checkpoint.architecture, plan.needs.sizes),
        sizes=plan.needs.sizes,
        verification=asdict(figures),
        notes=notes,
    )


def _explained(exc: OSError, target: Path) -> ConversionError:
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(
            f"the disk of {str(target.parent)!r} is full", hint="make room, or choose a folder on another disk"
        )
    where = exc.filename or target.parent
    hint = "check the permissions of the folder, or choose another one" if isinstance(exc, PermissionError) else ""
    return ConversionError(f"{str(where)!r}: {(exc.strerror or str(exc)).lower()}", hint=hint or "check the disk")
