"""A model folder's stateful graph, compiled beside GenAI's pipeline for the logits that GenAI does not return.

Both share the mapped file of the weights alone: the plugin repacks the matrices for each compiled model, so this one
takes as much memory again, unless the int4 kernel is used.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ....device.machine import free_memory
from ....device.memory import CONTEXT, estimate, format_bytes
from ....errors import BackendError
from ....folder.ir_files import DECODER
from ....folder.model_folder import CONVERT_AGAIN, ModelFolder
from ...backend import Options
from ...logits.token_logprobs import Logits
from ..genai import load_properties
from ..int4.loading import kernel_folder

_SHAPES = 32  # compiled shapes that the CPU plugin keeps, as for the pipeline


class LogitsModel:
    """The compiled graph. Each reply has a context of its own, with its own KV cache."""

    def __init__(self, folder: ModelFolder, device: str, options: Options) -> None:
        """Compile the graph, and run it once, since the plugin repacks the weights then. Raises BackendError if memory
        is short, or if OpenVINO rejects the graph."""
        import openvino

        core = openvino.Core()
        with (
            load_properties(folder, device, options, CONVERT_AGAIN) as settings,
            kernel_folder(folder, device, options, DECODER, sampled=False) as place,
        ):
            if not place.used:
                _require_memory(folder, device, options)
            settings.update(place.properties)
            for library in settings.pop("extensions", ()):
                core.add_extension(library)
            if device == "CPU":
                settings["CPU_RUNTIME_CACHE_CAPACITY"] = _SHAPES
            self._compiled = core.compile_model(str(place.path / f"{DECODER}.xml"), device, settings)
            self.context().forward([0])

    def context(self) -> "LogitsContext":
        """Return an empty context."""
        return LogitsContext(self._compiled)


class LogitsContext:
    """A text that the model has read, in a KV cache that grows with it."""

    def __init__(self, compiled: Any) -> None:
        self._request = compiled.create_infer_request()
        self._inputs = {name for port in compiled.inputs for name in port.get_names()}
        self.length = 0  # tokens

    def forward(self, ids: Sequence[int]) -> Logits:
        """Read the next tokens; return the logits after each of them, of shape [tokens, vocabulary], until the next
        call. Raises OpenVINO's RuntimeError."""
        end = self.length + len(ids)
        feed = {
            "input_ids": np.array([ids], dtype=np.int64),
            "attention_mask": np.ones((1, end), dtype=np.int64),
            "position_ids": np.arange(self.length, end, dtype=np.int64)[None],
            "beam_idx": np.zeros(1, dtype=np.int32),
        }
        self._request.infer({name: value for name, value in feed.items() if name in self._inputs}, share_inputs=True)
        self.length = end
        logits: Logits = self._request.get_tensor("logits").data[0]
        return logits


def _require_memory(folder: ModelFolder, device: str, options: Options) -> None:
    if device != "CPU":
        return
    need = estimate(folder.manifest, device, CONTEXT, options.kv_precision, options.threads)
    wanted, free = need.weights + need.activations, free_memory()
    if wanted > free:
        raise BackendError(
            f"logits need the model a second time in memory, {format_bytes(wanted)}, and {format_bytes(free)} are free",
            hint="leave out frequency_penalty, logit_bias, top_logprobs and log-probabilities of the prompt",
        )
