"""Weight files of a quantised checkpoint: each quantised module is one matrix under the name of its weight.

A module's tensors may lie in several files. Modules without such tensors are read as they are.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np

from ...errors import CheckpointError
from ...text import quoted
from ..files.safetensors_file import SafetensorsFile
from ..files.weight_file import TensorEntry
from ..tensor import Tensor
from .awq import read_awq
from .bitsandbytes import KINDS, read_bitsandbytes
from .config import Quantization
from .gptq import read_gptq
from .layout import Array, QuantizedMatrix, RowReader
from .module import ModuleTensors
from .scaled import read_packed, read_scaled

_SUFFIXES = (  # of a quantised module's tensors; the first three are its codes
    *("qweight", "weight_packed", "weight"),
    *("qzeros", "scales", "g_idx", "weight_scale", "weight_scale_inv", "weight_zero_point", "weight_shape"),
    *("weight_g_idx", "SCB", "weight_format", "weight.absmax", "weight.quant_map", "weight.nested_absmax"),
    *("weight.nested_quant_map", *(f"weight.quant_state.bitsandbytes__{kind}" for kind in KINDS)),
    *("input_scale", "input_zero_point", "output_scale", "output_zero_point", "activation_scale"),  # of activations
)
_CODES = _SUFFIXES[:3]
_CODE_DTYPES = ("I8", "U8", "F8_E4M3", "F8_E5M2")  # of `weight` where it is quantised
_CACHE_SCALES = (".k_scale", ".v_scale", ".q_scale")  # of an FP8 KV cache, whose precision is chosen at run time
_GATE, _UP, _JOINED = (
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.gate_up_proj",
)  # GPTQModel quantises gate and up by themselves


@dataclass(frozen=True, slots=True)
class QuantizedFile:
    """A safetensors file whose quantised modules are matrices. It is the file of those whose codes it has."""

    file: SafetensorsFile
    entries: Mapping[str, TensorEntry]
    matrices: Mapping[str, QuantizedMatrix]

    @property
    def path(self) -> Path:
        """The file's path."""
        return self.file.path

    @property
    def size(self) -> int:
        """Bytes."""
        return self.file.size

    def require_supported(self, entry: TensorEntry) -> None:
        """Raise CheckpointError if a tensor that is not quantised has an unsupported dtype."""
        if entry.name not in self.matrices:
            self.file.require_supported(entry)

    def require_contiguous(self) -> None:
        """Raise CheckpointError if any bytes belong to no tensor."""
        self.file.require_contiguous()

    def tensor(self, entry: TensorEntry, name: str) -> Tensor:
        """Return the tensor under the canonical `name`; a quantised one decodes the rows that are read."""
        if (matrix := self.matrices.get(entry.name)) is None:
            return self.file.tensor(entry, name)
        layout, records = matrix.layout, cast(Array, matrix.records())
        return Tensor(name, matrix.shape, "f32", records, layout.decode, matrix.format, layout, tuple(matrix.parts))

    def release(self) -> None:
        """Return mapped pages to the system."""
        self.file.release()

    def require_unchanged(self) -> None:
        """Raise CheckpointError if an unmapped file has been written to since it was opened."""
        self.file.require_unchanged()

    def sha256(self) -> str:
        """Return the hash of the whole file, in hexadecimal."""
        return self.file.sha256()


def quantized_files(files: Sequence[SafetensorsFile], quantization: Quantization) -> list[QuantizedFile]:
    """Return the files with a matrix for each quantised module. Raises CheckpointError for modules that are incomplete
    or of an unsupported format."""
    modules = _find_modules(files)
    found = {name: (_file_of_codes(module), _read(module, quantization)) for name, module in modules.items()}
    for gate in [name for name in found if name.endswith(_GATE)]:
        if (up := gate.removesuffix(_GATE) + _UP) in found:
            file, first = found.pop(gate)
            _, second = found.pop(up)
            found[gate.removesuffix(_GATE) + _JOINED] = (file, _join_rows(modules[gate], first, second))
    hidden = {entry.name for module in modules.values() for _, entry in module.entries.values()}
    result = []
    for file in files:
        matrices = {f"{name}.weight": matrix for name, (place, matrix) in found.items() if place is file}
        plain = {
            name: entry
            for name, entry in file.entries.items()
            if name not in hidden and not name.endswith(_CACHE_SCALES)
        }
        quantised = {name: TensorEntry(name, matrix.format, matrix.shape, 0, 0) for name, matrix in matrices.items()}
        result.append(QuantizedFile(file, plain | quantised, matrices))
    return result


def _find_modules(files: Sequence[SafetensorsFile]) -> dict[str, ModuleTensors]:
    """Return the quantised modules by name: those that have codes."""
    tensors: dict[str, dict[str, tuple[SafetensorsFile, TensorEntry]]] = defaultdict(dict)
    for file in files:
        for name, entry in file.entries.items():
            for suffix in _SUFFIXES:
                if name.endswith(f".{suffix}"):
                    module = tensors[name.removesuffix(f".{suffix}")]
                    if suffix in module:
                        raise CheckpointError(
                            f"{quoted(name)} is both in {module[suffix][0].path.name} and in {file.path.name}",
                            hint="remove the weight files that do not belong to this checkpoint",
                        )
                    module[suffix] = (file, entry)
    return {
        name: ModuleTensors(name, entries)
        for name, entries in tensors.items()
        if "qweight" in entries
        or "weight_packed" in entries
        or ("weight" in entries and (entries["weight"][1].dtype in _CODE_DTYPES or "weight.absmax" in entries))
    }


def _file_of_codes(module: ModuleTensors) -> SafetensorsFile:
    return next(module.entries[suffix][0] for suffix in _CODES if suffix in module)


def _read(module: ModuleTensors, quantization: Quantization) -> QuantizedMatrix:
    if "qweight" in module:
        return (read_awq if quantization.method == "awq" else read_gptq)(module, quantization)
    if "weight_packed" in module:
        return read_packed(module, quantization)
    if "weight.absmax" in module or module.dtype("weight") == "U8":
        return read_bitsandbytes(module)
    return read_scaled(module, quantization)


def _join_rows(module: ModuleTensors, first: QuantizedMatrix, second: QuantizedMatrix) -> QuantizedMatrix:
    """Return the rows of two matrices as one. Raises CheckpointError if their layouts differ."""
    layout = first.layout
    if layout.zero != second.layout.zero:
        layout = replace(layout, zero=None)
    if layout != replace(second.layout, zero=layout.zero) or not _equal(layout.index, second.layout.index):
        raise module.invalid(f"its layout is not that of {_UP}, with which it is one matrix")

    def open_both() -> RowReader:
        readers = first.open(), second.open()

        def read(begin: int, end: int) -> Array:
            middle = first.rows
            if begin == end:
                return np.empty(0, layout.record)
            parts = (readers[0], begin, min(end, middle)), (readers[1], max(begin, middle) - middle, end - middle)
            return np.concatenate([reader(low, high) for reader, low, high in parts if low < high])

        return read

    return QuantizedMatrix(first.format, first.rows + second.rows, layout, [*first.parts, *second.parts], open_both)


def _equal(first: Array | None, second: Array | None) -> bool:
    return (first is None and second is None) or (
        first is not None and second is not None and np.array_equal(first, second)
    )
