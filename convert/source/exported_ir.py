"""An IR that another program exported: its inputs, its sizes, the program that made it."""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import openvino as ov
from openvino import Node

from runtime.backends.openvino.genai import error_line
from runtime.checkpoint.architecture import Architecture
from runtime.errors import ConversionError
from runtime.folder.ir import IR, IR_FILE, WeightMatrix
from runtime.folder.manifest import ModelSizes
from runtime.text import one_line, quoted
from runtime.version import VERSION

from ..check.decompress import DECOMPRESSION_OPS
from ..check.ir_weights import is_constant, read_ir

_REQUIRED, _OPTIONAL = {"input_ids", "attention_mask"}, {"position_ids", "beam_idx"}
_EXPORT_AGAIN = "export it again: optimum-cli export openvino --task text-generation-with-past"
_DOWNLOAD_AGAIN = "download the file again; from a git repository: git lfs pull"
_OTHER_PARTS = ("openvino_language_model.xml", "openvino_vision_embeddings_model.xml")
_MAKERS = {  # paths in the IR's rt_info, by the names of the packages
    "optimum-intel": ["optimum", "optimum_intel_version"],
    "transformers": ["optimum", "transformers_version"],
    "nncf": ["nncf", "version"],
    "openvino": ["Runtime_version"],
}
_ACTIVATION_SCALE = ["runtime_options", "ACTIVATIONS_SCALE_FACTOR"]


@dataclass(frozen=True, slots=True)
class ExportedIr:
    """An IR of somebody else's: its facts, and its graph."""

    facts: IR
    model: ov.Model

    @classmethod
    def open(cls, folder: Path) -> "ExportedIr":
        """Read the IR of a folder. Raises ConversionError if it is missing, cut short, or takes other inputs than a
        text model's with its KV cache in states; ModelFolderError if its XML is damaged."""
        path = folder / IR_FILE
        if not path.is_file():
            if any((folder / name).is_file() for name in _OTHER_PARTS):
                raise ConversionError(
                    f"{folder} is the export of a vision model, which is not supported", hint="adopt a text model"
                )
            raise ConversionError(
                f"{folder} has no {IR_FILE}: it is not an OpenVINO folder",
                hint="`edge convert CHECKPOINT FOLDER` converts a checkpoint",
            )
        facts = IR.read_file(path)
        weights = path.with_suffix(".bin")
        size = weights.stat().st_size if weights.is_file() else 0
        if size < facts.bin_bytes:
            raise ConversionError(
                f"{weights} has {size:,} bytes, but its graph reads {facts.bin_bytes:,}", hint=_DOWNLOAD_AGAIN
            )
        _require_inputs(folder, facts)
        try:
            return cls(facts, read_ir(path))
        except RuntimeError as exc:
            raise ConversionError(f"OpenVINO cannot read {path}: {error_line(exc)}", hint=_DOWNLOAD_AGAIN) from exc

    def sizes(self, a: Architecture) -> ModelSizes:
        """Return the sizes of the IR, whose dimensions are the architecture's."""
        constants = [op for op in self.model.get_ops() if is_constant(op)]
        return ModelSizes(
            weights=sum(op.get_byte_size() for op in constants),
            embedding_bytes=sum(op.get_byte_size() for op in constants if set(_readers(op)) == {"Gather"}),
            largest=max(op.get_byte_size() for op in constants),
            groups=sum(map(_count_groups, constants)),
            layers=a.layers,
            hidden=a.hidden,
            ffn=a.ffn,
            vocab=a.vocab,
            kv_heads=a.kv_heads,
        )

    def layers(self) -> int:
        """Return the number of layers that keep keys and values."""
        return [op.get_type_name() for op in self.model.get_ops()].count("ReadValue") // 2

    def versions(self) -> dict[str, str]:
        """Return the versions of the programs that made the IR, as far as it records them, and of this one."""
        found = {name: self._info(path) for name, path in _MAKERS.items()}
        return {"glm4-edge": VERSION} | {name: value.partition("-")[0] for name, value in found.items() if value}

    def describe(self) -> str:
        """Describe the matrices in a few words: how many there are of each type and group."""
        kinds = Counter(map(_describe_matrix, self.facts.matrices))
        return ", ".join(f"{count} matrices in {kind}" for kind, count in kinds.most_common())

    def guards_activations(self) -> bool:
        """Return whether the IR scales activations, without which f16 on a GPU may overflow."""
        return bool(self._info(_ACTIVATION_SCALE))

    def _info(self, path: list[str]) -> str:
        return one_line(self.model.get_rt_info(path).astype(str), 80) if self.model.has_rt_info(path) else ""


def _require_inputs(folder: Path, facts: IR) -> None:
    """Raise ConversionError unless the IR takes the inputs of a stateful text model."""
    others = sorted(facts.inputs - _REQUIRED - _OPTIONAL)
    if not facts.stateful or any(name.startswith("past_key_values") for name in others):
        raise ConversionError(
            f"{folder} keeps its KV cache outside of the graph, as early exports do", hint=_EXPORT_AGAIN
        )
    if missing := sorted(_REQUIRED - facts.inputs):
        raise ConversionError(f"{folder / IR_FILE} has no input {missing[0]}", hint=_EXPORT_AGAIN)
    if others:
        raise ConversionError(f"{folder / IR_FILE} has the unknown input {quoted(others[0])}", hint=_EXPORT_AGAIN)


def _readers(node: Node) -> Iterator[str]:
    """Yield the types of the operations that read a constant, behind its decompression."""
    for port in node.output(0).get_target_inputs():
        reader = port.get_node()
        kind = str(reader.get_type_name())
        if kind in DECOMPRESSION_OPS:
            yield from _readers(reader)
        else:
            yield kind


def _count_groups(constant: Node) -> int:
    """Return the number of scales of an int4 matrix in groups, whose shape is (rows, groups, columns of a group)."""
    shape = constant.get_output_shape(0)
    in_groups = len(shape) == 3 and constant.get_element_type().to_string() in ("i4", "u4")
    return math.prod(shape[:2]) if in_groups else 0


def _describe_matrix(matrix: WeightMatrix) -> str:
    if matrix.group == 0:
        return matrix.type
    groups = "by row" if matrix.group == -1 else f"in groups of {matrix.group}"
    return f"{matrix.type} {groups}{'' if matrix.symmetric else ' with zero points'}"
