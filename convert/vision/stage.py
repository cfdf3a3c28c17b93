"""The stages of an image tower, by which a converted one is compared with its checkpoint."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from openvino import Node

from ..graph import Weight

Floats = npt.NDArray[np.float32]
Values = Callable[[str], Floats]  # name of a tensor -> its values


@dataclass(frozen=True, slots=True)
class TowerStage:
    """A stage of a tower, such as a layer: `build` makes its graph, and `compute` is the same by numpy. Both map the
    previous stage's result; the first stage maps pixels (1,H,W,3), u8. A `residual` stage adds to its input."""

    name: str
    build: Callable[[Node, Weight], Node]
    compute: Callable[[Floats, Values], Floats]
    residual: bool = False
