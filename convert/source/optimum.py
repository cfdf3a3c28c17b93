"""optimum-intel's own export and compression, run by its command line in a process of its own.

For its users, and as a reference for our exporter. It loads the whole model with torch, writes it uncompressed into a
temporary folder and has NNCF compress that, so that memory and disk grow with the model. Tokenizer, chat template,
verification and manifest are ours.
"""

import os
import subprocess
import sys
from collections.abc import Generator, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

from runtime.checkpoint.adapters.reference import AdapterLike
from runtime.checkpoint.architecture import Architecture
from runtime.errors import ConversionError
from runtime.progress import Progress
from runtime.system.files import rename_over
from runtime.system.installation import install_hint
from runtime.system.native_effects import TELEMETRY_PREAMBLE

from ..estimate import NNCF_BYTES, ConversionEstimate
from ..job import ConversionPlan, WrittenIr
from ..output.scratch import ScratchFolder
from ..recipe import PLAIN, Recipe
from .onnx_decoder import find_onnx_file
from .safetensors import SafetensorsSource

_COMMAND = f"{TELEMETRY_PREAMBLE}; import runpy; runpy.run_module('optimum.commands.optimum_cli', run_name='__main__')"
_FILES = ("openvino_model.xml", "openvino_model.bin")
_POLL_SECONDS = 0.5
_OWN_EXPORTER_HINT = "leave out --exporter: our own exporter supports it"


class OptimumSource(SafetensorsSource):
    """A folder of safetensors whose IR optimum-intel writes. Conversions do not resume."""

    packages: tuple[str, ...] = ("optimum-intel", "transformers", "torch")

    @classmethod
    def accepts(cls, path: Path) -> bool:
        """Accept folders of safetensors; a folder without weights is rejected when it is opened."""
        return not path.is_file() and find_onnx_file(path) is None

    @classmethod
    def open(cls, path: Path, *, context: int | None = None, adapters: Sequence[AdapterLike] = ()) -> Self:
        """Open the checkpoint; optimum-intel would read it with the context that it has, and without adapters."""
        if adapters:
            raise ConversionError("adapters are not supported with optimum-intel", hint=_OWN_EXPORTER_HINT)
        if context is not None:
            raise ConversionError("--context is not supported with optimum-intel", hint="leave out --exporter")
        return super().open(path)

    @property
    def default_recipe(self) -> str:
        """The recipe used when the user names none."""
        return PLAIN

    def reject_unsupported(self, recipe: Recipe) -> None:
        """Raise ConversionError where optimum-intel is missing, or does not support the checkpoint or the recipe."""
        if self.quantised:
            raise ConversionError(
                "exporting a quantised checkpoint with optimum-intel is not supported", hint="leave out --exporter"
            )
        super().reject_unsupported(recipe)
        reject_unsupported(self.checkpoint.architecture, recipe)

    def estimate(self, recipe: Recipe, tokens: int) -> ConversionEstimate:
        """Return disk and memory: the whole model with torch, or later the whole head with NNCF."""
        own, weights = super().estimate(recipe, tokens), self.weight_bytes()
        head = NNCF_BYTES * own.sizes.vocab * own.sizes.hidden
        return ConversionEstimate(own.sizes, own.disk + weights, own.memory + max(weights, head))

    def prepare(self, plan: ConversionPlan, place: ScratchFolder) -> None:
        """Empty the scratch folder."""
        place.clear()

    def write_ir(self, plan: ConversionPlan, folder: Path) -> Generator[Progress, None, WrittenIr]:
        """Run optimum-intel. Its weights have other names than ours, and there is no excerpt of one layer."""
        yield from self.check_weights()
        try:
            for _ in export(self.checkpoint.path, folder, plan.recipe):
                yield Progress("export", "optimum-intel")
        except ConversionError:
            self.refuse_changed()  # its process maps the files, and dies without a message if one is truncated
            raise
        yield Progress("export", done=1, total=1)
        note = f"the IR is optimum-intel's, exported with transformers {version('transformers')}"
        return WrittenIr(plan.estimate.sizes, (note,))


def reject_unsupported(architecture: Architecture, recipe: Recipe) -> None:
    """Raise ConversionError where optimum-intel is missing, or does not support the checkpoint or the recipe."""
    try:
        version("optimum-intel")
    except PackageNotFoundError:
        raise ConversionError("optimum-intel is not installed", hint=_install_hint()) from None
    if architecture.vision is not None:
        raise ConversionError("vision models are not supported with optimum-intel", hint=_OWN_EXPORTER_HINT)
    if architecture.name == "ChatGLMModel":
        raise ConversionError(
            "optimum-intel exports ChatGLMModel only with code from the checkpoint, which is never run",
            hint=_OWN_EXPORTER_HINT,
        )
    if (
        recipe.needs_calibration
        or recipe.ratio < 1
        or recipe.keep_blocks
        or (recipe.embedding_and_head or "").startswith("int4")
    ):
        raise ConversionError(f"the recipe {recipe.name} is not supported with optimum-intel", hint=_OWN_EXPORTER_HINT)
    if recipe.linear is None:
        raise ConversionError(
            f"the recipe {recipe.name} is not supported with optimum-intel: it changes the checkpoint's weights to f16",
            hint=f"choose another recipe, or {_OWN_EXPORTER_HINT}",
        )


def export(checkpoint: Path, folder: Path, recipe: Recipe) -> Iterator[None]:
    """Export the IR into `folder`, in a process that ends when the iterator is closed. Raise ConversionError."""
    with TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as name:
        result, log = Path(name) / "model", Path(name) / "log"
        tool = (sys.executable, "-P", "-c", _COMMAND, "export", "openvino", "--model", str(checkpoint))
        environment = os.environ | {"TMPDIR": name, "HF_HUB_OFFLINE": "1"}
        with log.open("wb") as out:
            process = subprocess.Popen(
                [*tool, *_options(recipe), str(result)], stdout=out, stderr=subprocess.STDOUT, env=environment
            )
            try:
                while process.poll() is None:
                    yield
                    _wait(process)
            finally:
                process.kill()
                process.wait()
        if process.returncode:
            raise _export_error(log.read_text(encoding="utf-8", errors="replace"))
        for file in _FILES:
            rename_over(result / file, folder / file)


def _options(recipe: Recipe) -> list[str]:
    options = ["--task", "text-generation-with-past", "--disable-convert-tokenizer"]
    linear = str(recipe.linear)
    symmetric = ["--sym"] if linear.endswith("_sym") else []
    if linear.startswith("int8"):
        return [*options, "--weight-format", "int8", *symmetric]
    group = ["--group-size", str(recipe.group_size), "--group-size-fallback", "adjust"]
    precision = ["--ratio", "1.0", "--backup-precision", str(recipe.embedding_and_head)]
    return [*options, "--weight-format", "int4", *symmetric, *group, *precision]


def _wait(process: "subprocess.Popen[bytes]") -> None:
    try:
        process.wait(_POLL_SECONDS)
    except subprocess.TimeoutExpired:
        return


def _export_error(log: str) -> ConversionError:
    last = next((line.strip() for line in reversed(log.splitlines()) if line.strip()), "no message")
    if "torchvision" in log:
        hint = "`pip uninstall torchvision`: it is for another version of torch, and nothing here uses it"
    elif "version of transformers" in log.lower() or "transformers version" in log.lower():
        hint = _install_hint()
    else:
        hint = _OWN_EXPORTER_HINT
    return ConversionError(f"optimum-intel failed: {last[:300]}", hint=hint)


def _install_hint() -> str:
    return f"{install_hint('optimum')}, in an environment of its own"
