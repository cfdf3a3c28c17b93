"""What the server asks of a model's engine beyond the Backend protocol. One function a question."""

import sys
from contextlib import suppress

from runtime.backends.backend import Options
from runtime.backends.openvino.npu import NPU
from runtime.backends.openvino.subprocess import SubprocessBackend
from runtime.checkpoint.checkpoint import Folder
from runtime.device.choose import assess_devices
from runtime.device.machine import detect
from runtime.errors import DeviceError
from runtime.folder.model_folder import ModelFolder
from runtime.model import Model

from ..errors import ApiError


def is_alive(model: Model) -> bool:
    """Return whether the model's engine process has not ended."""
    return not isinstance(model.backend, SubprocessBackend) or model.backend.alive


def responds(model: Model) -> bool:
    """Return whether the model's engine process is alive and not stopped."""
    return not isinstance(model.backend, SubprocessBackend) or model.backend.responds


def max_requests(model: Model) -> int:
    """Return how many requests the engine runs at once."""
    return 1 if isinstance(model.backend, NPU) else sys.maxsize


def kv_cache_bytes(model: Model) -> int | None:
    """Return the bytes of KV cache in use; None if the engine does not report them. Raises BackendError."""
    report = getattr(model.backend, "kv_cache", None)
    return None if report is None else int(report())


def encode(model: Model, text: str) -> list[int]:
    """Return the text's token ids; special tokens spelled in it are text. Raises ApiError if the engine has no
    tokenizer of its own."""
    tokenize = getattr(model.backend, "encode", None)
    if tokenize is None:
        raise ApiError(400, "this engine does not expose its tokenizer", param="model", code="unsupported_parameter")
    ids: list[int] = tokenize(model.plain(text))
    return ids


def memory_is_short(folder: Folder, device: str, options: Options) -> bool:
    """Return whether a model folder does not fit the device's free memory now. An unconverted checkpoint has no
    estimate: its engine finds out."""
    if not isinstance(folder, ModelFolder):
        return False
    with suppress(DeviceError):
        found = assess_devices(detect(), folder.manifest, options)
        wanted = [fit for fit in found if device.upper() in ("AUTO", fit.device)]
        return bool(wanted) and all(fit.obstacle for fit in wanted)
    return False
