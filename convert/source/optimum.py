"""optimum-intel's own export and compression, run by its command line in a process of its own.

For its users, and as a reference of ours. It loads the whole model with torch, writes it uncompressed into a temporary
folder and has NNCF compress that, so that memory and disk grow with the model. Tokenizer, chat template, verification
and manifest of the folder are ours.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory

from runtime.checkpoint.architecture import Architecture
from runtime.errors import ConversionError
from runtime.system.native_effects import TELEMETRY_PREAMBLE

from ..estimate import Needs
from ..recipe import Recipe

PACKAGES = ("optimum-intel", "transformers", "torch")
_TOOL = f"{TELEMETRY_PREAMBLE}; import runpy; runpy.run_module('optimum.commands.optimum_cli', run_name='__main__')"
_FILES = ("openvino_model.xml", "openvino_model.bin")
_EVERY = 0.5  # seconds
_TEMPORARY = 11  # bytes that NNCF takes for each weight it is given
_INSTALL = 'pip install "glm4-edge[optimum]", in an environment of its own'
_OURS = "leave out --exporter: our own takes it"


def refuse(architecture: Architecture, recipe: Recipe) -> None:
    """Raises ConversionError where optimum-intel is not here, or does not take the checkpoint or the recipe."""
    try:
        version("optimum-intel")
    except PackageNotFoundError:
        raise ConversionError("optimum-intel is not installed", hint=_INSTALL) from None
    if architecture.name == "ChatGLMModel":
        raise ConversionError(
            "optimum-intel exports ChatGLMModel only by code that comes with the checkpoint, and none of that is run",
            hint=_OURS,
        )
    if recipe.calibrated or recipe.ratio < 1 or recipe.take_over or (recipe.ends or "").startswith("int4"):
        raise ConversionError(f"optimum-intel is not asked for the recipe {recipe.name}", hint=_OURS)
    if recipe.linear is None:
        raise ConversionError(
            f"optimum-intel has nothing like the recipe {recipe.name}: it changes the checkpoint's weights to f16",
            hint=f"take another recipe, or {_OURS}",
        )


def needs(own: Needs, stored: int) -> Needs:
    """What it takes for a checkpoint of `stored` bytes, where our exporter takes `own`: the whole model with torch, or
    later the whole head with NNCF."""
    head = own.sizes.vocab * own.sizes.hidden
    return Needs(own.sizes, own.disk + stored, own.memory + max(stored, _TEMPORARY * head))


def export(checkpoint: Path, folder: Path, recipe: Recipe) -> Iterator[None]:
    """Puts the IR into `folder`; yields while that goes on, and ends it when closed. Raises ConversionError."""
    with TemporaryDirectory(dir=folder) as name:
        result, log = Path(name) / "model", Path(name) / "log"
        tool = (sys.executable, "-P", "-c", _TOOL, "export", "openvino", "--model", str(checkpoint))
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
            raise _explained(log.read_text(encoding="utf-8", errors="replace"))
        for file in _FILES:
            (result / file).rename(folder / file)


def _options(recipe: Recipe) -> list[str]:
    options = ["--task", "text-generation-with-past", "--disable-convert-tokenizer"]
    assert recipe.linear is not None
    assert recipe.ends is not None
    symmetric = ["--sym"] if recipe.linear.endswith("_sym") else []
    if recipe.linear.startswith("int8"):
        return [*options, "--weight-format", "int8", *symmetric]
    group = ["--group-size", str(recipe.group_size), "--group-size-fallback", "adjust"]
    return [
        *options,
        "--weight-format",
        "int4",
        *symmetric,
        *group,
        "--ratio",
        "1.0",
        "--backup-precision",
        recipe.ends,
    ]


def _wait(process: "subprocess.Popen[bytes]") -> None:
    try:
        process.wait(_EVERY)
    except subprocess.TimeoutExpired:
        return


def _explained(log: str) -> ConversionError:
    last = next((line.strip() for line in reversed(log.splitlines()) if line.strip()), "it says nothing")
    if "torchvision" in log:
        hint = "`pip uninstall torchvision`: it belongs to another torch, and nothing here uses it"
    elif "version of transformers" in log.lower() or "transformers version" in log.lower():
        hint = _INSTALL
    else:
        hint = _OURS
    return ConversionError(f"optimum-intel failed: {last[:300]}", hint=hint)
