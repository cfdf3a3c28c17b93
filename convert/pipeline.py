"""checkpoint -> family -> estimate -> tokenizer -> weights -> graph -> verified -> sealed -> in its place.

What costs seconds and may refuse goes before what costs minutes: the tokenizer is converted and checked first.
"""

import errno
import json
import os
import re
import shutil
from collections.abc import Generator, Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from openvino import Node

from runtime.backends.genai import brief
from runtime.detection import detect
from runtime.errors import CheckpointError, ConversionError, DiskFull, EdgeError
from runtime.families import Family
from runtime.model_folder import Manifest, ModelFolder, Source, seal
from runtime.sampling import Sampling
from runtime.template import Prompt, Template
from runtime.version import VERSION

from . import verify
from .checkpoint import Checkpoint
from .compress import compress, describe
from .estimate import Needs, devices, estimate, refuse_too_little
from .graph import decoder
from .ir import IrWriter
from .recipe import Recipe, named
from .scratch import publish, scratch
from .tokenizer import CheckpointTokenizer, read_json, read_tokenizer, write_tokenizer


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


def convert(source: str | os.PathLike[str], target: str | os.PathLike[str], recipe: str | Recipe = "int4") -> Steps:
    """Converts the checkpoint folder `source` into the model folder `target`, a step at a time.

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
            yield from _convert(source, folder, target, recipe)
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
    family: Family
    tokenizer: CheckpointTokenizer
    template: str | None
    prompts: list[Prompt]
    generation: Mapping[str, Any]
    needs: Needs


def _convert(source: Path, folder: Path, target: Path, recipe: Recipe) -> Steps:
    yield Progress("check", "checkpoint")
    with Checkpoint.open(source) as checkpoint:
        plan = _plan(checkpoint, recipe)
        refuse_too_little(plan.needs, folder.parent)
        yield Progress("check", done=1, total=1)
        yield Progress("tokenizer")
        write_tokenizer(plan.tokenizer, folder)
        verify.check_tokenizer(folder, plan.tokenizer, {piece for prompt in plan.prompts for piece in prompt})
        yield Progress("tokenizer", done=1, total=1)
        notes, excerpt = yield from _weights(checkpoint, plan, folder)
        _copy_texts(source, plan, folder)
        figures = yield from _verify(checkpoint, plan, folder, excerpt)
        yield Progress("seal", "hashes")
        manifest = _manifest(checkpoint, plan, notes, figures)
    sealed = seal(folder, manifest)
    yield Progress("seal", "to disk")
    publish(folder, target)
    yield Progress("seal", done=1, total=1, result=ModelFolder(target, sealed.manifest))


def _plan(checkpoint: Checkpoint, recipe: Recipe) -> _Plan:
    config, path = checkpoint.config, checkpoint.path
    source = _read_template(path)
    family = detect(config, source)
    end_ids = config.get("eos_token_id")
    end_ids = [id for id in (end_ids if isinstance(end_ids, list) else [end_ids]) if isinstance(id, int)]
    tokenizer = read_tokenizer(path, checkpoint.architecture.vocab, end_ids)
    stops = [tokenizer.special_tokens[name] for name in family.stop_tokens if name in tokenizer.special_tokens]
    if not stops:
        raise CheckpointError(
            f"the tokenizer has none of the stop tokens {', '.join(family.stop_tokens)}",
            hint="it belongs to another model: download the checkpoint's own tokenizer files",
        )
    generation = {"eos_token_id": end_ids or stops, "pad_token_id": tokenizer.special_tokens[tokenizer.pad]}
    generation |= _read_generation_config(path)
    template = None if source is None else Template(source, family, tokenizer.special_tokens.keys())
    return _Plan(
        recipe=recipe,
        family=family,
        tokenizer=tokenizer,
        template=source,
        prompts=verify.prompts(family, template),
        generation=generation,
        needs=estimate(checkpoint, recipe),
    )


def _read_template(checkpoint: Path) -> str | None:
    """The chat template, from where transformers 5 or 4 keep it; of several, the default. None for a base model."""
    try:
        return (checkpoint / "chat_template.jinja").read_text(encoding="utf-8")
    except FileNotFoundError:
        found = read_json(checkpoint / "tokenizer_config.json").get("chat_template")
    except UnicodeDecodeError as exc:
        raise CheckpointError("chat_template.jinja is not UTF-8 text", hint="download it again") from exc
    if isinstance(found, list):
        named = {entry.get("name"): entry.get("template") for entry in found if isinstance(entry, dict)}
        found = named.get("default")
    if found is not None and not isinstance(found, str):
        raise CheckpointError("tokenizer_config.json: chat_template is damaged", hint="download it again")
    return found


def _read_generation_config(checkpoint: Path) -> dict[str, Any]:
    found = read_json(checkpoint / "generation_config.json")
    try:
        Sampling.of_checkpoint(found)
    except (EdgeError, TypeError, ValueError) as exc:
        raise CheckpointError(f"generation_config.json is damaged: {exc}", hint="download it again") from exc
    return found


def _weights(
    checkpoint: Checkpoint, plan: _Plan, folder: Path
) -> Generator[Progress, None, tuple[tuple[str, ...], str]]:
    """Compresses the weights and writes the IR. Returns notes on what is not the recipe's, and the graph of the model's
    first layer alone, between its embedding and its head, over the same .bin."""
    total = sum(checkpoint.tensor(name).data.nbytes for name in checkpoint.names)
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


def _copy_texts(source: Path, plan: _Plan, folder: Path) -> None:
    shutil.copyfile(source / "config.json", folder / "config.json")
    (folder / "generation_config.json").write_text(json.dumps(plan.generation, indent=2) + "\n", encoding="utf-8")
    if plan.template is not None:
        (folder / "chat_template.jinja").write_text(plan.template, encoding="utf-8", newline="")
    for licence in source.glob("LICENSE*"):
        if licence.is_file():
            shutil.copyfile(licence, folder / licence.name)


def _verify(
    checkpoint: Checkpoint, plan: _Plan, folder: Path, excerpt: str
) -> Generator[Progress, None, verify.Figures]:
    import numpy as np

    from .reference import logits

    ids = [np.array([i for piece in prompt for i in plan.tokenizer.encode(piece)]) for prompt in plan.prompts]
    yield Progress("verify", "what the checkpoint answers", 0, 3)
    reference = logits(checkpoint, ids)
    yield Progress("verify", "what the converted model answers", 1, 3)
    converted = verify.converted_logits(folder, checkpoint.architecture, ids)
    figures = verify.compare(ids, reference, converted, plan.recipe)
    yield Progress("verify", "whether OpenVINO GenAI can use it", 2, 3)
    verify.check_generation(folder, excerpt, ids[0])
    yield Progress("verify", done=3, total=3)
    return figures


def _manifest(checkpoint: Checkpoint, plan: _Plan, notes: tuple[str, ...], figures: verify.Figures) -> Manifest:
    architecture = checkpoint.architecture
    if plan.template is None:
        notes = (*notes, "no chat template: a base model, for completion only")
    return Manifest(
        family=plan.family.name,
        recipe=plan.recipe.name,
        source=Source(_name(checkpoint.path), architecture.name, checkpoint.fingerprint()),
        context_length=architecture.context,
        kv_bytes_per_token=architecture.kv_bytes_per_token,
        special_tokens=plan.tokenizer.special_tokens,
        licence=_licence(checkpoint.path),
        versions={"glm4-edge": VERSION}
        | {name: version(name) for name in ("openvino", "openvino-tokenizers", "nncf", "tokenizers", "transformers")},
        devices=devices(plan.recipe, architecture, plan.needs.sizes),
        sizes=plan.needs.sizes,
        verification=asdict(figures),
        notes=notes,
    )


def _name(checkpoint: Path) -> str:
    """The folder's name; in the hub's cache that is a commit, and the model's stands further up."""
    path = checkpoint.resolve()
    return (
        path.parents[1].name.removeprefix("models--").replace("--", "/")
        if path.parent.name == "snapshots"
        else path.name
    )


def _licence(checkpoint: Path) -> str:
    """What the model card's header names, or the licence file."""
    try:
        header = (checkpoint / "README.md").read_text(encoding="utf-8", errors="replace").split("\n---", 1)[0]
    except OSError:
        header = ""
    for key in ("license_name", "license"):
        if (found := re.search(rf"^{key}:\s*(\S.*?)\s*$", header, re.MULTILINE)) and found[1] != "other":
            return found[1].strip("\"'")[:200]
    return "see LICENSE" if (checkpoint / "LICENSE").is_file() else ""


def _explained(exc: OSError, target: Path) -> ConversionError:
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(
            f"the disk of {str(target.parent)!r} is full", hint="make room, or choose a folder on another disk"
        )
    where = exc.filename or target.parent
    hint = "check the permissions of the folder, or choose another one" if isinstance(exc, PermissionError) else ""
    return ConversionError(f"{str(where)!r}: {(exc.strerror or str(exc)).lower()}", hint=hint or "check the disk")
