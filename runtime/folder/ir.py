"""Facts about an IR, read from its XML without an engine: its weights, its inputs, and whether it fits an NPU."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from xml.etree import ElementTree

from ..errors import ModelFolderError
from ..text import one_line
from .ir_files import DECODER, LANGUAGE
from .model_folder import CONVERT_AGAIN, ModelFolder

IR_FILE = f"{DECODER}.xml"
NPU_GROUPS = (-1, 128)
NPU_HINT = "convert the checkpoint with --recipe int4-npu"
_NPU_INPUTS = {"input_ids", "attention_mask", "position_ids"}
_DECOMPRESSION_OPS = {
    "Convert",
    "Multiply",
    "Subtract",
    "Reshape",
}  # operations that NNCF inserts between a weight and its MatMul


@dataclass(frozen=True, slots=True)
class WeightMatrix:
    """The weight of a MatMul.

    `matmul` is the name of the MatMul, `shape` the weight's rows and columns. `group` is the number of columns of a row
    that share a scale: -1 for all of them, 0 if the matrix is not compressed. A `symmetric` matrix has no zero points.
    """

    name: str
    type: str
    group: int
    symmetric: bool
    matmul: str = ""
    shape: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class IR:
    """A decoder's graph. `matrices` are in the decoder's order, the head last; `largest_constant` is in bytes.

    A `stateful` IR keeps its KV cache itself. `has_sdpa` is False if attention is spelled out in single operations.
    `bin_bytes` is the size of the .bin, as far as the graph reads it.
    """

    inputs: frozenset[str]
    matrices: tuple[WeightMatrix, ...]
    largest_constant: int
    stateful: bool
    has_sdpa: bool = True
    bin_bytes: int = 0

    @classmethod
    def read(cls, folder: ModelFolder) -> "IR":
        """Read the IR of a model folder's decoder. Raises ModelFolderError if the XML is not one."""
        name = f"{LANGUAGE}.xml" if folder.manifest.vision else IR_FILE
        return cls.read_file(folder.path / name)

    @classmethod
    def read_file(cls, path: Path) -> "IR":
        """Read the IR at `path`. Raises ModelFolderError if the XML is not one."""
        try:
            return _XMLGraph(path).ir()
        except (OSError, ElementTree.ParseError, ValueError, KeyError, AttributeError) as exc:
            raise ModelFolderError(f"{path} is not an IR: {one_line(repr(exc))}", hint=CONVERT_AGAIN) from exc

    def npu_obstacles(self) -> tuple[str, ...]:
        """Return why the IR would not run, or not run well, on an NPU; () if it fits.

        Intel requires symmetric int4 throughout (ratio 1.0), in groups of 128 or by row, or NF4 by row, in a stateful
        model:
        https://docs.openvino.ai/2026/openvino-workflow-generative/inference-with-genai/inference-with-genai-on-npu.html
        """
        found = []
        if not self.stateful:
            found.append("its KV cache is not in the graph (not stateful)")
        if not self.has_sdpa:  # the emulation answers "!!!!": the mask overflows in f16
            found.append("its attention is written out in single operations, as in an ONNX file")
        if missing := sorted(_NPU_INPUTS - self.inputs):
            found.append(f"it has no input {', '.join(missing)}")
        decoder = self.matrices[:-1]
        int4 = [matrix for matrix in decoder if matrix.type in ("i4", "u4", "nf4")]
        if len(int4) < len(decoder) or not decoder:
            others = Counter(matrix.type for matrix in decoder if matrix not in int4)
            types = ", ".join(f"{count} in {name}" for name, count in others.items())
            found.append(f"{len(int4)} of the decoder's {len(decoder)} matrices are int4 ({types}), not all: ratio 1.0")
        if asymmetric := sum(not matrix.symmetric for matrix in int4):
            found.append(f"{asymmetric} int4 matrices have zero points, none may: symmetric")
        if groups := sorted({matrix.group for matrix in int4 if matrix.type != "nf4"} - set(NPU_GROUPS)):
            found.append(f"int4 in groups of {', '.join(map(str, groups))}, not of 128 or by row")
        if groups := sorted({matrix.group for matrix in int4 if matrix.type == "nf4"} - {-1}):
            found.append(f"NF4 in groups of {', '.join(map(str, groups))}, not by row")
        return tuple(found)


class _XMLGraph:
    """The XML's layers by id, and the layer that feeds each input."""

    def __init__(self, path: Path) -> None:
        root = ElementTree.parse(path).getroot()
        self._layers = {layer.attrib["id"]: layer for layer in root.iterfind("layers/layer")}
        if not self._layers:
            raise ValueError("it has no layers")
        self._sources = {
            (edge.attrib["to-layer"], edge.attrib["to-port"]): edge.attrib["from-layer"]
            for edge in root.iterfind("edges/edge")
        }

    def ir(self) -> IR:
        kinds: dict[str, list[ElementTree.Element]] = {}
        for layer in self._layers.values():
            kinds.setdefault(layer.attrib["type"], []).append(layer)
        constants = [_data_attributes(layer) for layer in kinds["Const"]]
        return IR(
            inputs=frozenset(layer.attrib["name"] for layer in kinds.get("Parameter", [])),
            matrices=tuple(self._matrices(kinds.get("MatMul", []))),
            largest_constant=max(int(data["size"]) for data in constants),
            stateful="ReadValue" in kinds,
            has_sdpa="ScaledDotProductAttention" in kinds,
            bin_bytes=max(int(data["offset"]) + int(data["size"]) for data in constants),
        )

    def _matrices(self, matmuls: list[ElementTree.Element]) -> Iterator[WeightMatrix]:
        for matmul in matmuls:
            path = list(self._trace_weight(matmul.attrib["id"]))
            weight = path[-1]
            if weight.attrib["type"] == "Const":
                data, kinds = _data_attributes(weight), {layer.attrib["type"] for layer in path}
                shape = data["shape"].split(",")
                group = 0 if "Multiply" not in kinds else int(shape[-1]) if len(shape) == 3 else -1
                sizes = [int(size) for size in shape]
                yield WeightMatrix(
                    weight.attrib["name"],
                    data["element_type"],
                    group,
                    "Subtract" not in kinds,
                    matmul.attrib["name"],
                    (sizes[0], prod(sizes[1:])),
                )

    def _trace_weight(self, layer: str) -> Iterator[ElementTree.Element]:
        """Yield the layers from a MatMul's second input back to the constant."""
        layer = self._sources[layer, "1"]
        while True:
            yield self._layers[layer]
            if self._layers[layer].attrib["type"] not in _DECOMPRESSION_OPS:
                return
            layer = self._sources[layer, "0"]


def _data_attributes(layer: ElementTree.Element) -> dict[str, str]:
    found = layer.find("data")
    if found is None:
        raise ValueError("a constant has no data")
    return found.attrib
