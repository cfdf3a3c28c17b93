"""What the converted model answers, read back from its folder. A large one is run a layer at a time, since loading it
whole takes as much memory as the file has bytes: then a conversion needs less memory than the model itself.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino as ov
from openvino import Node, PartialShape, Type
from openvino import opset13 as ops

from runtime.checkpoint.architecture import Architecture
from runtime.checkpoint.tensor import Tensor
from runtime.system.files import read_model_properties

from ..graph import Blocks
from .decompress import DECOMPRESSION, decompress
from .reference import (
    EXACT,
    Floats,
    Head,
    Ready,
    Stage,
    apart,
    compiled,
    in_chunks,
    input_node,
    last_norm,
    layer_alone,
    of_layer,
    through_head,
    through_layer,
    together,
    vocabulary,
)

_WHOLE = 2**30  # bytes of a .bin up to which the model is loaded as it is


def fits_whole(model: int) -> bool:
    """Whether a model of so many bytes is loaded as a whole."""
    return model <= _WHOLE


def logits(
    folder: Path, a: Architecture, token_ids: Sequence[npt.NDArray[Any]], *, whole: bool = False
) -> list[Floats]:
    """For every text, T token ids, the logits after each of its tokens, in f32: (T,vocab). A large model whose weights
    do not have our names can only be run `whole`.

    Raises RuntimeError where the IR does not run.
    """
    if whole or fits_whole((folder / "openvino_model.bin").stat().st_size):
        return _whole(read(folder / "openvino_model.xml"), token_ids)
    layers = Layers(folder, a)
    found = layers.states(token_ids)
    return through_head(layers.head(), found)


def read(model: Path) -> ov.Model:
    """The model in an IR, its weights mapped. Raises RuntimeError."""
    core = ov.Core()
    for name, value in read_model_properties(model.with_suffix(".bin")).items():
        core.set_property({name: value})
    return core.read_model(model)


class Layers:
    """The converted model, of which one layer at a time is in memory. Raises RuntimeError where the IR does not run."""

    def __init__(self, folder: Path, architecture: Architecture) -> None:
        self.architecture = architecture
        # The model holds the mapping in which its constants lie.
        self._model = read(folder / "openvino_model.xml")
        self._constants = {op.get_friendly_name(): op for op in self._model.get_ops() if is_constant(op)}

    def states(self, token_ids: Sequence[npt.NDArray[Any]]) -> list[Floats]:
        """For every text, T token ids, what the head reads after each of its tokens: (T,hidden), normed."""
        ids = input_node("x", PartialShape([1, -1]), Type.i64)
        embed = Ready(compiled(ov.Model([ops.result(self._blocks().embedding(ids))], [ids], "embedding")))
        rows = together(token_ids)
        found = [embed.run({"x": row.ids[np.newaxis]})[0][0] for row in rows]
        del embed
        for part in self.layers():
            for x, row in zip(found, rows, strict=True):
                through_layer(part, self.architecture, x, row.lengths)
        norm = Ready(compiled(last_norm(self._blocks())))
        for x in found:
            in_chunks(norm, x)
        return apart(found, rows)

    def layers(self) -> Iterator[Ready]:
        """The layers in turn, for `through_layer`; each is valid until the next one."""
        run = Stage(self.architecture, layer_alone)
        # One place for the weights of all: fresh memory would cost as much as filling it.
        weights = {name: np.empty(shape, np.float32) for name, shape in self.architecture.layer_shapes(0)}
        for number in range(self.architecture.layers):
            for name, values in weights.items():
                decompress(self._node(of_layer(name, number)), values)
            yield run.ready({name: Tensor(name, x.shape, "f32", x) for name, x in weights.items()})

    def head(self) -> Head:
        """What makes logits of states."""
        part = Ready(compiled(vocabulary(self._blocks())))
        return lambda x: part.run({"x": x[np.newaxis]})[0][0]

    def _blocks(self) -> Blocks:
        return Blocks(self.architecture, self._node)

    def _node(self, name: str) -> Node:
        return _decompressed(self._constants[name])


def _whole(model: ov.Model, token_ids: Sequence[npt.NDArray[Any]]) -> list[Floats]:
    request = ov.Core().compile_model(model, "CPU", EXACT).create_infer_request()
    found = []
    for ids in token_ids:
        request.reset_state()
        inputs = {
            "input_ids": ids[np.newaxis],
            "attention_mask": np.ones((1, len(ids)), np.int64),
            "position_ids": np.arange(len(ids), dtype=np.int64)[np.newaxis],
            "beam_idx": np.zeros(1, np.int32),
        }
        found.append(np.array(request.infer(inputs)["logits"][0]))
    return found


def _decompressed(node: Node) -> Node:
    """What the constants become before the decoder reads them: the last node that depends on constants alone."""
    while len(readers := node.output(0).get_target_inputs()) == 1:
        reader = next(iter(readers)).get_node()
        others = [source.get_node() for source in reader.input_values() if source.get_node() != node]
        if reader.get_type_name() not in DECOMPRESSION or not all(map(_is_stored, others)):
            break
        node = reader
    return node


def _is_stored(node: Node) -> bool:
    while node.get_type_name() == "Convert":
        node = node.input_value(0).get_node()
    return is_constant(node)


def is_constant(node: Node) -> bool:
    return bool(node.get_type_name() == "Constant")
