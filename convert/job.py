"""A conversion's plan, progress and source of checkpoints, and the text files and manifest of the result."""

import json
from collections.abc import Generator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Literal, Protocol, Self

import numpy as np
import numpy.typing as npt

from runtime.chat_templates import file_name
from runtime.checkpoint.adapters.reference import AdapterLike
from runtime.checkpoint.architecture import CHECKPOINT_CONFIG
from runtime.checkpoint.checkpoint import Checkpoint
from runtime.checkpoint.files.small_files import MAX_LICENCE_BYTES, read_file
from runtime.checkpoint.quantized.config import QUANTIZATION_KEYS
from runtime.checkpoint.role_tokens import require_special_stop_tokens
from runtime.errors import CheckpointError
from runtime.folder.manifest import FileRecord, Manifest, ModelSizes
from runtime.progress import Progress
from runtime.prompt.shifts import shift_numbers
from runtime.prompt.template import ChatTemplate, TextPrompt
from runtime.text import quoted
from runtime.version import VERSION

from .check import verify
from .estimate import ConversionEstimate, describe_devices
from .output.scratch import ScratchFolder
from .recipe import Recipe
from .samples import Sample
from .weights import calibration

Steps = Generator[Progress, None, None]
Exporter = Literal["edge", "optimum"]


@dataclass(frozen=True, slots=True)
class ConversionPlan:
    """The plan of a conversion, made before its weights are read. `token_ids` are the beginnings of the `prompts`, by
    which the result is verified; `calibration` are the token ids of the calibration texts."""

    recipe: Recipe
    prompts: list[TextPrompt]
    token_ids: verify.TokenIds
    estimate: ConversionEstimate
    calibration: Sequence[npt.NDArray[np.int64]] = ()


@dataclass(frozen=True, slots=True)
class WrittenIr:
    """The IR in the scratch folder.

    `notes` list its differences from the recipe. `excerpt` is the XML of the model's first layer between embedding and
    head, over the same .bin, if our exporter wrote it; `files` are the records of files whose hashes are known already.
    `paged` is False for a graph without PagedAttention. `tower` counts the bytes of an image tower's weights, and
    `tower_error` is its largest difference from the checkpoint's.
    """

    sizes: ModelSizes
    notes: tuple[str, ...]
    excerpt: str | None = None
    files: Mapping[str, FileRecord] = field(default_factory=dict)
    paged: bool = True
    tower: int = 0
    tower_error: float | None = None


class Source(Protocol):
    """An open checkpoint, as `pipeline.convert` uses it. Each kind is a file in `source/`, and a line in
    `pipeline.SOURCES`."""

    packages: tuple[str, ...]
    """Further packages whose versions the manifest records."""

    @classmethod
    def accepts(cls, path: Path) -> bool:
        """Return whether the checkpoint at `path` is of this kind."""
        ...

    @classmethod
    def open(cls, path: Path, *, context: int | None = None, adapters: Sequence[AdapterLike] = ()) -> Self:
        """Open the checkpoint at `path`; `context` extends its context to so many tokens, and LoRA `adapters` ("DIR" or
        "DIR@WEIGHT") are merged into it.

        Raise CheckpointError or TemplateError, and ConversionError if this kind cannot be extended, or merges none.
        """
        ...

    @property
    def checkpoint(self) -> Checkpoint:
        """Config, tokenizer, chat template and sampling."""
        ...

    @property
    def quantised(self) -> tuple[str, ...]:
        """The types of the matrices that are quantised already."""
        ...

    @property
    def default_recipe(self) -> str:
        """The recipe used when the user names none."""
        ...

    def reject_unsupported(self, recipe: Recipe) -> None:
        """Raise ConversionError for a recipe that cannot be applied to this source."""
        ...

    def estimate(self, recipe: Recipe, tokens: int) -> ConversionEstimate:
        """Return disk and memory for a conversion with so many tokens of calibration texts."""
        ...

    def prepare(self, plan: ConversionPlan, place: ScratchFolder) -> None:
        """Remove from the scratch folder whatever this conversion cannot resume from."""
        ...

    def write_ir(self, plan: ConversionPlan, folder: Path) -> Generator[Progress, None, WrittenIr]:
        """Write the IR into `folder`."""
        ...

    def reference_logits(self, plan: ConversionPlan) -> verify.Logits:
        """Return the checkpoint's own logits for the plan's token ids; called after `write_ir`."""
        ...

    def fingerprint(self) -> str:
        """Return a sha256 over the weight files."""
        ...

    def refuse_changed(self) -> None:
        """Raise CheckpointError where a file has been written to since it was opened."""
        ...

    def close(self) -> None:
        """Close the checkpoint's files."""
        ...


def make_plan(source: Source, recipe: Recipe, samples: Sequence[Sample], *, built_in: bool = False) -> ConversionPlan:
    """Plan a conversion. `samples` are its calibration texts, `built_in` ones or the user's.

    Raise CheckpointError, ConversionError or TemplateError for what cannot be converted.
    """
    source.reject_unsupported(recipe)
    checkpoint = source.checkpoint
    require_special_stop_tokens(checkpoint.generation["eos_token_id"], checkpoint.tokenizer)
    special = checkpoint.manifest.special_tokens.keys()
    template = None if checkpoint.templates is None else ChatTemplate(checkpoint.templates, checkpoint.family, special)
    texts = calibration.token_ids(samples, checkpoint.family, template, checkpoint.tokenizer, built_in=built_in)
    texts = calibration.at_most(texts, recipe.calibration_tokens)
    prompts = verify.verification_prompts(checkpoint.family, template)
    token_ids = verify.token_ids(prompts, checkpoint.tokenizer)
    return ConversionPlan(recipe, prompts, token_ids, source.estimate(recipe, sum(map(len, texts))), texts)


def copy_text_files(source: Checkpoint, folder: Path) -> None:
    """Write the checkpoint's configuration, chat template and licences into `folder`."""
    # The IR's weights are not in the checkpoint's quantisation: other tools would look for its tensors.
    config = {key: value for key, value in source.config.items() if key not in QUANTIZATION_KEYS}
    architecture = source.architecture
    if architecture.vision is not None:
        (folder / CHECKPOINT_CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        (folder / "preprocessor_config.json").write_text("{}\n", encoding="utf-8")
        # GenAI's simplest kind of vision model; its embeddings begin with the shifts of their positions.
        width = architecture.hidden + shift_numbers(architecture.rope_sections)
        config = {"model_type": "llava", "hidden_size": width}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    (folder / "generation_config.json").write_text(json.dumps(source.generation, indent=2) + "\n", encoding="utf-8")
    for name, template in source.templates.named.items() if source.templates else ():
        (folder / file_name(name)).write_text(template, encoding="utf-8", newline="")
    for licence in source.path.glob("LICENSE*"):
        if (text := read_file(source.path, licence.name, MAX_LICENCE_BYTES, within=True)) is None:
            continue
        if not licence.name.isprintable():
            raise CheckpointError(
                f"the licence file {quoted(licence.name)} has unprintable characters in its name",
                hint="rename or remove it",
            )
        (folder / licence.name).write_bytes(text)


def build_manifest(
    source: Source, plan: ConversionPlan, written: WrittenIr, figures: verify.VerificationFigures
) -> Manifest:
    """Return the manifest of the model folder. Reads all weight files for their hash."""
    checkpoint = source.checkpoint
    notes, vision = (*checkpoint.manifest.notes, *written.notes), checkpoint.manifest.vision
    if checkpoint.templates is None:
        notes = (*notes, "no chat template: a base model, for completion only")
    if source.quantised:
        kinds = ", ".join(source.quantised)
        notes = (*notes, f"made from weights in {kinds}: the verification does not measure what that quantisation lost")
    return replace(
        checkpoint.manifest,
        recipe=plan.recipe.name,
        source=replace(checkpoint.manifest.source, fingerprint=source.fingerprint()),
        versions=tool_versions(*source.packages),
        devices=describe_devices(plan.recipe, checkpoint.architecture, written.sizes, written.tower),
        sizes=written.sizes,
        verification=asdict(figures) | ({} if written.tower_error is None else {"tower_error": written.tower_error}),
        notes=notes,
        paged=written.paged,
        vision=vision and replace(vision, nbytes=written.tower),
    )


def tool_versions(*packages: str) -> dict[str, str]:
    """Return the versions of this package, of what it converts with, and of further `packages`."""
    names = ("openvino", "openvino-tokenizers", "nncf", "tokenizers", "transformers", *packages)
    return {"glm4-edge": VERSION} | {name: version(name) for name in names}
