"""The IR, written as it grows: a weight goes to the .bin as soon as it is finished, and its memory is free again.

OpenVINO's own serialiser copies all constants at the end, so that they have to be somewhere until then: in memory, or a
second time on the disk. Here it gets a copy of the graph in which they are inputs; in the XML that it writes, those
become constants again, which point at where their bytes already lie. It writes beside the IR and nowhere else: where a
write fails, it removes both files that it was given, were one of them /dev/null.
Format: https://docs.openvino.ai/2026/documentation/openvino-ir-format.html
"""

import mmap
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

from runtime.folder.model_folder import FileRecord
from runtime.system.files import UNMAPPABLE_ERRNOS

from .journal import Finished, Journal, Part
from .scratch import full_disk_told

_ALIGNMENT = 64  # of a constant in the file: a cache line
_SMALL = 4096  # bytes up to which a constant is not worth a mapping


class IrWriter:
    """Writes `path`, which ends in .xml, and the .bin beside it, of at most `size` bytes. A context manager; raises
    OSError.

    Constants that were moved to the file are read from there, by a mapping that is gone with the writer: it has to stay
    for as long as anything made from them is in use. Weights that `journal` knows as finished are in the file already.
    """

    def __init__(self, path: Path, size: int, journal: Journal | None = None) -> None:
        self.path = path
        self._journal = journal
        self._finished = dict(journal.finished) if journal else {}
        self._there = {name: part for weight in self._finished.values() for name, part in weight.parts.items()}
        self._digest = journal.digest.copy() if journal else sha256()  # of all that is written
        self._parts: dict[str, Part] = {}  # of the weight at hand
        self._weights = path.with_suffix(".bin").open("r+b" if self._finished else "wb", buffering=0)
        try:
            self._weights.truncate(size)
            self._weights.seek(journal.end if journal else 0)
            # One mapping of what the file will be: a mapping for each constant would need a file descriptor each.
            self._map = _mapped(path.with_suffix(".bin"), size)
            # Memory in the mapping's place is never touched: the address of a constant tells where its bytes lie in the
            # file, and nobody reads them.
            self._mapping = np.empty(size, np.uint8) if self._map is None else np.frombuffer(self._map, np.uint8)
        except BaseException:
            self._weights.close()
            raise
        self._offsets: dict[int, int] = {}  # where a kept constant's bytes lie, by their address in memory
        self._small: dict[bytes, int] = {}  # where those of others lie, by their hash

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._weights.tell()

    @property
    def file(self) -> FileRecord:
        """What the .bin will be if no more is written."""
        return FileRecord(self.size, self._digest.hexdigest())

    def has(self, weight: str) -> bool:
        """Whether the weight was finished before; then `write` looks at no blocks of it."""
        return weight in self._finished

    def write(self, name: str, blocks: Iterable[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
        """Appends the bytes of the blocks, none of which has to stay in memory; returns them as the file holds them."""
        part = self._there.get(name)
        if part is None:
            offset = self._align()
            for block in blocks:
                self._write(np.ascontiguousarray(block).reshape(-1).view(np.uint8).data)
            part = Part(offset, self._weights.tell() - offset)
            self._parts[name] = part
        view = self._mapping[part.offset : part.offset + part.nbytes]
        self._offsets[view.ctypes.data] = part.offset
        return view

    def finish(self, weight: str) -> None:
        """All that was written since the last one is this weight's."""
        if self._journal and not self.has(weight):
            self._journal.add(weight, Finished(self._parts, self.size, self._digest.hexdigest()))
        self._parts = {}

    def keep(self, node: Node) -> Node:
        """The node, its large constants moved to the file. Where it is a constant itself, another one."""
        if node.get_type_name() == "Constant":
            return self._moved(node)
        for index, source in enumerate(node.input_values()):
            node.input(index).replace_source_output(self.keep(source.get_node()).output(source.get_index()))
        return node

    def save(self, model: ov.Model) -> None:
        """Writes the graph. Its constants are those that were kept, and small ones."""
        self.path.write_text(self.xml(model), encoding="utf-8")

    def xml(self, model: ov.Model) -> str:
        """The graph as XML, its constants in the .bin."""
        bare, rest = self.path.with_suffix(".bare.xml"), self.path.with_suffix(".bare.bin")
        copy = model.clone()
        moved = self._without_moved(copy)
        others = [op for op in copy.get_ordered_ops() if op.get_type_name() == "Constant"]
        with full_disk_told(self.path, sum(op.get_byte_size() for op in others)):
            ov.serialize(copy, str(bare), str(rest))
        tree = ElementTree.parse(bare)
        bare.unlink()
        rest.unlink()
        inputs = [layer for layer in tree.iter("layer") if layer.get("type") == "Parameter"]
        stand_ins = inputs[len(model.get_parameters()) :]
        layers = [*stand_ins, *(layer for layer in tree.iter("layer") if layer.get("type") == "Const")]
        for layer, constant in zip(layers, [*moved, *others], strict=True):
            data = layer.find("data")
            assert data is not None
            assert layer.get("name") == constant.get_friendly_name()
            layer.set("type", "Const")
            data.set("offset", str(self._place(constant)))
            data.set("size", str(constant.get_byte_size()))
        if self._map is not None and hasattr(mmap, "MADV_DONTNEED"):  # the hashing has read some of it
            self._map.madvise(mmap.MADV_DONTNEED)
        return ElementTree.tostring(tree.getroot(), encoding="unicode", xml_declaration=True)

    def _without_moved(self, model: ov.Model) -> list[Node]:
        """Puts an input in the place of each constant whose bytes are in the .bin already; returns those constants."""
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

    def _moved(self, constant: Node) -> Node:
        if constant.get_byte_size() <= _SMALL:
            return constant
        return of_bytes(
            self.write(constant.get_friendly_name(), [constant.data]), constant, constant.get_output_shape(0)
        )

    def _place(self, constant: Node) -> int:
        data = constant.data
        if data.ctypes.data in self._offsets:
            return self._offsets[data.ctypes.data]
        raw = data.tobytes()
        key = sha256(raw).digest()
        if key not in self._small:
            self._small[key] = self._align()
            self._write(memoryview(raw))
        return self._small[key]

    def _align(self) -> int:
        self._write(memoryview(bytes(-self._weights.tell() % _ALIGNMENT)))
        return self._weights.tell()

    def _write(self, data: memoryview) -> None:
        if self._weights.tell() + len(data) > len(self._mapping):
            raise RuntimeError(f"the weights take more than the {len(self._mapping):,} bytes that were estimated")
        self._digest.update(data)
        while data:
            data = data[self._weights.write(data) :]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with (
            self._weights,
            suppress(PermissionError),
        ):  # Windows cuts no file that is mapped; zeros at its end do no harm
            self._weights.truncate(self._weights.tell())


def _mapped(path: Path, size: int) -> "mmap.mmap | None":
    """The file's bytes; None where its file system does not map them."""
    try:
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
    except OSError as exc:
        if exc.errno not in UNMAPPABLE_ERRNOS:
            raise
        return None


def of_bytes(data: np.ndarray[Any, Any], like: Node, shape: Iterable[int]) -> Node:
    """A constant of this shape over these bytes, which are not copied and have to stay; its type and name are those of
    `like`."""
    tensor = ov.Tensor(data, Shape(list(shape)), like.get_element_type())
    constant = Constant(tensor, shared_memory=True)
    constant.set_friendly_name(like.get_friendly_name())
    return constant
