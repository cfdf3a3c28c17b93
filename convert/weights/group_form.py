"""The form in which OpenVINO stores quantised weights in groups, and arrays of rows in it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from openvino import Type

Bytes = npt.NDArray[np.uint8]


class GroupArrays(NamedTuple):
    """The weights' bytes of some rows, and each group's scale in f16 and zero point."""

    weights: Bytes
    scale: npt.NDArray[np.float16]
    zero: npt.NDArray[Any] | None = None


@dataclass(frozen=True, slots=True)
class GroupForm:
    """Weights of `element` whose `group` neighbours in a row share a scale, and a zero point of the type `zero` unless
    that is None. `read` turns rows as the checkpoint stores them into arrays."""

    element: Type
    group: int
    zero: Type | None
    read: Callable[[npt.NDArray[Any]], GroupArrays]
