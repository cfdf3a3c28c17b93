"""A model folder on OpenVINO's CPU plugin: loaded whole, its prompts read in chunks.

Besides the weights' compression, three settings change the logits: the precision of the KV cache, dynamic quantization
(activations are rounded to int8, in groups of some size, before they are multiplied by compressed weights), and the
precision of the arithmetic, bf16 where the CPU has it. Each is a `PluginSetting`, so that each can be measured alone.
The first chunk of a prompt never reads the cache; the later ones and every generated token do.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino as ov
from openvino import Node, PartialShape, Type
from openvino import opset13 as ops

from runtime.backends.backend import Options
from runtime.backends.openvino.genai import properties

from ..graph import decoder_inputs
from .ir_weights import read_ir
from .reference import EXACT, BoundBlock, Floats, Head, compile_on_cpu, named_input

# Tokens a pass: fewer than in a chat, so that most of a text reads the cache, as all of a reply does.
_CHUNK = 128


@dataclass(frozen=True, slots=True)
class PluginSetting:
    """Properties of the CPU plugin, which chooses those that are not set, and the name of the setting in a report."""

    name: str
    properties: Mapping[str, Any]


WEIGHTS_ONLY = PluginSetting("weights alone", EXACT)
AS_DEPLOYED = PluginSetting("as it runs", properties(Options(), "CPU"))


def settings() -> list[PluginSetting]:
    """Return the settings to compare with `WEIGHTS_ONLY`: each changes one property; the last is that of a chat."""
    compared = [PluginSetting(f"KV {kv}", EXACT | {"KV_CACHE_PRECISION": kv}) for kv in ("f16", "u8", "u4")]
    compared += [
        PluginSetting(f"activations int8 by {group}", EXACT | {"DYNAMIC_QUANTIZATION_GROUP_SIZE": group})
        for group in ("32", "128")  # the plugin's default, and ours
    ]
    if "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        compared.append(PluginSetting("computed in bf16", EXACT | {"INFERENCE_PRECISION_HINT": "bf16"}))
    return [*compared, AS_DEPLOYED]


class CpuPlugin:
    """A loaded model without its head (see `plugin_head`). Raises RuntimeError where the plugin rejects the setting."""

    def __init__(self, folder: Path, setting: PluginSetting) -> None:
        model, matmul = _read_model(folder)
        result = ops.result(matmul.input_value(0))
        decoder = ov.Model([result], model.get_sinks(), model.get_parameters(), "decoder")
        self._request = compile_on_cpu(decoder, setting.properties)

    def close(self) -> None:
        """Release the model's memory."""
        self._request.reset_state()
        self._request.get_compiled_model().release_memory()
        del self._request

    def describe_plugin(self) -> str:
        """Describe the CPU plugin's effective settings, for reports."""
        model = self._request.get_compiled_model()
        precision, kv, group = map(model.get_property, EXACT)
        rounds = f", activations int8 in groups of {group}" if int(group) else ""
        return f"{precision.get_type_name()}, KV {kv.get_type_name()}{rounds}"

    def hidden_states(self, token_ids: Sequence[npt.NDArray[Any]]) -> list[Floats]:
        """Return the head's inputs for texts of T token ids each: (T,hidden), normed."""
        return [np.concatenate(list(self._prefill(ids))) for ids in token_ids]

    def greedy(self, prompt: npt.NDArray[Any], head: Head, limit: int, stops: Collection[int] = ()) -> list[int]:
        """Generate the most likely reply of at most `limit` tokens, without its stop token."""
        *_, last = self._prefill(prompt)
        reply: list[int] = []
        while len(reply) < limit:
            token = int(head(last[-1:])[0].argmax())
            if token in stops:
                break
            reply.append(token)
            last = self.forward(np.array([token]), len(prompt) + len(reply) - 1)
        return reply

    def _prefill(self, ids: npt.NDArray[Any]) -> Iterator[Floats]:
        self._request.reset_state()
        for first in range(0, len(ids), _CHUNK):
            yield self.forward(ids[first : first + _CHUNK], first)

    def forward(self, ids: npt.NDArray[Any], past: int) -> Floats:
        """Run the next n tokens of a text after `past` tokens of it: (n,hidden)."""
        inputs = decoder_inputs(self._request.get_compiled_model(), ids, past)
        return np.array(self._request.infer(inputs)[0][0], dtype=np.float32)


def plugin_head(folder: Path, setting: PluginSetting = WEIGHTS_ONLY) -> Head:
    """Return the model's head, from hidden states to logits."""
    _, matmul = _read_model(folder)
    x = named_input("x", PartialShape([1, -1, matmul.get_input_partial_shape(0)[2].get_length()]), Type.f32)
    attributes = matmul.get_attributes()
    y = ops.matmul(x, matmul.input_value(1), attributes["transpose_a"], attributes["transpose_b"])
    part = BoundBlock(compile_on_cpu(ov.Model([ops.result(y)], [x], "head"), setting.properties))
    return lambda states: part.run({"x": states[np.newaxis]})[0][0]


def _read_model(folder: Path) -> tuple[ov.Model, Node]:
    """Return the model and the MatMul of its head."""
    model = read_ir(folder / "openvino_model.xml")
    node = model.output("logits").get_node()
    while node.get_type_name() != "MatMul":
        node = node.input_value(0).get_node()
    return model, node
