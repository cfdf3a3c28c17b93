"""A check whether the machine has memory for one more model."""

from contextlib import suppress

from runtime.backends.backend import Options
from runtime.backends.choose import assess_devices
from runtime.device.machine import detect
from runtime.errors import DeviceError
from runtime.source import ModelSource


def memory_is_short(source: ModelSource, device: str, options: Options) -> bool:
    """Return whether a model folder does not fit the device's free memory now. An unconverted checkpoint has no
    estimate: its engine reports a shortage itself."""
    if source.model_folder is None:
        return False
    with suppress(DeviceError):
        found = assess_devices(detect(), source.manifest, options)
        wanted = [fit for fit in found if device.upper() in ("AUTO", fit.device)]
        return bool(wanted) and all(fit.obstacle for fit in wanted)
    return False
