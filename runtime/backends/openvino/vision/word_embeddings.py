"""The embeddings of token ids, read from the table of a vision model's folder.

GenAI compiles the same table for the tokens that it generates; compiled once more, it would take its memory twice. The
arithmetic is that of the CPU plugin, so both have the same bits, by which the prefix cache knows a token.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ....errors import ModelFolderError
from ....folder.ir_files import TABLE
from ....folder.model_folder import CONVERT_AGAIN

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class WordEmbeddings:
    """The table of a model folder: rows in f32, bf16, f16 or int8, which stay in the mapped file."""

    def __init__(self, folder: Path) -> None:
        """Raises ModelFolderError for a graph of another kind."""
        import openvino

        self._path = folder / f"{TABLE}.xml"
        self._model = openvino.Core().read_model(str(self._path))
        gathers = [op for op in self._model.get_ordered_ops() if op.get_type_name() == "Gather"]
        tables = [op for op in gathers if len(op.input_value(0).get_partial_shape()) == 2]
        if len(tables) != 1:
            raise ModelFolderError(f"{self._path} has no table of embeddings", hint=CONVERT_AGAIN)
        self._table = tables[0].input_value(0).get_node()
        self.width = int(self.rows([0]).shape[1])

    def rows(self, ids: "Sequence[int] | npt.NDArray[np.int64]") -> "npt.NDArray[np.float32]":
        """Return the embeddings of ids, of shape [ids, width]."""
        import numpy as np

        found: npt.NDArray[np.float32] = self._evaluate(self._table, np.asarray(ids, np.int64))
        return found

    def _evaluate(self, node: Any, ids: "npt.NDArray[np.int64]") -> Any:
        kind = node.get_type_name()
        inputs = [port.get_node() for port in node.input_values()]
        if kind == "Constant":
            return _read_rows(node, ids)
        if kind == "Convert":
            return self._evaluate(inputs[0], ids)
        if kind == "Subtract":
            return self._evaluate(inputs[0], ids) - self._evaluate(inputs[1], ids)
        if kind == "Multiply":
            return self._evaluate(inputs[0], ids) * self._evaluate(inputs[1], ids)
        raise ModelFolderError(f"{self._path} has a table of an unknown kind: {kind}", hint=CONVERT_AGAIN)


def _read_rows(constant: Any, ids: "npt.NDArray[np.int64]") -> "npt.NDArray[np.float32]":
    """Return rows of a constant in f32; all of one that has a single row."""
    import numpy as np

    data = constant.data
    rows = data[ids] if data.ndim == 2 and data.shape[0] > 1 else data
    if constant.get_element_type().get_type_name() == "bf16":  # numpy has no such type, and sees f16
        return np.asarray((rows.view(np.uint16).astype(np.uint32) << 16).view(np.float32))
    wide: npt.NDArray[np.float32] = rows.astype(np.float32)
    return wide
