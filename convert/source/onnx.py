"""ONNX exports: their own graph, its weights compressed one at a time, its cache turned into states."""

from collections.abc import Generator, Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Self

from runtime.checkpoint.adapters.reference import AdapterLike
from runtime.checkpoint.checkpoint import Checkpoint
from runtime.errors import CheckpointError, ConversionError
from runtime.progress import Progress

from ..check import verify
from ..estimate import OTHER_FILE_BYTES, ConversionEstimate, loaded_bytes, model_sizes
from ..job import ConversionPlan, WrittenIr
from ..output.ir_writer import IrWriter
from ..output.scratch import ScratchFolder
from ..recipe import PLAIN, Recipe
from ..weights.compress import compress
from ..weights.nncf import record_compression
from .damage import DamageCheck
from .onnx_decoder import OnnxDecoder, find_onnx_file, weight_files

NOTE = (
    "an ONNX graph, its attention in single operations: no PagedAttention, hence one request at a time, no prefix cache"
)
# Measured by `python -m benchmarks.conversion`: bytes of memory for each weight while the whole file runs in f32.
_REFERENCE_BYTES = 10


class OnnxSource:
    """An ONNX file, with config.json and tokenizer beside it or in the folder above. Conversions do not resume."""

    packages: tuple[str, ...] = ()

    def __init__(self, file: Path, checkpoint: Checkpoint) -> None:
        self.file, self.checkpoint = file, checkpoint
        self._decoder: OnnxDecoder | None = None
        self._logits: verify.Logits = ()

    @classmethod
    def accepts(cls, path: Path) -> bool:
        """Accept an .onnx file, and a folder that has one and no safetensors."""
        return find_onnx_file(path) is not None

    @classmethod
    def open(cls, path: Path, *, context: int | None = None, adapters: Sequence[AdapterLike] = ()) -> Self:
        """Open config and tokenizer; the graph is read by `prepare`, when its memory is known to suffice."""
        if adapters:
            raise ConversionError(
                "an adapter cannot be merged into an ONNX file", hint="merge it into the checkpoint, in safetensors"
            )
        if context is not None:
            raise ConversionError(
                "the context of an exported graph cannot be extended", hint="convert the checkpoint, in safetensors"
            )
        file = find_onnx_file(path) or path
        return cls(file, Checkpoint.open(_config_folder(file)))

    @property
    def decoder(self) -> OnnxDecoder:
        """The graph; read once."""
        if self._decoder is None:
            self._decoder = OnnxDecoder.open(self.file, self.checkpoint.architecture)
        return self._decoder

    @property
    def quantised(self) -> tuple[str, ...]:
        """Empty: quantised exports are rejected."""
        return ()

    @property
    def default_recipe(self) -> str:
        """The recipe used when the user names none."""
        return PLAIN

    def reject_unsupported(self, recipe: Recipe) -> None:
        """Raise ConversionError for a vision model, and for recipes that need the checkpoint itself."""
        if self.checkpoint.architecture.vision is not None:
            raise ConversionError(
                "an ONNX file of a vision model is not supported", hint="convert the checkpoint, in safetensors"
            )
        if recipe.keep_blocks or recipe.needs_calibration or recipe.ratio < 1:
            raise ConversionError(
                f"the recipe {recipe.name} is not for an ONNX file", hint="choose another recipe: int4, int8 or bf16"
            )

    def estimate(self, recipe: Recipe, tokens: int) -> ConversionEstimate:
        """Return disk and memory; the file runs as a whole for the reference."""
        # The head has a matrix of its own, even where it is tied; the recipe bf16 may keep weights in f32.
        architecture = replace(self.checkpoint.architecture, tied_embeddings=False)
        sizes = model_sizes(architecture, recipe, dict.fromkeys((name for name, _ in architecture.shapes()), 32))
        weights = sum(prod(shape) for _, shape in architecture.shapes())
        files = sum(file.stat().st_size for file in weight_files(self.file))
        memory = max(_REFERENCE_BYTES * weights, loaded_bytes(architecture, sizes)) + files
        return ConversionEstimate(sizes, sizes.weights + OTHER_FILE_BYTES, memory)

    def prepare(self, plan: ConversionPlan, place: ScratchFolder) -> None:
        """Empty the scratch folder, read the graph and check its norms for damage."""
        place.clear()
        damage = DamageCheck(self.decoder, self.checkpoint.tokenizer)
        for norm in self.decoder.norms():
            damage.check(norm)

    def write_ir(self, plan: ConversionPlan, folder: Path) -> Generator[Progress, None, WrittenIr]:
        """Run the file for its own logits, then replace its weights by compressed ones and write the IR."""
        yield Progress("verify", "logits of the ONNX file", 0, 3)
        decoder = self.decoder
        self._logits = decoder.logits(plan.token_ids)
        total, done = sum(decoder.tensor(name).nbytes for name in decoder.names), 0
        yield Progress("compress", total=total)
        damage = DamageCheck(decoder, self.checkpoint.tokenizer)
        with IrWriter(folder / "openvino_model.xml", plan.estimate.disk) as ir:
            for weight in compress(decoder, plan.recipe, ir, damage=damage):
                decoder.replace_weight(weight)
                done += weight.nbytes
                yield Progress("compress", weight.name, done, total)
            yield Progress("save", "openvino_model.xml")
            model = decoder.stateful()
            record_compression(model, plan.recipe)
            ir.save(model)
            files = {"openvino_model.bin": ir.record}
        yield Progress("save", done=1, total=1)
        return WrittenIr(plan.estimate.sizes, (NOTE,), files=files, paged=False)

    def reference_logits(self, plan: ConversionPlan) -> verify.Logits:
        """Return the logits that `write_ir` computed before it replaced the weights."""
        return self._logits

    def fingerprint(self) -> str:
        """Return a sha256 over the file and those that contain its weights."""
        return self.decoder.fingerprint()

    def refuse_changed(self) -> None:
        """Raise CheckpointError where a file has been written to since it was opened."""
        self.decoder.require_unchanged()

    def close(self) -> None:
        """Release the graph."""
        self._decoder = None


def _config_folder(file: Path) -> Path:
    """Return the folder with config.json: the file's, or the one above it (…/onnx/model.onnx)."""
    if not file.is_file():
        raise CheckpointError(f"there is no file {str(file)!r}", hint="pass the .onnx file of the decoder")
    return file.parent if (file.parent / "config.json").is_file() else file.parent.parent
