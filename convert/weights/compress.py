"""A checkpoint's weights, compressed by NNCF one at a time.

Each matrix goes to NNCF by itself. Without data and with a ratio of 1, NNCF looks at nothing but the matrix, so the
result is bit for bit that of compressing the whole decoder, while only some rows have to be in memory. With a lower
ratio, what is sensitive has been found before, in `sensitivity.py`. In the whole decoder, NNCF would also round RoPE's
frequencies to int8.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from openvino import Model, Node, Type
from openvino import opset13 as ops
from openvino.op import Constant

from runtime.checkpoint.tensors import Tensor
from runtime.system.native_effects import trim_heap

from ..graph import as_openvino, uncompressed
from ..output.ir_writer import IrWriter, of_bytes
from ..recipe import SMALLEST_GROUP, Recipe
from . import nncf as quantise
from .gguf_blocks import agrees, take_over
from .nncf import Part, Rows, blocks, compressed_alone, import_nncf, quantised

if TYPE_CHECKING:
    from ..source.damage import Damage
    from .activations import Activations

EMBEDDING = "model.embed_tokens.weight"
HEAD = "lm_head.weight"
BLOCK = 1 << 26  # weights that NNCF gets at a time, where it needs data
WITH_DATA = 4  # times as much it takes to estimate scales
_ANY = "any matrix"  # a name to be replaced
_TRIM = 1 << 29  # bytes read after which freed memory is given back: the heap would grow with every layer (50 MB of 9B)


@dataclass(frozen=True, slots=True)
class Weight:
    """A weight of the IR: `node` yields it in f32. `nbytes` is its size in the checkpoint.

    `note` says where its compression is not the recipe's, because the recipe's group size does not divide its columns.
    """

    name: str
    node: Node
    nbytes: int
    note: str = ""


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
    *,
    damage: "Damage | None" = None,
) -> Iterator[Weight]:
    """Every weight of the checkpoint, in the order of its names, each in the IR's file when it is yielded. Norms and
    biases stay exact, in f32; those named in `sensitive` become int8. A calibrated recipe needs `activations`. What is
    in the file already is not compressed again. Raises CheckpointError for a weight in which `damage` finds some."""
    stored, graphs, read = uncompressed(checkpoint), _Graphs(), 0
    for name in checkpoint.names:
        tensor = checkpoint.tensor(name)
        if damage and not ir.has(name):
            damage.refuse(tensor)
        end = name in (EMBEDDING, HEAD)
        mode = recipe.ends if end else recipe.backup if name in sensitive else recipe.linear
        if len(tensor.shape) == 1:
            node, note = ir.keep(stored(name)), ""
        elif mode is None:
            node, note = _as_stored(tensor, ir), ""
        elif recipe.take_over and agrees(tensor):
            node, note = take_over(tensor, ir), ""
        else:
            # Without all_layers, NNCF would take a lone matrix for the head.
            given = {} if mode.startswith("int8") else options(recipe) | {"ratio": 1.0, "all_layers": True}
            matrix: Rows = tensor
            data: Mapping[str, Any] = {}
            if activations and given and not end and not ir.has(name):
                matrix, data = activations.of(tensor)
            kind, group = recipe.form(tensor.shape[1], end=end, sensitive=name in sensitive)
            parts = _fitted(matrix, mode, {**given, **data}) if data else quantised(matrix, kind or mode, group)
            node = _compressed(matrix, graphs.of(matrix, mode, given), parts, ir)
            note = "" if end or name in sensitive else recipe.note(tensor.shape[1])
            if recipe.take_over:
                note = f"{mode}, since OpenVINO has no {tensor.gguf_type or tensor.dtype} in groups"
        ir.finish(name)
        checkpoint.release()
        read += tensor.nbytes
        if read >= _TRIM:
            trim_heap()
            read = 0
        yield Weight(name, node, tensor.nbytes, note)


def describe(model: Model, recipe: Recipe) -> None:
    """Notes on the model how it was compressed, where and as NNCF does, for other tools to see."""
    if recipe.linear is None or recipe.take_over:
        return
    # NNCF's own notes, off one small matrix.
    sample = compressed_alone(ops.constant(np.zeros((1, 128), np.float32)), recipe.linear, options(recipe))
    methods = {"awq": recipe.awq, "scale_estimation": recipe.scale, "gptq": recipe.gptq}
    for key, value in sample.get_rt_info(["nncf", "weight_compression"]).value.items():
        model.set_rt_info(str(methods[key]) if methods.get(key) else value, ["nncf", "weight_compression", key])
    model.set_rt_info(sample.get_rt_info(["nncf", "version"]).value, ["nncf", "version"])


class _Graphs:
    """NNCF's graph of a matrix, as it makes it of two rows without data; made once for all matrices of a kind."""

    def __init__(self) -> None:
        self._made: dict[tuple[Any, ...], Model] = {}

    def of(self, matrix: Rows, mode: str, options: Mapping[str, Any]) -> Model:
        part = matrix.rows(0, 2)
        kind = (mode, part.shape, part.dtype)
        if kind not in self._made:
            self._made[kind] = compressed_alone(_node(replace(part, name=_ANY)), mode, options)
        graph = self._made[kind].clone()
        for op in graph.get_ops():
            op.set_friendly_name(op.get_friendly_name().replace(_ANY, matrix.name))
        return graph


def _compressed(matrix: Rows, graph: Model, parts: Iterable[Part], ir: IrWriter) -> Node:
    """The matrix in the IR's file, by its parts; the node, out of the graph of two of its rows, yields it in f32."""
    rows, columns = matrix.shape
    constants = _constants(graph, matrix.name)
    has = ir.has(matrix.name)
    written = {name: ir.write(name, ()) for name in constants} if has else _write(matrix.name, parts, ir)
    for name, constant in constants.items():
        _replace(constant, of_bytes(written[name], constant, [rows, *list(constant.get_output_shape(0))[1:]]))
    for op in graph.get_ops():
        if op.get_type_name() == "Reshape":  # of groups to rows
            shape = op.input_value(1).get_node()
            _replace(shape, ops.constant([rows, columns], shape.get_element_type(), name=shape.get_friendly_name()))
    graph.validate_nodes_and_infer_types()
    return _weight_of(graph)


def _as_stored(matrix: Tensor, ir: IrWriter) -> Node:
    """A matrix written to the IR's file in the checkpoint's own dtype, a few rows in memory at a time."""
    like = _node(matrix.rows(0, 1))
    constant = like if like.get_type_name() == "Constant" else like.input_value(0).get_node()
    data = ir.write(matrix.name, (rows.data for rows in blocks(matrix, quantise.BLOCK)))
    kept = of_bytes(data, constant, matrix.shape)
    return kept if kept.get_element_type() == Type.f32 else ops.convert(kept, "f32")


def _write(weight: str, parts: Iterable[Part], ir: IrWriter) -> dict[str, Any]:
    """The bytes of all parts in the IR's file, by the names of their constants: the weights as they come, what groups
    of them share afterwards."""
    shared: dict[str, list[Any]] = {}

    def weights() -> Iterator[Any]:
        for part in parts:
            yield part.pop(weight)
            for name, data in part.items():
                shared.setdefault(name, []).append(data.copy())

    written = {weight: ir.write(weight, weights())}
    return written | {name: ir.write(name, data) for name, data in shared.items()}


def _fitted(matrix: Rows, mode: str, options: Mapping[str, Any]) -> Iterator[Part]:
    """The parts of a matrix by NNCF's methods that need data."""
    for rows in blocks(matrix, BLOCK // WITH_DATA if options.get("scale_estimation") else BLOCK):
        graph = compressed_alone(_node(rows), mode, options)
        yield {name: constant.data for name, constant in _constants(graph, matrix.name).items()}


def _constants(model: Model, name: str) -> dict[str, Node]:
    """The compressed weight, its scale and its zero point, by name."""
    names = (name, name + "/scale", name + "/zero_point")
    return {op.get_friendly_name(): op for op in model.get_ops() if op.get_friendly_name() in names}


def _replace(old: Node, new: Node) -> None:
    for reader in old.output(0).get_target_inputs():
        reader.replace_source_output(new.output(0))


def _node(tensor: Tensor) -> Node:
    node = Constant(as_openvino(tensor), shared_memory=tensor.mappable)
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
