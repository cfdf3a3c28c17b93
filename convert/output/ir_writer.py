"""A writer of the IR that appends each weight to the .bin as soon as it is compressed, and frees its memory.

OpenVINO's own serializer copies all constants at the end; until then they would be in memory, or on the disk a second
time. Here it gets a copy of the graph in which they are inputs; in the XML that it writes, those become constants
again, with the offsets of their bytes in the .bin. It writes to files beside the IR only: after a failed write
it removes both of its files, even /dev/null.
Format: https://docs.openvino.ai/2026/documentation/openvino-ir-format.html
"""

import gc
import mmap
import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from xml.etree import ElementTree

import numpy as np
import openvino as ov
from openvino import Node, Shape
from openvino import opset13 as ops
from openvino.op import Constant

from runtime.folder.manifest import FileRecord
from runtime.system.files import UNMAPPABLE_ERRNOS

from .journal import ByteRange, FinishedWeight, Journal
from .scratch import raise_if_disk_full

_ALIGNMENT = 64  # of a constant in the file: a cache line
_SMALL_CONSTANT = 4096  # bytes up to which a constant is not worth a mapping


class IrWriter:
    """A writer of `path` (.xml) and the .bin beside it, of at most `size` bytes. A context manager; raises OSError.

    Stored constants are views of the file, through a mapping that the writer owns: keep the writer for as long as
    anything made from them is in use. Weights that `journal` lists as finished are in the file already.
    """

    def __init__(self, path: Path, size: int, journal: Journal | None = None) -> None:
        self.path = path
        self._journal = journal
        self._finished = dict(journal.finished) if journal else {}
        self._finished_ranges = {
            name: part for weight in self._finished.values() for name, part in weight.parts.items()
        }
        self._digest = journal.digest.copy() if journal else sha256()  # of everything written
        self._ranges: dict[str, ByteRange] = {}  # of the current weight
        self._weights = path.with_suffix(".bin").open("r+b" if self._finished else "wb", buffering=0)
        try:
            self._weights.truncate(size)
            self._weights.seek(journal.end if journal else 0)
            # One mapping of the whole file: one for each constant would need a file descriptor each.
            self._map = _map_file(path.with_suffix(".bin"), size)
            # Without a mapping, memory that is never touched replaces it: only the addresses of its constants are used.
            self._mapping = np.empty(size, np.uint8) if self._map is None else np.frombuffer(self._map, np.uint8)
        except BaseException:
            self._weights.close()
            raise
        self._offsets: dict[int, int] = {}  # of stored constants in the file, by their address in memory
        self._small_offsets: dict[bytes, int] = {}  # of other constants, by the hash of their bytes

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._weights.tell()

    @property
    def record(self) -> FileRecord:
        """Size and hash of the .bin, if no more is written."""
        return FileRecord(self.size, self._digest.hexdigest())

    def is_finished(self, weight: str) -> bool:
        """Return whether an interrupted conversion finished the weight; `write` then ignores its blocks."""
        return weight in self._finished

    def write(self, name: str, blocks: Iterable[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
        """Append the bytes of the blocks, one in memory at a time; return a view of them in the file."""
        part = self._finished_ranges.get(name)
        if part is None:
            offset = self._align()
            for block in blocks:
                self._write(np.ascontiguousarray(block).reshape(-1).view(np.uint8).data)
            part = ByteRange(offset, self._weights.tell() - offset)
            self._ranges[name] = part
        view = self._mapping[part.offset : part.offset + part.nbytes]
        self._offsets[view.ctypes.data] = part.offset
        return view

    def finish(self, weight: str) -> None:
        """Close the current weight: everything written since the previous call belongs to `weight`."""
        if self._journal and not self.is_finished(weight):
            self._journal.add(weight, FinishedWeight(self._ranges, self.size, self._digest.hexdigest()))
        self._ranges = {}

    def store_constants(self, node: Node) -> Node:
        """Move the large constants of a node to the file; return the node, or the constant that replaces it."""
        if node.get_type_name() == "Constant":
            return self._stored_constant(node)
        for index, source in enumerate(node.input_values()):
            node.input(index).replace_source_output(self.store_constants(source.get_node()).output(source.get_index()))
        return node

    def save(self, model: ov.Model) -> None:
        """Write the graph, whose constants are stored already, or small."""
        self.path.write_text(self.xml(model), encoding="utf-8")

    def xml(self, model: ov.Model) -> str:
        """Return the graph as XML, its constants in the .bin."""
        bare, rest = self.path.with_suffix(".bare.xml"), self.path.with_suffix(".bare.bin")
        copy = model.clone()
        moved = self._replace_stored(copy)
        others = [op for op in copy.get_ordered_ops() if op.get_type_name() == "Constant"]
        with raise_if_disk_full(self.path, sum(op.get_byte_size() for op in others)):
            ov.serialize(copy, str(bare), str(rest))
        tree = ElementTree.parse(bare)
        bare.unlink()
        rest.unlink()
        inputs = [layer for layer in tree.iter("layer") if layer.get("type") == "Parameter"]
        stand_ins = inputs[len(model.get_parameters()) :]
        layers = [*stand_ins, *(layer for layer in tree.iter("layer") if layer.get("type") == "Const")]
        for layer, constant in zip(layers, [*moved, *others], strict=True):
            data = layer.find("data")
            if data is None or layer.get("name") != constant.get_friendly_name():
                raise RuntimeError(f"OpenVINO's serializer has changed the order of constants at {layer.get('name')}")
            layer.set("type", "Const")
            data.set("offset", str(self._offset(constant)))
            data.set("size", str(constant.get_byte_size()))
        if self._map is not None and sys.platform != "win32":  # hashing has read some of it
            self._map.madvise(mmap.MADV_DONTNEED)
        return ElementTree.tostring(tree.getroot(), encoding="unicode", xml_declaration=True)

    def _replace_stored(self, model: ov.Model) -> list[Node]:
        """Replace each constant whose bytes are in the .bin by an input; return those constants."""
        moved = [
            op
            for op in model.get_ordered_ops()
            if op.get_type_name() == "Constant" and op.data.ctypes.data in self._offsets
        ]
        for constant in moved:
            stand_in = ops.parameter(constant.get_output_shape(0), constant.get_element_type())
            stand_in.set_friendly_name(constant.get_friendly_name())
            for reader in constant.output(0).get_target_inputs():
                reader.replace_source_output(stand_in.output(0))
            model.add_parameters([stand_in])
        return moved

    def _stored_constant(self, constant: Node) -> Node:
        if constant.get_byte_size() <= _SMALL_CONSTANT:
            return constant
        return constant_over(
            self.write(constant.get_friendly_name(), [constant.data]), constant, constant.get_output_shape(0)
        )

    def _offset(self, constant: Node) -> int:
        data = constant.data
        if data.ctypes.data in self._offsets:
            return self._offsets[data.ctypes.data]
        raw = data.tobytes()
        key = sha256(raw).digest()
        if key not in self._small_offsets:
            self._small_offsets[key] = self._align()
            self._write(memoryview(raw))
        return self._small_offsets[key]

    def _align(self) -> int:
        self._write(memoryview(bytes(-self._weights.tell() % _ALIGNMENT)))
        return self._weights.tell()

    def _write(self, data: memoryview) -> None:
        if self._weights.tell() + len(data) > len(self._mapping):
            raise RuntimeError(f"the weights take more than the estimated {len(self._mapping):,} bytes")
        self._digest.update(data)
        while data:
            data = data[self._weights.write(data) :]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with (
            self._weights,
            suppress(PermissionError),
        ):  # Windows cuts no file that is mapped: `cut` does so later
            self._weights.truncate(self._weights.tell())


def cut(path: Path, record: FileRecord) -> None:
    """Cut a .bin to the bytes that were written, once nothing made from its writer is in use. Raises OSError."""
    if path.stat().st_size != record.size:
        gc.collect()  # ends the mapping
        os.truncate(path, record.size)


def _map_file(path: Path, size: int) -> "mmap.mmap | None":
    """Map the file; None where its file system does not support it."""
    try:
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
    except OSError as exc:
        if exc.errno not in UNMAPPABLE_ERRNOS:
            raise
        return None


def constant_over(data: np.ndarray[Any, Any], like: Node, shape: Iterable[int]) -> Node:
    """Return a constant of this shape over `data`, which is not copied and must stay valid; type and name are those of
    `like`."""
    tensor = ov.Tensor(data, Shape(list(shape)), like.get_element_type())
    constant = Constant(tensor, shared_memory=True)
    constant.set_friendly_name(like.get_friendly_name())
    return constant
