"""The image tower of a converted model against its checkpoint's, stage by stage: a layer, a convolution, a GLU.

Each stage of the IR runs on a picture of a few patches with its weights as they are on the disk, beside the same in
numpy with those of the checkpoint: in memory is one stage. What the checkpoint's stage makes is the next one's input.
"""

from collections.abc import Generator
from pathlib import Path

import numpy as np
import openvino as ov
from openvino import PartialShape, Type
from openvino import opset13 as ops

from runtime.backends.openvino.genai import error_line
from runtime.checkpoint.tensors import CheckpointTensors
from runtime.errors import VerificationError
from runtime.folder.ir_files import TOWER
from runtime.progress import Progress

from ..recipe import Recipe
from ..vision.stage import Floats, TowerStage
from ..vision.towers import small_picture_stages
from .ir_weights import IrWeights
from .reference import compile_on_cpu, named_input

# Of a stage, relative to its result, or to what a layer adds to its input. In int8, random weights of a tiny tower
# have up to 0.12 (those of a wide one a tenth of that), and wrong weights over 1.
_MAX_ERROR = 0.4
_MAX_EXACT_ERROR = 0.002
_HINT = "convert it again; if it fails again, please report this"


def check_tower(folder: Path, checkpoint: CheckpointTensors, recipe: Recipe) -> Generator[Progress, None, float]:
    """Compare the tower in `folder` with the checkpoint's; the generator's value is the largest relative difference of
    a stage. Raises VerificationError."""
    vision = checkpoint.architecture.vision
    assert vision is not None, "a text model"
    shape, stages = small_picture_stages(vision)
    x: Floats = np.random.default_rng(0).integers(0, 256, (1, *shape, 3)).astype(np.uint8)
    allowed, worst = _MAX_EXACT_ERROR if recipe.linear is None else _MAX_ERROR, 0.0
    try:
        weights = IrWeights(folder / f"{TOWER}.xml")
        for number, stage in enumerate(stages):
            yield Progress("verify", f"image tower: {stage.name}", number, len(stages))
            expected = stage.compute(x, lambda name: checkpoint.tensor(name).f32())
            error = _relative_error(_run(stage, x, weights), expected, x if stage.residual else None)
            if not error <= allowed:  # NaN fails the comparison
                raise VerificationError(
                    f"with the recipe {recipe.name}, the image tower's {stage.name} differs from the checkpoint's by "
                    f"{error:.2g}, above the limit of {allowed:g}",
                    hint=_HINT,
                )
            worst, x = max(worst, error), expected
            checkpoint.release()
    except RuntimeError as exc:
        raise VerificationError(f"the converted image tower does not run: {error_line(exc)}", hint=_HINT) from exc
    except KeyError as exc:
        raise VerificationError(f"the converted image tower is missing {exc}", hint="convert it again") from exc
    return worst


def _run(stage: TowerStage, x: Floats, weights: IrWeights) -> Floats:
    """Run a stage of the IR in f32."""
    element = Type.u8 if x.dtype == np.uint8 else Type.f32
    data = named_input("x", PartialShape(list(x.shape)), element)
    request = compile_on_cpu(ov.Model([ops.result(stage.build(data, weights))], [data], stage.name))
    return np.array(request.infer({"x": x})[0], np.float32)


def _relative_error(found: Floats, expected: Floats, x: Floats | None) -> float:
    """Return the difference relative to the result, or to what was added to an input `x`."""
    if not np.isfinite(expected).all():
        raise VerificationError(
            "the checkpoint's own image tower makes NaN: its weights are damaged", hint="download the checkpoint again"
        )
    added = expected if x is None else expected - x
    difference, size = (float(np.linalg.norm(values.astype(np.float64))) for values in (found - expected, added))
    return difference / max(size, 1e-30)
