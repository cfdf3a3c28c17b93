"""Loading a model folder with the int4 kernel, where it was built and can be used."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ....device.memory import MappedWeights
from ....errors import BackendError
from ....folder.ir_files import DECODER, LANGUAGE
from ....folder.model_folder import ModelFolder
from ...backend import Options
from .graph import count_weights, rewritten_folder
from .library import GROUP, find_library

# The kernel computes in f32. With bf16 around it, OpenVINO converts before and after each product.
_PRECISION = "f32"


@dataclass(frozen=True, slots=True)
class KernelFolder:
    """The folder to load, and the properties that the kernel needs; `used` tells whether the graph uses the kernel."""

    path: Path
    properties: dict[str, Any] = field(default_factory=dict)
    used: bool = False


@contextmanager
def kernel_folder(
    folder: ModelFolder, device: str, options: Options, name: str, *, sampled: bool = True
) -> Iterator[KernelFolder]:
    """Yield the folder from which to load the IR of this `name` within the block: with the kernel, or as it is.

    `sampled` is that of `rewrite_graph`: GenAI's paged pipeline reads the logits of sampled tokens alone. Raises
    BackendError if the options ask for the kernel and it cannot be used.
    """
    obstacle, cure = (
        find_obstacle(folder, device, options),
        "leave out int4_kernel: OpenVINO's own products are used then",
    )
    library = None
    if options.int4_kernel is not False and not obstacle:
        library = find_library()
        obstacle, cure = "it is not built for this machine and OpenVINO", "build it by `edge kernel`"
    if library is not None:
        with rewritten_folder(folder.path, name, sampled=sampled) as rewritten:
            if rewritten is not None:
                added = {"extensions": [str(library)], "INFERENCE_PRECISION_HINT": options.precision or _PRECISION}
                yield KernelFolder(rewritten, added, used=True)
                return
        obstacle = f"{folder.path} has no int4 matrices in groups of {GROUP} without zero points"
        cure = "convert the checkpoint with the recipe int4"
    if options.int4_kernel:
        raise BackendError(f"the int4 kernel cannot be used: {obstacle}", hint=cure)
    yield KernelFolder(folder.path)


def find_obstacle(folder: ModelFolder, device: str, options: Options) -> str:
    """Return why the kernel cannot run this model with these options; "" if it can."""
    if device != "CPU":
        return f"it runs on CPUs, not on {device}"
    if options.adapters:
        return "LoRA adapters are not supported"
    if options.activation_group not in (None, GROUP):
        return f"it rounds activations in groups of {GROUP}, not of {options.activation_group}"
    return ""


def find_mapped_weights(folder: ModelFolder, device: str, options: Options) -> MappedWeights | None:
    """Return the weights that the kernel will read from the mapped file; None if it will not be used."""
    if options.int4_kernel is False or find_obstacle(folder, device, options) or not find_library():
        return None
    return count_weights(folder.path / f"{LANGUAGE if folder.manifest.vision else DECODER}.xml")
