"""An exported GLM decoder in an ONNX file: read by OpenVINO, its weights replaced one at a time, its cache in states.

The layout is that of optimum's exports: inputs input_ids, attention_mask, position_ids and past_key_values.N.key and
.value (B,kv_heads,P,head_dim); outputs logits and present.N.key and .value. The graph stays the exporter's own, its
attention written out in single operations, which OpenVINO's PagedAttention does not recognise.
"""

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino as ov
from openvino import Node, PartialShape, Type
from openvino import opset13 as ops
from openvino.frontend import FrontEndManager
from openvino.op.util import Variable, VariableInfo

from runtime.backends.openvino.genai import error_line
from runtime.checkpoint.architecture import Architecture
from runtime.checkpoint.files.small_files import DOWNLOAD_AGAIN
from runtime.checkpoint.files.unmapped_file import require_unchanged
from runtime.checkpoint.tensors import Dtype, Tensor
from runtime.errors import CheckpointError
from runtime.folder.model_folder import file_sha256
from runtime.text import quoted

from ..graph import EMBEDDING, HEAD, decoder_inputs
from ..weights.compress import CompressedWeight

_DTYPES: dict[Type, tuple[Dtype, Any]] = {
    Type.bf16: ("bf16", np.uint16),
    Type.f16: ("f16", np.float16),
    Type.f32: ("f32", np.float32),
}
_CACHE_INPUT = re.compile(r"past_key_values\.(\d+)\.(key|value)")
_TEXT_INPUTS = {"input_ids", "attention_mask", "position_ids"}
_EXPORT_AGAIN = "export it with its cache: optimum-cli export onnx --task text-generation-with-past"


@dataclass(frozen=True, slots=True)
class _MatrixUse:
    """A matrix and the operation that reads it; `transposed` if it is (in,out)."""

    constant: Node
    reader: Node
    transposed: bool


class OnnxDecoder:
    """A decoder in an ONNX file, with a checkpoint's names and tensors; matrices are (out,in)."""

    def __init__(self, path: Path, architecture: Architecture, model: ov.Model, stamps: "_FileStamps") -> None:
        self.path = path
        self.architecture = architecture
        self._model = model
        self._stamps = stamps
        self._uses = _matrices(model, architecture)

    @classmethod
    def open(cls, path: Path, architecture: Architecture) -> "OnnxDecoder":
        """Read the file. Raise CheckpointError if it is damaged, or not a decoder of this architecture with a cache."""
        core = ov.Core()
        core.set_property({"ENABLE_MMAP": False})  # truncating a mapped file would end the process
        stamps = _file_stamps(path)
        with _map_openvino_errors(path, "read", stamps):
            if not FrontEndManager().load_by_framework("onnx").supported(str(path)):
                raise RuntimeError("it is truncated, or not an ONNX file")  # every other frontend would try, and print
            model = core.read_model(path)
            _validate_interface(path.name, model, architecture)
            return cls(path, architecture, model, stamps)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its matrices, in the decoder's order."""
        return tuple(self._uses)

    def tensor(self, name: str) -> Tensor:
        """Return the matrix of that name, (out,in)."""
        use = self._uses[name]
        dtype, view = _DTYPES[use.constant.get_element_type()]
        data = use.constant.data.view(view)
        data = data.T if use.transposed else data
        return Tensor(name, data.shape, dtype, data)

    def describe_location(self, name: str) -> str:
        """Return the matrix's name and its file, for messages."""
        return f"{name!r} in {self.path.name}"

    def norms(self) -> Iterator[Tensor]:
        """Yield the weights of every norm: the constants by which a hidden state is multiplied."""
        hidden = self.architecture.hidden
        for op in self._model.get_ordered_ops():
            if op.get_type_name() == "Constant" and math.prod(op.get_output_shape(0)) == hidden:
                kind = op.get_element_type()
                if kind in _DTYPES and {node.get_type_name() for node in _consumers(op)} == {"Multiply"}:
                    dtype, view = _DTYPES[kind]
                    yield Tensor(op.get_friendly_name(), (hidden,), dtype, op.data.view(view).reshape(-1))

    def release(self) -> None:
        """Do nothing: the whole file is in memory."""

    def require_unchanged(self) -> None:
        """Raise CheckpointError where a file has been written to since it was opened."""
        _refuse_changed(self.path, self._stamps)

    def replace_weight(self, weight: CompressedWeight) -> None:
        """Replace the matrix of that name by a compressed weight."""
        use = self._uses[weight.name]
        old = use.reader
        if old.get_type_name() == "Gather":
            old.input(0).replace_source_output(weight.node.output(0))
            return
        new = ops.matmul(old.input_value(0), weight.node, bool(old.get_attributes()["transpose_a"]), True)
        new.set_friendly_name(old.get_friendly_name())
        new.output(0).set_names(old.output(0).get_names())
        for reader in old.output(0).get_target_inputs():
            reader.replace_source_output(new.output(0))

    def stateful(self) -> ov.Model:
        """Return the graph with its cache in states, reordered by an input beam_idx, as GenAI expects it. Call once."""
        with _map_openvino_errors(self.path, "make states in", self._stamps):
            return self._stateful()

    def _stateful(self) -> ov.Model:
        model, a = self._model, self.architecture
        beam = ops.parameter(PartialShape([-1]), Type.i32, name="beam_idx")
        beam.output(0).set_names({"beam_idx"})
        ids = model.input("input_ids").get_node()
        batch = ops.gather(ops.shape_of(ids), ops.constant(np.array([0])), ops.constant(np.int64(0)))
        shape = ops.concat([batch, ops.constant(np.array([a.kv_heads, 0, a.head_dim]))], 0)
        results = {name: result for result in model.get_results() for name in result.output(0).get_names()}
        for past in list(model.get_parameters()):
            found = _CACHE_INPUT.fullmatch(past.output(0).get_any_name())
            if not found:
                continue
            name = f"present.{found[1]}.{found[2]}"
            info = VariableInfo()
            info.variable_id = f"{found[0]}{name}"
            info.data_shape, info.data_type = PartialShape([-1, a.kv_heads, -1, a.head_dim]), past.get_element_type()
            variable = Variable(info)
            empty = ops.broadcast(ops.convert(ops.constant(np.float32(0)), past.get_element_type()), shape)
            state = ops.gather(ops.read_value(empty, variable), beam, ops.constant(np.int64(0)))
            for reader in past.output(0).get_target_inputs():
                reader.replace_source_output(state.output(0))
            model.add_sinks([ops.assign(results[name].input_value(0).get_node(), variable)])
            model.remove_result(results[name])
            model.remove_parameter(past)
        model.add_parameters([beam])
        model.validate_nodes_and_infer_types()
        # As in our own graph: f16 on a GPU overflows without it.
        model.set_rt_info("8.0", ["runtime_options", "ACTIVATIONS_SCALE_FACTOR"])
        return model

    def logits(self, token_ids: Sequence[npt.NDArray[Any]]) -> list[npt.NDArray[np.float32]]:
        """Return the file's own logits for texts of T token ids each: (T,vocab). Call it before `replace_weight`; the
        file is loaded whole, in f32."""
        model = self._model
        with _map_openvino_errors(self.path, "run", self._stamps):
            compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
            request, found = compiled.create_infer_request(), []
            for ids in token_ids:
                inputs = decoder_inputs(model, ids)
                for name in {i.get_any_name() for i in model.inputs} - inputs.keys():
                    element = model.input(name).get_element_type().to_dtype()
                    inputs[name] = np.zeros((1, self.architecture.kv_heads, 0, self.architecture.head_dim), element)
                found.append(np.array(request.infer(inputs)["logits"][0], np.float32))
            return found

    def fingerprint(self) -> str:
        """Return a sha256 over those of the file and of the files that contain its weights."""
        digest = sha256()
        for path in weight_files(self.path):
            digest.update(f"{path.name} {file_sha256(path)}\n".encode())
        return digest.hexdigest()


@contextmanager
def _map_openvino_errors(path: Path, what: str, stamps: "_FileStamps") -> Iterator[None]:
    """Raise CheckpointError for OpenVINO's errors about a file: it is damaged, or names in it are not UTF-8."""
    try:
        yield
    except (RuntimeError, UnicodeDecodeError) as exc:
        _refuse_changed(path, stamps)
        raise CheckpointError(f"OpenVINO cannot {what} {path.name}: {error_line(exc)}", hint=DOWNLOAD_AGAIN) from exc


def find_onnx_file(source: Path) -> Path | None:
    """Return the decoder's file, if `source` is one or is a folder without other weights."""
    if source.suffix == ".onnx":
        return source
    if not source.is_dir() or any(source.glob("*.safetensors")):
        return None
    found = sorted([*source.glob("*.onnx"), *source.glob("onnx/*.onnx")])
    named = [path for path in found if path.name in ("model.onnx", "decoder_with_past_model.onnx")]
    return next(iter(named or found), None)


def weight_files(path: Path) -> list[Path]:
    """Return the file and those beside it that contain its weights, by the exporters' names."""
    return sorted(file for file in path.parent.glob(f"{path.name}*") if file.is_file())


_FileStamps = dict[str, tuple[int, int]]  # size and time of change of each file, by name


def _file_stamps(path: Path) -> "_FileStamps":
    found = {file.name: file.stat() for file in weight_files(path)}
    return {name: (status.st_size, status.st_mtime_ns) for name, status in found.items()}


def _refuse_changed(path: Path, stamps: "_FileStamps") -> None:
    now = _file_stamps(path)
    for name, stamp in stamps.items():
        require_unchanged(name, stamp, now.get(name, (0, 0)))


def _validate_interface(file: str, model: ov.Model, a: Architecture) -> None:
    inputs = {i.get_any_name(): i.get_partial_shape() for i in model.inputs}
    cache = {name for name in inputs if _CACHE_INPUT.fullmatch(name)}
    wanted = {f"past_key_values.{layer}.{kind}" for layer in range(a.layers) for kind in ("key", "value")}
    if not cache:
        raise CheckpointError(f"{file} has no inputs past_key_values.N.key and .value", hint=_EXPORT_AGAIN)
    if cache != wanted or not {"input_ids", "attention_mask"} <= inputs.keys():
        raise CheckpointError(
            f"{file} has a cache for {len(cache) / 2:g} layers, but config.json has {a.layers} layers",
            hint="use the config.json of the exported model",
        )
    if others := sorted(inputs.keys() - cache - _TEXT_INPUTS):
        raise CheckpointError(f"{file} has the unknown input {quoted(others[0])}", hint=_EXPORT_AGAIN)
    outputs = {name for output in model.outputs for name in output.get_names()}
    if missing := sorted({"logits", *(name.replace("past_key_values", "present") for name in wanted)} - outputs):
        raise CheckpointError(f"{file} has no output {missing[0]!r}", hint=_EXPORT_AGAIN)
    for name in sorted(cache):
        if not inputs[name].compatible(PartialShape([-1, a.kv_heads, -1, a.head_dim])):
            raise CheckpointError(
                f"{file}: {name} has the shape {inputs[name]}, not (batch,{a.kv_heads},tokens,{a.head_dim})",
                hint="use the config.json of the exported model",
            )


def _consumers(node: Node) -> Iterator[Node]:
    """Yield the operations that read a node, behind conversions of precision."""
    for port in node.output(0).get_target_inputs():
        reader = port.get_node()
        yield from _consumers(reader) if reader.get_type_name() == "Convert" else [reader]


def _matrices(model: ov.Model, a: Architecture) -> dict[str, _MatrixUse]:
    """Return the matrices of Gathers and MatMuls in the decoder's order: the embedding and the head under their
    canonical names, the others under the file's."""
    found: dict[str, _MatrixUse] = {}
    for use in _matrix_uses(model):
        rows = use.constant.get_output_shape(0)[1 if use.transposed else 0]
        end = EMBEDDING if use.reader.get_type_name() == "Gather" else HEAD
        found[end if rows == a.vocab else use.constant.get_friendly_name()] = use
    for name in (EMBEDDING, HEAD):
        if name not in found:
            raise CheckpointError(
                f"the ONNX graph has no matrix of {a.vocab:,} rows for {name}",
                hint="use the config.json of the exported model; quantised exports are not supported",
            )
    return found


def _matrix_uses(model: ov.Model) -> Iterator[_MatrixUse]:
    for op in model.get_ordered_ops():
        kind = op.get_type_name()
        if kind not in ("MatMul", "Gather"):
            continue
        node = op.input_value(0 if kind == "Gather" else 1).get_node()
        transposed = kind == "MatMul" and not op.get_attributes()["transpose_b"]
        while node.get_type_name() in ("Convert", "Transpose"):
            transposed ^= node.get_type_name() == "Transpose"
            node = node.input_value(0).get_node()
        if (
            node.get_type_name() == "Constant"
            and len(node.get_output_shape(0)) == 2
            and node.get_element_type() in _DTYPES
        ):
            yield _MatrixUse(node, op, transposed)
