"""ONNX decoder -> model folder: its own graph, its weights compressed one at a time, its cache in states."""

from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import openvino as ov

from runtime.checkpoint.checkpoint import Checkpoint
from runtime.checkpoint.role_tokens import require_special_stop_tokens
from runtime.errors import CheckpointError, ConversionError
from runtime.folder.integrity import record_verified
from runtime.folder.model_folder import FileRecord, ModelFolder, write_manifest
from runtime.prompt.template import ChatTemplate

from ..check import verify
from ..check.layerwise import read
from ..check.reference import EXACT
from ..estimate import Needs, loaded_bytes, model_sizes, refuse_too_little
from ..output.ir_writer import IrWriter
from ..output.scratch import Scratch
from ..output.tokenizer import write_tokenizer
from ..pipeline import Plan, Progress, Steps, copy_texts, manifest
from ..recipe import Recipe
from ..weights.compress import compress, describe
from .damage import Damage
from .onnx_decoder import OnnxDecoder, files, texts

NOTE = (
    "an ONNX graph, its attention in single operations: no PagedAttention, hence one request at a time, no prefix cache"
)
_OTHER_FILES = 64 * 2**20
_UNCOMPRESSED = 10  # bytes of memory for each weight, while the whole file is loaded in f32 to be asked; measured


def convert_onnx(file: Path, place: Scratch, recipe: Recipe) -> Steps:
    """As `convert`, for a file whose config.json and tokenizer lie beside it, or in the folder above. It does not go on
    from what another conversion has left."""
    folder = place.path
    place.clear()
    yield Progress("check", "checkpoint")
    if recipe.take_over or recipe.calibrated or recipe.ratio < 1:
        raise ConversionError(
            f"the recipe {recipe.name} is not for an ONNX file", hint="choose another recipe: int4, int8 or bf16"
        )
    described = Checkpoint.open(_texts(file))
    plan = _plan(described, file, recipe)
    refuse_too_little(plan.needs, folder.parent)
    decoder = OnnxDecoder.open(file, described.architecture)
    damage = Damage(decoder, described.tokenizer)
    for norm in decoder.norms():
        damage.refuse(norm)
    yield Progress("check", done=1, total=1)
    yield Progress("tokenizer")
    write_tokenizer(described.tokenizer, folder)
    verify.check_tokenizer(folder, described.tokenizer, {piece for prompt in plan.prompts for piece in prompt})
    yield Progress("tokenizer", done=1, total=1)
    ids = verify.token_ids(plan.prompts, described.tokenizer)
    yield Progress("verify", "what the ONNX file answers", 0, 3)
    reference = decoder.logits(ids)
    weights = yield from _weights(decoder, plan, folder, damage)
    copy_texts(described, folder)
    yield Progress("verify", "what the converted model answers", 1, 3)
    figures = verify.compare(ids, reference, _logits(folder, ids), recipe)
    yield Progress("verify", "whether OpenVINO GenAI can use it", 2, 3)
    verify.check_generation(folder, None, ids[0], ATTENTION_BACKEND="SDPA")
    yield Progress("verify", done=3, total=3)
    yield Progress("seal", "hashes")
    complete = replace(manifest(decoder, plan, (NOTE,), figures), paged=False)
    decoder.require_unchanged()
    sealed = write_manifest(folder, complete, {"openvino_model.bin": weights})
    yield Progress("seal", "to disk")
    place.publish()
    result = ModelFolder(place.target, sealed.manifest)
    record_verified(result)
    yield Progress("seal", done=1, total=1, result=result)


def _texts(file: Path) -> Path:
    """The folder with config.json: the file's, or the one above it (…/onnx/model.onnx)."""
    if not file.is_file():
        raise CheckpointError(f"there is no file {str(file)!r}", hint="give the .onnx file of the decoder")
    return file.parent if (file.parent / "config.json").is_file() else file.parent.parent


def _plan(source: Checkpoint, file: Path, recipe: Recipe) -> Plan:
    require_special_stop_tokens(source.generation["eos_token_id"], source.tokenizer)
    special = source.manifest.special_tokens.keys()
    template = None if source.template is None else ChatTemplate(source.template, source.family, special)
    # A head of its own, even where it is tied; and with the recipe bf16, weights that may be in f32.
    architecture = replace(source.architecture, tied_embeddings=False)
    sizes = model_sizes(architecture, recipe, dict.fromkeys((name for name, _ in architecture.shapes()), 32))
    weights = sum(int(np.prod(shape)) for _, shape in architecture.shapes())
    memory = max(_UNCOMPRESSED * weights, loaded_bytes(architecture, sizes)) + sum(
        f.stat().st_size for f in files(file)
    )
    return Plan(
        recipe, source, verify.prompts(source.family, template), Needs(sizes, sizes.weights + _OTHER_FILES, memory)
    )


def _weights(decoder: OnnxDecoder, plan: Plan, folder: Path, damage: Damage) -> Generator[Progress, None, FileRecord]:
    total, done = sum(decoder.tensor(name).nbytes for name in decoder.names), 0
    yield Progress("compress", total=total)
    with IrWriter(folder / "openvino_model.xml", plan.needs.disk) as ir:
        for weight in compress(decoder, plan.recipe, ir, damage=damage):
            decoder.put(weight)
            done += weight.nbytes
            yield Progress("compress", weight.name, done, total)
        yield Progress("save", "openvino_model.xml")
        model = decoder.stateful()
        describe(model, plan.recipe)
        ir.save(model)
        weights = ir.file
    yield Progress("save", done=1, total=1)
    return weights


def _logits(folder: Path, token_ids: verify.TokenIds) -> list[npt.NDArray[np.float32]]:
    model = read(folder / "openvino_model.xml")
    request = ov.Core().compile_model(model, "CPU", EXACT).create_infer_request()
    found = []
    for ids in token_ids:
        request.reset_state()
        found.append(np.array(request.infer(texts(model, ids))["logits"][0], np.float32))
    return found
