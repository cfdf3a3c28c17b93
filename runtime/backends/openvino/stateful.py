"""GenAI's stateful pipeline, for graphs whose attention PagedAttention does not take: those that came from ONNX.

One request at a time, and every prompt is read from its beginning.
"""

from typing import Self

from ...checkpoint.checkpoint import Folder
from ...folder.model_folder import CONVERT_AGAIN
from ..backend import Options
from .genai import devices, loading, require_model_folder
from .serial import SingleRequestBackend


class Stateful(SingleRequestBackend):
    """A model folder on a device of OpenVINO."""

    @classmethod
    def devices(cls) -> tuple[str, ...]:
        return devices("CPU", "GPU")

    @classmethod
    def load(cls, folder: Folder, device: str, options: Options) -> Self:
        """Raises DeviceError where the device is not there, BackendError where the engine refuses the folder."""
        folder = require_model_folder(folder, device, cls.devices())
        import openvino_genai as genai

        with loading(folder, device, options, CONVERT_AGAIN) as settings:
            pipeline = genai.LLMPipeline(str(folder.path), device, ATTENTION_BACKEND="SDPA", **settings)
        context = folder.manifest.context_length
        return cls(pipeline, folder, context - 1, context)
