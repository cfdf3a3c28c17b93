"""GenAI's stateful pipeline, for graphs whose attention PagedAttention does not take: those that came from ONNX.

One request at a time, and every prompt is read from its beginning.
"""

from typing import Self

from ..checkpoint_folder import Folder
from ..errors import BackendError
from ..model_folder import CONVERT_AGAIN
from .backend import Options
from .genai import brief, compiled_cache, converted, properties, refuse_missing
from .openvino import OpenVINO
from .serial import Serial


class Stateful(Serial):
    """A model folder on a device of OpenVINO."""

    @classmethod
    def devices(cls) -> tuple[str, ...]:
        return OpenVINO.devices()

    @classmethod
    def load(cls, folder: Folder, device: str, options: Options) -> Self:
        """Raises DeviceError where the device is not there, BackendError where the engine refuses the folder."""
        refuse_missing(device, cls.devices())
        folder = converted(folder)
        import openvino_genai as genai

        try:
            with compiled_cache(folder, device, options) as place:
                settings = properties(options, device) | place
                pipeline = genai.LLMPipeline(str(folder.path), device, ATTENTION_BACKEND="SDPA", **settings)
        except RuntimeError as exc:
            raise BackendError(f"OpenVINO cannot load {folder.path}: {brief(exc)}", hint=CONVERT_AGAIN) from exc
        context = folder.manifest.context_length
        return cls(pipeline, folder, context - 1, context)
