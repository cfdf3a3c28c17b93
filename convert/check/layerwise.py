"""Logits of the converted model, read back from its folder.

A large model runs one layer at a time, since loading it whole needs as much memory as its file has bytes: a conversion
then needs less memory than the model itself.
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

from ..graph import DecoderBlocks, decoder_inputs
from .decompress import DECOMPRESSION_OPS, decompress
from .reference import (
    EXACT,
    BoundBlock,
    CompiledBlock,
    Floats,
    Head,
    compile_on_cpu,
    head_model,
    layer_model,
    layer_tensor_name,
    named_input,
    norm_model,
    pack,
    run_head,
    run_in_chunks,
    run_layer,
    unpack,
)

_WHOLE_MODEL_BYTES = 2**30  # of a .bin, up to which the model is loaded whole


def fits_whole(model: int) -> bool:
    """Return whether a model of so many bytes is loaded whole."""
    return model <= _WHOLE_MODEL_BYTES


def logits(
    folder: Path, a: Architecture, token_ids: Sequence[npt.NDArray[Any]], *, whole: bool = False
) -> list[Floats]:
    """Return the logits for texts of T token ids each, in f32: (T,vocab). A large model whose weights do not have our
    names only runs `whole`. Raises RuntimeError where the IR does not run."""
    if whole or fits_whole((folder / "openvino_model.bin").stat().st_size):
        return whole_model_logits(read_ir(folder / "openvino_model.xml"), token_ids)
    layers = LayerwiseModel(folder, a)
    found = layers.hidden_states(token_ids)
    return run_head(layers.head(), found)


def read_ir(model: Path) -> ov.Model:
    """Read an IR, its weights mapped where possible. Raises RuntimeError."""
    core = ov.Core()
    for name, value in read_model_properties(model.with_suffix(".bin")).items():
        core.set_property({name: value})
    return core.read_model(model)


class LayerwiseModel:
    """A converted model that is run one layer at a time. Raises RuntimeError where the IR does not run."""

    def __init__(self, folder: Path, architecture: Architecture) -> None:
        self.architecture = architecture
        # The model owns the mapping that contains its constants.
        self._model = read_ir(folder / "openvino_model.xml")
        self._constants = {op.get_friendly_name(): op for op in self._model.get_ops() if is_constant(op)}

    def hidden_states(self, token_ids: Sequence[npt.NDArray[Any]]) -> list[Floats]:
        """Return the head's inputs for texts of T token ids each: (T,hidden), normed."""
        ids = named_input("x", PartialShape([1, -1]), Type.i64)
        embed = BoundBlock(compile_on_cpu(ov.Model([ops.result(self._blocks().embedding(ids))], [ids], "embedding")))
        rows = pack(token_ids)
        found = [embed.run({"x": row.ids[np.newaxis]})[0][0] for row in rows]
        del embed
        for part in self.layers():
            for x, row in zip(found, rows, strict=True):
                run_layer(part, self.architecture, x, row.lengths)
        norm = BoundBlock(compile_on_cpu(norm_model(self._blocks())))
        for x in found:
            run_in_chunks(norm, x)
        return unpack(found, rows)

    def layers(self) -> Iterator[BoundBlock]:
        """Yield the layers in turn, for `run_layer`; each is valid until the next one."""
        run = CompiledBlock(self.architecture, layer_model)
        # One buffer for the weights of all layers: allocating memory costs as much as filling it.
        weights = {name: np.empty(shape, np.float32) for name, shape in self.architecture.layer_shapes(0)}
        for number in range(self.architecture.layers):
            for name, values in weights.items():
                decompress(self._node(layer_tensor_name(name, number)), values)
            yield run.bind({name: Tensor(name, x.shape, "f32", x) for name, x in weights.items()})

    def head(self) -> Head:
        """Return the model's head, from hidden states to logits."""
        part = BoundBlock(compile_on_cpu(head_model(self._blocks())))
        return lambda x: part.run({"x": x[np.newaxis]})[0][0]

    def _blocks(self) -> DecoderBlocks:
        return DecoderBlocks(self.architecture, self._node)

    def _node(self, name: str) -> Node:
        return _decompressed_node(self._constants[name])


def whole_model_logits(model: ov.Model, token_ids: Sequence[npt.NDArray[Any]]) -> list[Floats]:
    """Return the logits for texts of T token ids each, by a stateful decoder that is loaded whole: (T,vocab)."""
    request = ov.Core().compile_model(model, "CPU", EXACT).create_infer_request()
    found = []
    for ids in token_ids:
        request.reset_state()
        found.append(np.array(request.infer(decoder_inputs(model, ids))["logits"][0]))
    return found


def _decompressed_node(node: Node) -> Node:
    """Return the weight that the decoder reads: the last node that depends on constants alone."""
    while len(readers := node.output(0).get_target_inputs()) == 1:
        reader = next(iter(readers)).get_node()
        others = [source.get_node() for source in reader.input_values() if source.get_node() != node]
        if reader.get_type_name() not in DECOMPRESSION_OPS or not all(map(_is_constant_or_converted, others)):
            break
        node = reader
    return node


def _is_constant_or_converted(node: Node) -> bool:
    while node.get_type_name() == "Convert":
        node = node.input_value(0).get_node()
    return is_constant(node)


def is_constant(node: Node) -> bool:
    """Return whether the node is a Constant."""
    return bool(node.get_type_name() == "Constant")
