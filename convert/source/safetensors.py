"""Folders of safetensors and GGUF files, written as our own graph, weight by weight."""

import re
from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Any, Self

from openvino import Node

from runtime.checkpoint.adapters.reference import AdapterLike
from runtime.checkpoint.checkpoint import Checkpoint
from runtime.checkpoint.tensors import CheckpointTensors, Tensor
from runtime.errors import ConversionError
from runtime.folder.ir_files import STUB
from runtime.folder.manifest import FileRecord
from runtime.progress import Progress

from ..check import verify
from ..check.tower import check_tower
from ..estimate import ConversionEstimate, estimate_conversion, part_bytes
from ..job import ConversionPlan, Steps, WrittenIr, tool_versions
from ..output.ir_writer import IrWriter
from ..output.journal import Journal, journal_path
from ..output.scratch import ScratchFolder, save_ir
from ..parts import ModelPart, build_stub, model_parts
from ..recipe import PLAIN, RECIPES, STORED, Recipe, default_recipe
from ..weights.activations import Activations
from ..weights.compress import compress
from ..weights.nncf import record_compression
from ..weights.sensitivity import Sensitivity, candidates, measure_sensitivities, most_sensitive
from ..weights.stored import stored_form
from .damage import DamageCheck


class SafetensorsSource:
    """A folder of safetensors, or a GGUF file. An interrupted conversion resumes after the last finished weight."""

    packages: tuple[str, ...] = ()

    def __init__(self, checkpoint: Checkpoint, tensors: CheckpointTensors) -> None:
        self.checkpoint, self.tensors = checkpoint, tensors
        self._damage = _UnmergedCheck(DamageCheck(tensors, checkpoint.tokenizer), tensors)
        self._bytes: int | None = None
        self._journals: dict[str, Journal] = {}  # by part

    @classmethod
    def accepts(cls, path: Path) -> bool:
        """Accept every path: opening it names what is wrong with it."""
        return True

    @classmethod
    def open(cls, path: Path, *, context: int | None = None, adapters: Sequence[AdapterLike] = ()) -> Self:
        """Open the checkpoint; weights are read when they are used, since a truncated mapped file ends the process."""
        checkpoint = Checkpoint.open(path, context=context, adapters=adapters)
        return cls(checkpoint, checkpoint.weights(mapped=False))

    @property
    def quantised(self) -> tuple[str, ...]:
        """The types of the matrices that are quantised already."""
        return self.tensors.quantized_types

    @property
    def default_recipe(self) -> str:
        """The recipe used when the user names none: `stored` for matrices in OpenVINO's int4, which would otherwise be
        quantised a second time."""
        forms = (stored_form(self.tensors.tensor(name)) for name in self.tensors.names)
        if any(form is not None and form.element.bitwidth == 4 for form in forms):
            return STORED
        return default_recipe(vision=self.checkpoint.architecture.vision is not None)

    def reject_unsupported(self, recipe: Recipe) -> None:
        """Raise ConversionError for a recipe that cannot be applied to this checkpoint."""
        if recipe.keep_blocks and not self.quantised:
            raise ConversionError(
                f"the recipe {recipe.name} keeps weights that are quantised already, and this checkpoint has none",
                hint="choose another recipe: int4, int8 or bf16",
            )
        if self.checkpoint.architecture.vision is None:
            return
        if self.quantised:
            raise ConversionError(
                "a vision model that is quantised already is not supported", hint="convert the original checkpoint"
            )
        if obstacle := recipe.vision_obstacle:
            raise ConversionError(
                f"the recipe {recipe.name} {obstacle}, which is not supported for vision models",
                hint="choose another recipe: int4, int8 or bf16",
            )

    def estimate(self, recipe: Recipe, tokens: int) -> ConversionEstimate:
        """Return disk and memory for a conversion with so many tokens of calibration texts."""
        return estimate_conversion(self.tensors, recipe, tokens=tokens)

    def prepare(self, plan: ConversionPlan, place: ScratchFolder) -> None:
        """Open the journals of this conversion; remove all other files."""
        job = self._job(plan)
        files = [place.path / f"{part.name}.bin" for part in self._parts(plan.recipe)]
        self._journals = {file.stem: Journal.open(file, job) for file in files}
        place.clear(but={path.name for file in files for path in (file, journal_path(file))})

    def write_ir(self, plan: ConversionPlan, folder: Path) -> Generator[Progress, None, WrittenIr]:
        """Compress the weights, write the IR, and check each weight for damage."""
        if plan.recipe.needs_calibration or plan.recipe.ratio < 1:  # these read the weights before they are compressed
            yield from self.check_weights()
        sensitive: frozenset[str] = frozenset()
        estimate = plan.estimate
        if plan.recipe.ratio < 1:
            sensitive = yield from self._measure(plan.recipe)
            estimate = estimate_conversion(self.tensors, plan.recipe, sensitive)
        activations = Activations(self.tensors, plan.recipe, plan.calibration) if plan.calibration else None
        yield Progress("compress", total=self.weight_bytes())
        written = _Written([*self.tensors.notes])
        for part in self._parts(plan.recipe):
            yield from self._write_part(part, folder, written, sensitive, activations)
        error: float | None = None
        if self.checkpoint.architecture.vision is not None:
            save_ir(build_stub(), folder / f"{STUB}.xml")
        yield Progress("save", done=1, total=1)
        if self.checkpoint.architecture.vision is not None:
            error = yield from check_tower(folder, self.tensors, plan.recipe)
        return WrittenIr(
            estimate.sizes, tuple(written.notes), written.excerpt, written.files, True, estimate.tower, error
        )

    def _parts(self, recipe: Recipe) -> tuple[ModelPart, ...]:
        return model_parts(self.checkpoint.architecture, recipe)

    def _write_part(
        self,
        part: ModelPart,
        folder: Path,
        written: "_Written",
        sensitive: frozenset[str],
        activations: Activations | None,
    ) -> Steps:
        """Compress the weights of one IR, and write it."""
        weights: dict[str, Node] = {}
        size, total = part_bytes(self.tensors, part, sensitive), self.weight_bytes()
        with IrWriter(folder / f"{part.name}.xml", size, self._journals.get(part.name)) as ir:
            for weight in compress(
                _PartTensors(self.tensors, part.tensors),
                part.recipe,
                ir,
                sensitive,
                activations,
                damage=self._damage,
                uncompressed=part.exact,
            ):
                weights[weight.name] = weight.node
                written.done += weight.nbytes
                note = re.sub(r"[0-9]+", "N", weight.name, count=1) + f": {weight.note}"  # the same in every layer
                if weight.note and note not in written.notes:
                    written.notes.append(note)
                detail = f"{weight.name} ({weight.note})" if weight.note else weight.name
                yield Progress("compress", detail, written.done, total)
            if written.done == total:
                yield Progress("save", f"{part.name}.xml")
            model = part.build(weights.__getitem__)
            record_compression(model, part.recipe)
            ir.save(model)
            if part.build_excerpt is not None:
                written.excerpt = ir.xml(part.build_excerpt(weights.__getitem__))
            written.files[f"{part.name}.bin"] = ir.record

    def check_weights(self) -> Steps:
        """Check all weights for damage."""
        total, done = self.weight_bytes(), 0
        for name in self.tensors.names:
            yield Progress("check", name, done, total)
            tensor = self.tensors.tensor(name)
            self._damage.check(tensor)
            done += tensor.nbytes
            self.tensors.release()

    def weight_bytes(self) -> int:
        """Return the bytes of the checkpoint's weights, as often as they are compressed."""
        if self._bytes is None:
            names = chain.from_iterable(part.tensors for part in self._parts(RECIPES[PLAIN]))
            self._bytes = sum(self.tensors.tensor(name).nbytes for name in names)
        return self._bytes

    def reference_logits(self, plan: ConversionPlan) -> verify.Logits:
        """Return the checkpoint's own logits, computed a layer at a time."""
        from ..check.reference import logits

        return logits(self.tensors, plan.token_ids)

    def fingerprint(self) -> str:
        """Return a sha256 over config and weight files."""
        return self.tensors.fingerprint()

    def refuse_changed(self) -> None:
        """Raise CheckpointError where a file has been written to since it was opened."""
        self.tensors.require_unchanged()

    def close(self) -> None:
        """Close the weight files."""
        self.tensors.close()

    def _measure(self, recipe: Recipe) -> Generator[Progress, None, frozenset[str]]:
        """Return the matrices that a mixed recipe keeps in 8 bits."""
        names = candidates(self.checkpoint.architecture, recipe)
        total, done = sum(self.tensors.tensor(name).nbytes for name in names), 0
        yield Progress("measure", total=total)
        found: list[Sensitivity] = []
        for sensitivity in measure_sensitivities(self.tensors, recipe):
            found.append(sensitivity)
            done += sensitivity.nbytes
            yield Progress("measure", sensitivity.name, done, total)
        return most_sensitive(found, recipe.ratio)

    def _job(self, plan: ConversionPlan) -> dict[str, Any]:
        """Return everything that the bytes of the weights depend on."""
        texts = sha256(b"".join(ids.tobytes() for ids in plan.calibration)).hexdigest()
        return {
            "checkpoint": self.tensors.stat_fingerprint(),
            "adapters": [asdict(adapter) for adapter in self.checkpoint.manifest.adapters],
            "recipe": asdict(plan.recipe),
            "calibration": texts,
            "versions": tool_versions(),
        }


@dataclass(slots=True)
class _Written:
    """What has been written so far: notes on the weights, their bytes in the checkpoint, the excerpt, and the files."""

    notes: list[str]
    done: int = 0
    excerpt: str | None = None
    files: dict[str, FileRecord] = field(default_factory=dict)


class _PartTensors:
    """The tensors of one part."""

    def __init__(self, tensors: CheckpointTensors, names: tuple[str, ...]) -> None:
        self._tensors, self.names = tensors, names

    def tensor(self, name: str) -> Tensor:
        """Return the tensor of that name."""
        return self._tensors.tensor(name)

    def release(self) -> None:
        """Return the memory of tensors that were read."""
        self._tensors.release()


class _UnmergedCheck:
    """The check for damage, of tensors as they are in their files: what an adapter adds would hide it."""

    def __init__(self, damage: DamageCheck, tensors: CheckpointTensors) -> None:
        self._damage, self._tensors = damage, tensors

    def check(self, tensor: Tensor) -> None:
        """Check the tensor of that name in its file."""
        self._damage.check(self._tensors.unmerged(tensor.name))
