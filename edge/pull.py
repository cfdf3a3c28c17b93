"""A model of the hub for the store: what it costs, its download, its conversion, and the removal of the download."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.device.memory import format_bytes
from runtime.errors import CheckpointError, ConversionError, DiskFull
from runtime.system.files import folder_bytes, is_plain_folder, remove

from .hub.resolve import download_checkpoint, download_size, download_texts
from .import_path import require_own_package
from .store.model_name import ModelName
from .store.model_store import STORE_VARIABLE, store_root

if TYPE_CHECKING:
    from convert.job import Steps
    from convert.recipe import Recipe
    from runtime.checkpoint.architecture import Architecture


@dataclass(frozen=True, slots=True)
class PullPlan:
    """A download and a conversion into the store, before they start. Sizes are in bytes.

    - `name`: the model; its recipe is None where only the weights of a quantised checkpoint show which one it is.
    - `missing`: what is still to be downloaded of `total`, to the folder `cache`; all None if the hub does not answer.
    - `disk`: the model's size; `memory` for its conversion, `running` for a chat on a CPU.
    - `obliges`: what the model's licence asks of those who use it.
    """

    name: ModelName
    hub: str
    revision: str | None
    cache: Path | None
    total: int | None
    missing: int | None
    disk: int
    memory: int
    running: int
    licence: str
    obliges: str


def plan_pull(
    name: ModelName, recipe: str | None = None, *, revision: str | None = None, hub: str = "huggingface"
) -> PullPlan:
    """Ask the hub for the sizes of a model's files, download the small ones, and compute what the model needs.

    Raises CheckpointError for a model that the hub does not have or that is no GLM-4, ConversionError for a recipe that
    cannot convert it or a machine that is too small, DiskFull for its disks.
    """
    require_own_package("convert")
    from convert.estimate import OTHER_FILE_BYTES, conversion_memory, loaded_bytes, model_sizes, tower_bytes
    from convert.recipe import default_recipe, get_recipe
    from runtime.checkpoint.architecture import read_architecture, read_config
    from runtime.checkpoint.quantized.config import read_quantization
    from runtime.checkpoint.safetensors_folder import SafetensorsFolder

    named = get_recipe(recipe) if recipe else None  # refuses a name before it asks the hub
    try:
        size = download_size(name.name, revision=revision, hub=hub)
    except CheckpointError:  # raised again below, unless the files are in the cache
        size = None
    folder = download_texts(name.name, revision=revision, hub=hub)
    config = read_config(folder)
    architecture, quantised = read_architecture(config), read_quantization(config) is not None
    chosen = named or get_recipe(default_recipe(vision=architecture.vision is not None))
    _require_supported(chosen, architecture, quantised=quantised)
    sizes = model_sizes(architecture, chosen)
    tower = tower_bytes(architecture.vision, chosen) if architecture.vision else 0
    entry = name.entry
    plan = PullPlan(
        name=ModelName(name.name, None if quantised and recipe is None else chosen.name),
        hub=hub,
        revision=revision,
        cache=size.cache if size else None,
        total=size.total if size else None,
        missing=size.missing if size else None,
        disk=sizes.weights + tower + OTHER_FILE_BYTES,
        memory=conversion_memory(architecture, chosen, sizes, quantised=quantised),
        running=loaded_bytes(architecture, sizes),
        licence=entry.licence if entry else SafetensorsFolder(folder).licence(),
        obliges=entry.obliges if entry else "",
    )
    _require_room(plan)
    return plan


def open_pull(plan: PullPlan, *, quiet: bool = False) -> "Steps":
    """Download the checkpoint, and return the steps of its conversion into the store. Both resume what an interrupted
    pull has left. Raises as `edge.convert` does."""
    from convert.pipeline import convert as convert_steps
    from convert.source.safetensors import SafetensorsSource

    path = download_checkpoint(plan.name.name, revision=plan.revision, hub=plan.hub, quiet=quiet)
    name = plan.name
    if name.recipe is None:
        name = ModelName(name.name, SafetensorsSource.open(path).default_recipe)
    root = store_root()
    root.mkdir(parents=True, exist_ok=True)
    return convert_steps(path, root / name.folder, name.recipe)


def download_bytes(plan: PullPlan) -> int:
    """Return the bytes of the download's folder on the disk."""
    return folder_bytes(plan.cache) if plan.cache else 0


def remove_download(plan: PullPlan) -> None:
    """Remove the checkpoint from the hub's cache, with all of its revisions. Links are not followed."""
    if plan.cache and is_plain_folder(plan.cache):
        remove(plan.cache)


def _require_supported(recipe: "Recipe", architecture: "Architecture", *, quantised: bool) -> None:
    """Raise ConversionError for a recipe that the conversion would reject after the download."""
    if recipe.keep_blocks and not quantised:
        raise ConversionError(
            f"the recipe {recipe.name} keeps weights that are quantised already, and this checkpoint has none",
            hint="choose another recipe: int4, int8 or bf16",
        )
    if architecture.vision is not None and recipe.vision_obstacle:
        raise ConversionError(
            f"the recipe {recipe.name} {recipe.vision_obstacle}, which is not supported for vision models",
            hint="choose another recipe: int4, int8 or bf16",
        )


def _require_room(plan: PullPlan) -> None:
    """Raise DiskFull or ConversionError if the disks of download and store, or the memory, have no room."""
    import psutil  # type: ignore[import-untyped]

    needs: dict[int, tuple[Path, int]] = {}
    for folder, nbytes in ((plan.cache, plan.missing or 0), (store_root(), plan.disk)):
        if folder is not None:
            place = next(one for one in (folder, *folder.parents) if one.exists())
            _, before = needs.get(place.stat().st_dev, (place, 0))
            needs[place.stat().st_dev] = (place, before + nbytes)
    for place, nbytes in needs.values():
        if (free := shutil.disk_usage(place).free) < nbytes:
            raise DiskFull(
                f"download and model need about {format_bytes(nbytes)} in {str(place)!r}, "
                f"but {format_bytes(free)} is free",
                hint=f"make room, or choose other folders: HF_HOME or MODELSCOPE_CACHE for downloads, "
                f"{STORE_VARIABLE} for models",
            )
    memory = psutil.virtual_memory().available + psutil.swap_memory().free
    if memory < plan.memory:
        raise ConversionError(
            f"the conversion needs about {format_bytes(plan.memory)} of memory, but {format_bytes(memory)} is free",
            hint="close other programs, or convert on a larger machine and copy the folder",
        )
