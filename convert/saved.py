"""What the converted model answers, read back from its folder. A large one is run a layer at a time, since loading it
whole takes as much memory as the file has bytes: then a conversion needs less memory than the model itself.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino as ov
from openvino import Node, PartialShape, Type
from openvino import opset13 as ops

from runtime.architecture import Architecture

from .graph import Blocks
from .reference import Floats, input_node, layer_alone, of_layer

_WHOLE = 2**30  # bytes of a .bin up to which the model is loaded as it is
_DECOMPRESSION = ("Convert", "Subtract", "Multiply", "Reshape")


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
    model = ov.Core().read_model(folder / "openvino_model.xml")
    if whole or fits_whole((folder / "openvino_model.bin").stat().st_size):
        return _whole(model, token_ids)
    constants = {op.get_friendly_name(): op for op in model.get_ops() if op.get_type_name() == "Constant"}

    def blocks(layer: int = 0) -> Blocks:
        return Blocks(a, lambda name: _decompressed(constants[of_layer(name, layer)]))

    embed = _compiled(Type.i64, PartialShape([1, -1]), blocks().embedding)
    states = [embed(ids[np.newaxis]) for ids in token_ids]
    del embed
    hidden = PartialShape([1, -1, a.hidden])
    for layer in range(a.layers):
        run = _compiled(Type.f32, hidden, partial(layer_alone, blocks(layer)))
        states = [run(x) for x in states]
    head = _compiled(Type.f32, hidden, blocks().head)
    return [head(x)[0] for x in states]


def _whole(model: ov.Model, token_ids: Sequence[npt.NDArray[Any]]) -> list[Floats]:
    request = ov.Core().compile_model(model, "CPU", _EXACT).create_infer_request()
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


# In f32: where the CPU has bf16, it would be the larger difference; and so would be int8 activations, which CPUs with
# VNNI take for compressed weights, whatever the precision asked for.
_EXACT = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"}


def _compiled(element: Type, shape: PartialShape, part: Callable[[Node], Node]) -> Callable[[Any], Floats]:
    x = input_node("x", shape, element)
    request = (
        ov.Core().compile_model(ov.Model([ops.result(part(x))], [x], "part"), "CPU", _EXACT).create_infer_request()
    )
    return lambda value: np.array(request.infer([value])[0], dtype=np.float32)


def _decompressed(node: Node) -> Node:
    """What the constants become before the decoder reads them: the last node that depends on constants alone."""
    while len(readers := node.output(0).get_target_inputs()) == 1:
        reader = next(iter(readers)).get_node()
        others = [source.get_node() for source in reader.input_values() if source.get_node() != node]
        if reader.get_type_name() not in _DECOMPRESSION or not all(map(_is_stored, others)):
            break
        node = reader
    return node


def _is_stored(node: Node) -> bool:
    while node.get_type_name() == "Convert":
        node = node.input_value(0).get_node()
    return bool(node.get_type_name() == "Constant")
