"""A model folder as OpenVINO's CPU plugin runs it: whole, with a KV cache of some precision, read in chunks.

Three things beside the weights' compression change what it says: the precision in which keys and values are kept, the
plugin's habit of rounding what it multiplies with compressed weights to int8, in groups of some size ("dynamic
quantization"), and the precision in which it computes, bf16 where the CPU has it. Each is a setting here, so that each
can be measured alone.
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

from .layerwise import read_ir
from .reference import EXACT, BoundBlock, Floats, Head, compile_on_cpu, named_input

# Tokens that are read at a time. Fewer than in a chat, so that most of a text reads the cache, as all of a reply does.
_CHUNK = 128


@dataclass(frozen=True, slots=True)
class PluginSetting:
    """How the plugin runs, in its own properties; where one is not named, it chooses."""

    name: str
    properties: Mapping[str, Any]


WEIGHTS_ONLY = PluginSetting("weights alone", EXACT)
AS_DEPLOYED = PluginSetting("as it runs", properties(Options(), "CPU"))


def settings() -> list[PluginSetting]:
    """Those to hold against the weights alone. Each changes one thing, but for the last, which a chat has."""
    found = [PluginSetting(f"KV {kv}", EXACT | {"KV_CACHE_PRECISION": kv}) for kv in ("f16", "u8", "u4")]
    for group in ("32", "128"):  # the plugin's own choice, and ours
        found.append(PluginSetting(f"activations int8 by {group}", EXACT | {"DYNAMIC_QUANTIZATION_GROUP_SIZE": group}))
    if "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        found.append(PluginSetting("computed in bf16", EXACT | {"INFERENCE_PRECISION_HINT": "bf16"}))
    return [*found, AS_DEPLOYED]


class CpuPlugin:
    """A loaded model without its head, which `head` has. Raises RuntimeError where the plugin refuses the setting."""

    def __init__(self, folder: Path, setting: PluginSetting) -> None:
        model, matmul = _read_model(folder)
        result = ops.result(matmul.input_value(0))
        decoder = ov.Model([result], model.get_sinks(), model.get_parameters(), "decoder")
        self._request = compile_on_cpu(decoder, setting.properties)

    def close(self) -> None:
        """Gives its memory back; the engine cannot be used any more."""
        self._request.reset_state()
        self._request.get_compiled_model().release_memory()
        del self._request

    def describe_plugin(self) -> str:
        """What the plugin runs with, in words."""
        model = self._request.get_compiled_model()
        precision, kv, group = map(model.get_property, EXACT)
        rounds = f", activations int8 in groups of {group}" if int(group) else ""
        return f"{precision.get_type_name()}, KV {kv.get_type_name()}{rounds}"

    def hidden_states(self, token_ids: Sequence[npt.NDArray[Any]]) -> list[Floats]:
        """For every text, T token ids, what the head reads after each of its tokens: (T,hidden), normed."""
        return [np.concatenate(list(self._prefill(ids))) for ids in token_ids]

    def greedy(self, prompt: npt.NDArray[Any], head: Head, limit: int, stops: Collection[int] = ()) -> list[int]:
        """The likeliest reply of at most `limit` tokens, without its stop token."""
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
        """The next tokens of a text, of which `past` went before: (n,hidden)"""
        end = past + len(ids)
        inputs = {
            "input_ids": ids[np.newaxis].astype(np.int64),
            "attention_mask": np.ones((1, end), np.int64),
            "position_ids": np.arange(past, end, dtype=np.int64)[np.newaxis],
            "beam_idx": np.zeros(1, np.int32),
        }
        return np.array(self._request.infer(inputs)[0][0], dtype=np.float32)


def plugin_head(folder: Path, setting: PluginSetting = WEIGHTS_ONLY) -> Head:
    """What makes logits of an engine's states."""
    _, matmul = _read_model(folder)
    x = named_input("x", PartialShape([1, -1, matmul.get_input_partial_shape(0)[2].get_length()]), Type.f32)
    attributes = matmul.get_attributes()
    y = ops.matmul(x, matmul.input_value(1), attributes["transpose_a"], attributes["transpose_b"])
    part = BoundBlock(compile_on_cpu(ov.Model([ops.result(y)], [x], "head"), setting.properties))
    return lambda states: part.run({"x": states[np.newaxis]})[0][0]


def _read_model(folder: Path) -> tuple[ov.Model, Node]:
    """The model, and the MatMul that makes its logits."""
    model = read_ir(folder / "openvino_model.xml")
    node = model.output("logits").get_node()
    while node.get_type_name() != "MatMul":
        node = node.input_value(0).get_node()
    return model, node
