"""A model folder that reads pictures: the embedded checkpoint over embeddings, with a tower of random weights."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from convert import graph
from convert.parts import build_stub
from convert.vision.embeddings_decoder import build_embeddings_decoder, build_embeddings_table
from edge.demo import CHECKPOINT
from runtime.checkpoint.checkpoint import Checkpoint
from runtime.folder.ir_files import LANGUAGE, STUB, TABLE, TOWER
from runtime.folder.manifest import Manifest, VisionRecord
from runtime.folder.model_folder import ModelFolder, write_manifest
from runtime.prompt.families.glm4v import GLM4V

SIDE, PATCH, TOKENS = 28, 7, 16
SLOW = 2048  # rows and columns of the matrices of a tower that takes long


def i64(*values: int):
    return ops.constant(np.array(values, np.int64))


def named(node, name: str):
    node.output(0).set_names({name})
    return node


def parameter(name: str, shape: list[int], kind=ov.Type.i64):
    return named(ops.parameter(ov.PartialShape(shape), kind, name=name), name)


def tower(hidden: int, layers: int) -> ov.Model:
    """Patches of pixels, projected; `layers` large products beside it make it slow."""
    draw = np.random.default_rng(5)
    pixels = parameter("pixels", [1, SIDE, SIDE, 3], ov.Type.u8)
    grid = SIDE // PATCH
    x = ops.reshape(ops.convert(pixels, "f32"), i64(1, grid, PATCH, grid, PATCH * 3), False)
    x = ops.reshape(ops.transpose(x, i64(0, 1, 3, 2, 4)), i64(1, grid * grid, PATCH * PATCH * 3), False)
    weight = draw.standard_normal((PATCH * PATCH * 3, hidden), np.float32) * np.float32(1e-3)
    x = ops.matmul(x, ops.constant(weight), False, False)
    if layers:
        slow = ops.broadcast(ops.reduce_mean(x, i64(0, 1, 2), False), i64(SLOW, SLOW))
        matrix = ops.constant(draw.standard_normal((SLOW, SLOW), np.float32))
        for _ in range(layers):
            slow = ops.tanh(ops.matmul(slow, matrix, False, False))
        x = ops.add(x, ops.multiply(ops.reduce_mean(slow, i64(0, 1), False), ops.constant(np.float32(0))))
    ends = [ops.constant(draw.standard_normal((1, 1, hidden), np.float32)) for _ in range(2)]
    x = ops.concat([ends[0], x, ends[1]], 1)
    return ov.Model([ops.result(named(x, "features"))], [pixels], "tower")


def vision_folder(text: ModelFolder, out: Path, *, layers: int = 0) -> ModelFolder:
    """Write the folder. `text` is the embedded checkpoint, converted: its tokenizer is taken from there."""
    out.mkdir(parents=True)
    checkpoint = Checkpoint.open(CHECKPOINT)
    hidden = checkpoint.architecture.hidden
    with checkpoint.weights() as weights:
        weight = graph.uncompressed_weights(weights)
        models = {
            LANGUAGE: build_embeddings_decoder(checkpoint.architecture, weight),
            TABLE: build_embeddings_table(checkpoint.architecture, weight),
            TOWER: tower(hidden, layers),
            STUB: build_stub(),
        }
        for name, model in models.items():
            ov.save_model(model, out / f"{name}.xml", compress_to_fp16=False)
    for name in text.manifest.files:
        if "tokenizer" in name or name == "generation_config.json":
            shutil.copyfile(text.path / name, out / name)
    (out / "config.json").write_text(json.dumps({"model_type": "llava", "hidden_size": hidden + 2}))
    (out / "preprocessor_config.json").write_text("{}")
    (out / "chat_template.jinja").write_text(GLM4V.template)
    manifest: Manifest = replace(
        text.manifest, family="glm4v", recipe="bf16", vision=VisionRecord("glm4v", SIDE, TOKENS + 2, 1), files={}
    )
    return write_manifest(out, manifest)
