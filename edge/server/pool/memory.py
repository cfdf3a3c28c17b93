"""The memory that a model needs, and a check whether the machine has it for one more."""

from contextlib import suppress

from runtime.backends.backend import Options
from runtime.backends.choose import assess_devices
from runtime.backends.openvino.int4.loading import find_mapped_weights
from runtime.device.machine import detect
from runtime.errors import DeviceError
from runtime.source import ModelSource


def memory_is_short(source: ModelSource, device: str, options: Options) -> bool:
    """Return whether a model folder does not fit the device's free memory now. An unconverted checkpoint has no
    estimate: its engine reports a shortage itself."""
    if source.model_folder is None:
        return False
    with suppress(DeviceError):
        mapped = find_mapped_weights(source.model_folder, "CPU", options)
        found = assess_devices(detect(), source.manifest, options, mapped)
        wanted = [fit for fit in found if device.upper() in ("AUTO", fit.device)]
        return bool(wanted) and all(fit.obstacle for fit in wanted)
    return False


def size_of(source: ModelSource) -> int:
    """Return the bytes of a model's files, or of a checkpoint's weights: what it takes in memory, without its cache."""
    manifest = source.manifest
    files = sum(file.size for file in manifest.files.values())
    return files or (manifest.sizes.weights if manifest.sizes else 0)
