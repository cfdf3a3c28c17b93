"""The weights of an IR by name, as nodes: constants over the mapped file, and what decompresses them."""

from pathlib import Path

import openvino as ov
from openvino import Node

from runtime.system.files import read_model_properties

from .decompress import DECOMPRESSION_OPS


def read_ir(model: Path) -> ov.Model:
    """Read an IR, its weights mapped where possible. Raises RuntimeError."""
    core = ov.Core()
    for name, value in read_model_properties(model.with_suffix(".bin")).items():
        core.set_property({name: value})
    return core.read_model(model)


class IrWeights:
    """The weights of IRs. Raises RuntimeError where one cannot be read."""

    def __init__(self, *paths: Path) -> None:
        # The models own the mappings that contain their constants.
        self._models = [read_ir(path) for path in paths]
        ops = [op for model in self._models for op in model.get_ops()]
        self._constants = {op.get_friendly_name(): op for op in ops if is_constant(op)}

    def __call__(self, name: str) -> Node:
        """Return the node that yields the weight of that name. Raises KeyError."""
        return _decompressed_node(self._constants[name])


def _decompressed_node(node: Node) -> Node:
    """Return the weight that the model reads: the last node that depends on constants alone."""
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
