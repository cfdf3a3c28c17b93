"""GenAI's stateful pipeline, for graphs whose attention PagedAttention does not accept: those that came from ONNX.

It serves one request at a time, and reads every prompt from its beginning.
"""

from typing import Self

from ....folder.model_folder import CONVERT_AGAIN
from ....source import ModelSource
from ...backend import Options
from ..genai import find_devices, load_properties, require_model_folder
from .backend import SingleRequestBackend


class Stateful(SingleRequestBackend):
    """A model folder on a device of OpenVINO."""

    @classmethod
    def devices(cls) -> tuple[str, ...]:
        return find_devices("CPU", "GPU")

    @classmethod
    def accepts(cls, source: ModelSource) -> bool:
        """Whether the source is a model folder whose graph PagedAttention does not accept."""
        folder = source.model_folder
        return folder is not None and not folder.manifest.paged

    @classmethod
    def load(cls, source: ModelSource, device: str, options: Options) -> Self:
        """Raises DeviceError if the device is missing, BackendError if OpenVINO refuses the folder."""
        folder = require_model_folder(source, device, cls.devices())
        import openvino_genai as genai

        with load_properties(folder, device, options, CONVERT_AGAIN) as settings:
            pipeline = genai.LLMPipeline(str(folder.path), device, ATTENTION_BACKEND="SDPA", **settings)
        context = folder.manifest.context_length
        return cls(pipeline, folder, context - 1, context)
