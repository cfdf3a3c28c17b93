"""A checkpoint's weights, compressed by NNCF one at a time.

Each matrix goes to NNCF by itself. Without data and with a ratio of 1, NNCF's result depends on nothing but the matrix,
so it is bit for bit that of compressing the whole decoder, while only some rows have to be in memory. With a lower
ratio, `sensitivity.py` has found the sensitive matrices before. In the whole decoder, NNCF would also round RoPE's
frequencies to int8.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from openvino import Model, Node, Type
from openvino import opset13 as ops
from openvino.op import Constant

from runtime.checkpoint.tensors import Tensor
from runtime.system.native_effects import trim_heap

from ..graph import EMBEDDING, HEAD, as_openvino, uncompressed_weights
from ..output.ir_writer import IrWriter, constant_over
from ..recipe import MatrixKind, Recipe
from . import nncf
from .block_gptq import BlockHessian, fitted_rows
from .nncf import CompressedBlock, MatrixRows, compress_matrix, compress_rows, compressed_constants, row_blocks
from .stored import stored_form, write_stored

CALIBRATED_BLOCK = 1 << 26  # weights that NNCF's data-aware methods get at a time
SCALE_ESTIMATION_FACTOR = 4  # the memory of scale estimation, in multiples of the other methods'
_KINDS: dict[str, MatrixKind] = {EMBEDDING: "embedding", HEAD: "head"}
_PLACEHOLDER = "any matrix"  # a name to be replaced
_TRIM_BYTES = 1 << 29  # read before freed memory is returned: the heap would grow by 50 MB a layer of 9B


@dataclass(frozen=True, slots=True)
class CompressedWeight:
    """A weight of the IR: `node` yields it in f32. `nbytes` is its size in the checkpoint.

    `note` describes how its compression differs from the recipe, whose group size does not divide its columns.
    """

    name: str
    node: Node
    nbytes: int
    note: str = ""


class WeightSource(Protocol):
    """Weights by name: an open checkpoint, or an ONNX graph."""

    @property
    def names(self) -> tuple[str, ...]:
        """Canonical names, in the order in which they are compressed."""
        ...

    def tensor(self, name: str) -> Tensor:
        """Return the tensor of that name."""
        ...

    def release(self) -> None:
        """Return the memory of tensors that were read."""
        ...


class CalibrationInputs(Protocol):
    """Each matrix's inputs for the calibration texts, as the data-aware methods need them."""

    def prepare(self, tensor: Tensor) -> tuple[MatrixRows, dict[str, Any]]:
        """Return the matrix to compress and NNCF's options for its inputs."""
        ...

    def hessian(self, name: str) -> BlockHessian:
        """Return the Hessian of the inputs of the matrix of this name."""
        ...


class TensorCheck(Protocol):
    """A check of each weight before it is compressed."""

    def check(self, tensor: Tensor) -> None:
        """Raise CheckpointError or VerificationError for a damaged tensor."""
        ...


def matrix_kind(name: str) -> MatrixKind:
    """Return whether the matrix of this canonical name is the embedding, the head, or a linear layer."""
    return _KINDS.get(name, "linear")


def compress(
    checkpoint: WeightSource,
    recipe: Recipe,
    ir: IrWriter,
    sensitive: Collection[str] = (),
    activations: CalibrationInputs | None = None,
    *,
    damage: TensorCheck | None = None,
    uncompressed: Collection[str] = (),
) -> Iterator[CompressedWeight]:
    """Compress every weight of the checkpoint into the IR's file, in the order of its names.

    Norms and biases stay exact, in f32, and the tensors named in `uncompressed` in the checkpoint's dtype; matrices
    named in `sensitive` become int8. A data-aware recipe needs
    `activations`. Weights that an interrupted conversion has finished are not compressed again. Raises what `damage`
    raises.
    """
    exact, graphs, read = uncompressed_weights(checkpoint), _GraphTemplates(), 0
    for name in checkpoint.names:
        tensor = checkpoint.tensor(name)
        if damage and not ir.is_finished(name):
            damage.check(tensor)
        if len(tensor.shape) == 1:
            node, note = ir.store_constants(exact(name)), ""
        elif name in uncompressed:
            node, note = _write_uncompressed(tensor, ir), ""
        else:
            node, note = _compress_tensor(
                tensor, recipe, ir, graphs, sensitive=name in sensitive, activations=activations
            )
        ir.finish(name)
        checkpoint.release()
        read += tensor.nbytes
        if read >= _TRIM_BYTES:
            trim_heap()
            read = 0
        yield CompressedWeight(name, node, tensor.nbytes, note)


def _compress_tensor(
    tensor: Tensor,
    recipe: Recipe,
    ir: IrWriter,
    graphs: "_GraphTemplates",
    *,
    sensitive: bool,
    activations: CalibrationInputs | None,
) -> tuple[Node, str]:
    """Return the node of a matrix that is compressed into the IR's file, and the note on it."""
    kind = matrix_kind(tensor.name)
    mode, outer = recipe.mode(kind, sensitive=sensitive), kind != "linear"
    if mode is None:
        return _write_uncompressed(tensor, ir), ""
    if recipe.keep_blocks and (stored := stored_form(tensor)):
        return write_stored(tensor, stored, ir), ""
    options = {} if mode.startswith("int8") else nncf.matrix_options(recipe)
    form, group_size = recipe.mode_and_group(tensor.shape[1], kind=kind, sensitive=sensitive)
    matrix: MatrixRows = tensor
    data: Mapping[str, Any] = {}
    inputs = None if ir.is_finished(tensor.name) else activations
    if inputs and options and not outer and not recipe.block_gptq:
        matrix, data = inputs.prepare(tensor)
    if data:
        blocks = _calibrated_blocks(matrix, mode, {**options, **data})
    elif inputs and recipe.block_gptq and form == "int4_sym":
        blocks = fitted_rows(matrix, inputs.hessian(tensor.name), group_size)
    else:
        blocks = compress_rows(matrix, form or mode, group_size)
    node = _write_compressed(matrix, graphs.instantiate(matrix, mode, options), blocks, ir)
    if recipe.keep_blocks:
        return node, f"{mode}, since OpenVINO has no {tensor.quantization or tensor.dtype} in groups"
    return node, "" if outer or sensitive else recipe.fallback_note(tensor.shape[1])


class _GraphTemplates:
    """NNCF's graph of a compressed matrix, made once from two rows for all matrices of the same mode and width."""

    def __init__(self) -> None:
        self._made: dict[tuple[Any, ...], Model] = {}

    def instantiate(self, matrix: MatrixRows, mode: str, options: Mapping[str, Any]) -> Model:
        """Return a copy of the graph with the matrix's own names."""
        part = matrix.rows(0, 2)
        kind = (mode, part.shape, part.dtype)
        if kind not in self._made:
            self._made[kind] = compress_matrix(_tensor_node(replace(part, name=_PLACEHOLDER)), mode, options)
        graph = self._made[kind].clone()
        for op in graph.get_ops():
            op.set_friendly_name(op.get_friendly_name().replace(_PLACEHOLDER, matrix.name))
        return graph


def _write_compressed(matrix: MatrixRows, graph: Model, parts: Iterable[CompressedBlock], ir: IrWriter) -> Node:
    """Write the compressed blocks of a matrix to the IR's file, and return the node that yields the matrix in f32."""
    rows, columns = matrix.shape
    constants = compressed_constants(graph, matrix.name)
    has = ir.is_finished(matrix.name)
    written = {name: ir.write(name, ()) for name in constants} if has else _write_blocks(matrix.name, parts, ir)
    for name, constant in constants.items():
        _replace(constant, constant_over(written[name], constant, [rows, *list(constant.get_output_shape(0))[1:]]))
    for op in graph.get_ops():
        if op.get_type_name() == "Reshape":  # of groups to rows
            shape = op.input_value(1).get_node()
            _replace(shape, ops.constant([rows, columns], shape.get_element_type(), name=shape.get_friendly_name()))
    graph.validate_nodes_and_infer_types()
    return _matmul_weight(graph)


def _write_uncompressed(matrix: Tensor, ir: IrWriter) -> Node:
    """Write a matrix to the IR's file in the checkpoint's dtype, a few rows in memory at a time."""
    like = _tensor_node(matrix.rows(0, 1))
    constant = like if like.get_type_name() == "Constant" else like.input_value(0).get_node()
    data = ir.write(matrix.name, (rows.data for rows in row_blocks(matrix, nncf.BLOCK)))
    kept = constant_over(data, constant, matrix.shape)
    return kept if kept.get_element_type() == Type.f32 else ops.convert(kept, "f32")


def _write_blocks(weight: str, parts: Iterable[CompressedBlock], ir: IrWriter) -> dict[str, Any]:
    """Write a matrix's blocks to the IR's file: the weights as they come, scales and zero points after them. Return the
    bytes by the names of their constants."""
    shared: dict[str, list[Any]] = {}

    def weights() -> Iterator[Any]:
        for part in parts:
            yield part.pop(weight)
            for name, data in part.items():
                shared.setdefault(name, []).append(data.copy())

    written = {weight: ir.write(weight, weights())}
    return written | {name: ir.write(name, data) for name, data in shared.items()}


def _calibrated_blocks(matrix: MatrixRows, mode: str, options: Mapping[str, Any]) -> Iterator[CompressedBlock]:
    """Compress a matrix by NNCF's data-aware methods, block by block."""
    for rows in row_blocks(
        matrix, CALIBRATED_BLOCK // SCALE_ESTIMATION_FACTOR if options.get("scale_estimation") else CALIBRATED_BLOCK
    ):
        graph = compress_matrix(_tensor_node(rows), mode, options)
        yield {name: constant.data for name, constant in compressed_constants(graph, matrix.name).items()}


def _replace(old: Node, new: Node) -> None:
    for reader in old.output(0).get_target_inputs():
        reader.replace_source_output(new.output(0))


def _tensor_node(tensor: Tensor) -> Node:
    node = Constant(as_openvino(tensor), shared_memory=tensor.mappable)
    node.set_friendly_name(tensor.name)
    return node if tensor.dtype == "f32" else ops.convert(node, "f32")


def _matmul_weight(model: Model) -> Node:
    (matmul,) = (op for op in model.get_ops() if op.get_type_name() == "MatMul")
    return matmul.input_value(1).get_node()
