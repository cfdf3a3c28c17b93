"""A checkpoint's weights, compressed by NNCF one at a time.

Each matrix goes through `nncf.compress_weights` in a graph that holds nothing else. Without data and with a ratio of 1,
NNCF looks at nothing but the matrix, so the result is bit for bit that of compressing the whole decoder, while only one
matrix has to be in memory. With a lower ratio, what is sensitive has been found before, in `sensitivity.py`. In the
whole decoder, NNCF would also round RoPE's frequencies to int8.
"""

import logging
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from openvino import Model, Node, PartialShape, Type
from openvino import opset13 as ops
from openvino.op import Constant

from runtime.checkpoint import Tensor

from .graph import as_openvino, uncompressed
from .recipe import SMALLEST_GROUP, Recipe
from .stored import agrees, take_over
from .writer import IrWriter, of_bytes

if TYPE_CHECKING:
    from .activations import Activations

EMBEDDING = "model.embed_tokens.weight"
HEAD = "lm_head.weight"
BLOCK = 1 << 26  # weights that NNCF gets at a time, where it can: it takes 11 bytes for each
WITH_DATA = 4  # times as much it takes to estimate scales


@dataclass(frozen=True, slots=True)
class Weight:
    """A weight of the IR: `node` yields it in f32. `nbytes` is its size in the checkpoint.

    `note` says where its compression is not the recipe's, because the recipe's group size does not divide its columns.
    """

    name: str
    node: Node
    nbytes: int
    note: str = ""


class Rows(Protocol):
    """A matrix, of which some rows at a time are read."""

    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    def rows(self, first: int, end: int) -> Tensor: ...


class Weights(Protocol):
    """A checkpoint, or whatever else has its weights by name."""

    @property
    def names(self) -> tuple[str, ...]: ...
    def tensor(self, name: str) -> Tensor: ...
    def release(self) -> None: ...


def compress(
    checkpoint: Weights,
    recipe: Recipe,
    ir: IrWriter,
    sensitive: Collection[str] = (),
    activations: "Activations | None" = None,
) -> Iterator[Weight]:
    """Every weight of the checkpoint, in the order of its names, each in the IR's file when it is yielded. Norms and
    biases stay exact, in f32; those named in `sensitive` become int8. A calibrated recipe needs `activations`. What is
    in the file already is not compressed again."""
    stored = uncompressed(checkpoint)
    for name in checkpoint.names:
        tensor = checkpoint.tensor(name)
        mode = recipe.ends if name in (EMBEDDING, HEAD) else recipe.backup if name in sensitive else recipe.linear
        if len(tensor.shape) == 1 or mode is None:
            node, note = ir.keep(stored(name)), ""
        elif recipe.take_over and agrees(tensor):
            node, note = take_over(tensor, ir), ""
        else:
            # Without all_layers, NNCF would take a lone matrix for the head.
            given = {} if mode.startswith("int8") else options(recipe) | {"ratio": 1.0, "all_layers": True}
            matrix: Rows = tensor
            if activations and given and name not in (EMBEDDING, HEAD) and not ir.has(name):
                matrix, data = activations.of(tensor)
                given |= data
            node = _compressed(matrix, mode, given, ir)
            note = "" if name in (EMBEDDING, HEAD, *sensitive) else recipe.note(tensor.shape[1])
            if recipe.take_over:
                note = f"{mode}, since OpenVINO has no {tensor.blocks or tensor.dtype} in groups"
        ir.finish(name)
        checkpoint.release()
        yield Weight(name, node, tensor.nbytes, note)


def describe(model: Model, recipe: Recipe) -> None:
    """Notes on the model how it was compressed, where and as NNCF does, for other tools to see."""
    if recipe.linear is None or recipe.take_over:
        return
    # NNCF's own notes, off one small matrix.
    sample = _compress_alone(ops.constant(np.zeros((1, 128), np.float32)), recipe.linear, options(recipe))
    methods = {"awq": recipe.awq, "scale_estimation": recipe.scale, "gptq": recipe.gptq}
    for key, value in sample.get_rt_info(["nncf", "weight_compression"]).value.items():
        model.set_rt_info(str(methods[key]) if methods.get(key) else value, ["nncf", "weight_compression", key])
    model.set_rt_info(sample.get_rt_info(["nncf", "version"]).value, ["nncf", "version"])


def _compressed(tensor: Rows, mode: str, options: dict[str, Any], ir: IrWriter) -> Node:
    """Rows do not share anything, so that they can be compressed apart. A vocabulary's matrix of 620 million weights
    would take NNCF 6.9 GB at once."""
    rows, columns = tensor.shape
    block = BLOCK // WITH_DATA if options.get("scale_estimation") else BLOCK
    step = max(2, block // columns // 2 * 2)  # even, so that blocks of 4-bit values end with a byte
    scales: dict[str, list[Any]] = {}
    graph: Any = None

    def weights() -> Iterator[Any]:
        nonlocal graph
        for first in range(0, rows, step):
            part = tensor.rows(first, first + step)  # the graph does not keep it
            graph = _compress_alone(_node(part), mode, options)
            constants = _constants(graph, tensor.name)
            yield constants.pop(tensor.name).data
            for name, constant in constants.items():
                scales.setdefault(name, []).append(constant.data.copy())

    if ir.has(tensor.name):  # all that is missing is the graph, which any rows have
        part = tensor.rows(0, 2)
        graph = _compress_alone(_node(part), mode, options)
        data = {name: ir.write(name, ()) for name in _constants(graph, tensor.name)}
    else:
        data = {tensor.name: ir.write(tensor.name, weights())}
        data |= {name: ir.write(name, blocks) for name, blocks in scales.items()}
    for name, constant in _constants(graph, tensor.name).items():  # the last block's graph becomes that of all rows
        _replace(constant, of_bytes(data[name], constant, [rows, *list(constant.get_output_shape(0))[1:]]))
    for op in graph.get_ops():
        if op.get_type_name() == "Reshape":  # of groups to rows
            shape = op.input_value(1).get_node()
            _replace(shape, ops.constant([rows, columns], shape.get_element_type(), name=shape.get_friendly_name()))
    graph.validate_nodes_and_infer_types()
    return _weight_of(graph)


def _constants(model: Model, name: str) -> dict[str, Node]:
    """The compressed weight, its scale and its zero point, by name."""
    names = (name, name + "/scale", name + "/zero_point")
    return {op.get_friendly_name(): op for op in model.get_ops() if op.get_friendly_name() in names}


def _replace(old: Node, new: Node) -> None:
    for reader in old.output(0).get_target_inputs():
        reader.replace_source_output(new.output(0))


def _node(tensor: Tensor) -> Node:
    node = Constant(as_openvino(tensor), shared_memory=tensor.lasting)
    node.set_friendly_name(tensor.name)
    return node if tensor.dtype == "f32" else ops.convert(node, "f32")


def _weight_of(model: Model) -> Node:
    (matmul,) = (op for op in model.get_ops() if op.get_type_name() == "MatMul")
    return matmul.input_value(1).get_node()


def options(recipe: Recipe) -> dict[str, Any]:
    """The options of `nncf.compress_weights` for the whole decoder."""
    if recipe.linear is None or recipe.linear.startswith("int8"):
        return {}
    nncf = import_nncf()
    return {
        "ratio": recipe.ratio,
        "group_size": recipe.group_size,
        "all_layers": recipe.ends == recipe.linear,
        "backup_mode": nncf.BackupMode(recipe.backup),
        "advanced_parameters": nncf.AdvancedCompressionParameters(
            group_size_fallback_mode=nncf.GroupSizeFallbackMode.ADJUST, min_adjusted_group_size=SMALLEST_GROUP
        ),
    }


def _compress_alone(source: Node, mode: str, options: dict[str, Any]) -> Model:
    """A MatMul with this matrix, compressed. The embedding's Gather would come out the same: a scale a row."""
    nncf = import_nncf()
    x = ops.parameter(PartialShape([-1, source.output(0).shape[1]]), Type.f32)
    model = Model([ops.result(ops.matmul(x, source, False, True))], [x], "weight")
    with silent():
        return nncf.compress_weights(model, mode=nncf.CompressWeightsMode(mode), **options)


def import_nncf() -> Any:
    os.environ.setdefault("NNCF_CI", "1")  # or it reports its use to its makers
    import nncf

    return nncf


@contextmanager
def silent() -> Iterator[None]:
    """NNCF draws a progress bar for every call, on the console on which our reader draws one, and logs to it."""
    from nncf.common.logging.track_progress import track

    logger = logging.getLogger("nncf")
    level, draw = logger.level, track.__iter__
    logger.setLevel(logging.ERROR)
    track.__iter__ = lambda self: iter(self.sequence)
    try:
        yield
    finally:
        track.__iter__ = draw
        logger.setLevel(level)
