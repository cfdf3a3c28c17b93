"""Load a model onto the device that is chosen for it, or onto the first of several that can load it."""

import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from ..errors import BackendError, DeviceError, Notice
from ..folder.integrity import verify_while_loading
from ..progress import Progress
from ..source import ModelSource
from ..system.out_of_memory import map_out_of_memory
from .backend import Backend, Options
from .choose import DeviceChoice, choose
from .registry import isolate
from .tuned_settings import apply_tuned_settings


def load_first(
    source: ModelSource,
    devices: Sequence[str],
    options: Options,
    *,
    in_process: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> tuple[Backend, DeviceChoice]:
    """Load a model onto the first of `devices` that can load it, and return the engine and how it was chosen.

    Each device before the last that cannot is told by a Notice, which gives the reason. OpenVINO's engine runs in a
    process of its own unless it is `in_process`. `progress` is called with a Progress four times a second meanwhile, in
    this thread; what it raises ends the load. Raises DeviceError or BackendError, and ModelFolderError for weights that
    are damaged.
    """
    *first, last = devices
    for device, following in zip(first, devices[1:], strict=True):
        try:
            return _load(source, device, options, in_process=in_process, progress=progress)
        except BackendError as exc:
            warnings.warn(f"{device} cannot be used: {exc}. {following} is tried instead", Notice, stacklevel=5)
    return _load(source, last, options, in_process=in_process, progress=progress)


@map_out_of_memory(BackendError)
def _load(
    source: ModelSource,
    device: str,
    options: Options,
    *,
    in_process: bool,
    progress: Callable[[Progress], None] | None,
) -> tuple[Backend, DeviceChoice]:
    choice, options = apply_tuned_settings(choose(device, source, options), source, options)
    if options.adapters and not choice.backend.runs_adapters:
        raise DeviceError(
            f"LoRA adapters are not supported on {choice.device}",
            hint="use the CPU, a GPU or PyTorch, or merge the adapter: "
            "`edge convert CHECKPOINT FOLDER --adapter DIR`; a server loads its adapters itself",
        )
    backend = choice.backend if in_process else isolate(choice.backend)

    def load() -> Backend:
        if progress is None:
            return backend.load(source, choice.device, options)
        return backend.load_with_progress(source, choice.device, options, progress)

    folder = source.model_folder
    if not options.verify or folder is None:
        return load(), choice
    with ExitStack() as undo:
        # In this process damaged weights must not be loaded at all.
        with verify_while_loading(folder, weights=backend.reads_weights, concurrently=backend.isolated):
            loaded = load()
            undo.callback(loaded.close)
        undo.pop_all()
    return loaded, choice
