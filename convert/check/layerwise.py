"""Logits of the converted model, read back from its folder.

A large model runs one layer at a time, since loading it whole needs as much memory as its file has bytes: a conversion
then needs less memory than the model itself.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino as ov
from openvino import PartialShape, Type
from openvino import opset13 as ops

from runtime.checkpoint.architecture import Architecture
from runtime.checkpoint.tensor import Tensor
from runtime.folder.ir_files import DECODER, LANGUAGE, TABLE

from ..graph import DecoderBlocks, decoder_inputs
from .decompress import decompress
from .ir_weights import IrWeights, read_ir
from .reference import (
    EXACT,
    BoundBlock,
    CompiledBlock,
    Floats,
    Head,
    compile_on_cpu,
    head_model,
    layer_model,
    layer_tensor_name,
    named_input,
    norm_model,
    pack,
    run_head,
    run_in_chunks,
    run_layer,
    unpack,
)

_WHOLE_MODEL_BYTES = 2**30  # of a .bin, up to which the model is loaded whole


def fits_whole(model: int) -> bool:
    """Return whether a model of so many bytes is loaded whole."""
    return model <= _WHOLE_MODEL_BYTES


def logits(
    folder: Path, a: Architecture, token_ids: Sequence[npt.NDArray[Any]], *, whole: bool = False
) -> list[Floats]:
    """Return the logits for texts of T token ids each, in f32: (T,vocab). A large model whose weights do not have our
    names only runs `whole`. Raises RuntimeError where the IR does not run."""
    files = _decoder_files(folder, a)
    if whole or fits_whole(sum(file.with_suffix(".bin").stat().st_size for file in files)):
        decoder, *table = map(read_ir, files)
        return whole_model_logits(decoder, token_ids, *table)
    layers = LayerwiseModel(folder, a)
    found = layers.hidden_states(token_ids)
    return run_head(layers.head(), found)


class LayerwiseModel:
    """A converted model that is run one layer at a time. Raises RuntimeError where the IR does not run."""

    def __init__(self, folder: Path, architecture: Architecture) -> None:
        self.architecture = architecture
        self._weights = IrWeights(*_decoder_files(folder, architecture))

    def hidden_states(self, token_ids: Sequence[npt.NDArray[Any]]) -> list[Floats]:
        """Return the head's inputs for texts of T token ids each: (T,hidden), normed."""
        ids = named_input("x", PartialShape([1, -1]), Type.i64)
        embed = BoundBlock(compile_on_cpu(ov.Model([ops.result(self._blocks().embedding(ids))], [ids], "embedding")))
        rows = pack(token_ids)
        found = [embed.run({"x": row.ids[np.newaxis]})[0][0] for row in rows]
        del embed
        for part in self.layers():
            for x, row in zip(found, rows, strict=True):
                run_layer(part, self.architecture, x, row.lengths)
        norm = BoundBlock(compile_on_cpu(norm_model(self._blocks())))
        for x in found:
            run_in_chunks(norm, x)
        return unpack(found, rows)

    def layers(self) -> Iterator[BoundBlock]:
        """Yield the layers in turn, for `run_layer`; each is valid until the next one."""
        run = CompiledBlock(self.architecture, layer_model)
        # One buffer for the weights of all layers: allocating memory costs as much as filling it.
        weights = {name: np.empty(shape, np.float32) for name, shape in self.architecture.layer_shapes(0)}
        for number in range(self.architecture.layers):
            for name, values in weights.items():
                decompress(self._weights(layer_tensor_name(name, number)), values)
            yield run.bind({name: Tensor(name, x.shape, "f32", x) for name, x in weights.items()})

    def head(self) -> Head:
        """Return the model's head, from hidden states to logits."""
        part = BoundBlock(compile_on_cpu(head_model(self._blocks())))
        return lambda x: part.run({"x": x[np.newaxis]})[0][0]

    def _blocks(self) -> DecoderBlocks:
        return DecoderBlocks(self.architecture, self._weights)


def whole_model_logits(
    model: ov.Model, token_ids: Sequence[npt.NDArray[Any]], table: ov.Model | None = None
) -> list[Floats]:
    """Return the logits for texts of T token ids each, by a stateful decoder that is loaded whole: (T,vocab). A decoder
    over embeddings has a `table` of them."""
    request = ov.Core().compile_model(model, "CPU", EXACT).create_infer_request()
    embed = None if table is None else ov.Core().compile_model(table, "CPU", EXACT)
    found = []
    for ids in token_ids:
        request.reset_state()
        inputs = decoder_inputs(model, ids)
        if embed is not None:
            inputs["inputs_embeds"] = embed([ids[np.newaxis].astype(np.int64)])[0]
        found.append(np.array(request.infer(inputs)["logits"][0]))
    return found


def _decoder_files(folder: Path, architecture: Architecture) -> list[Path]:
    """Return the IR of the decoder, and the table of embeddings if that is another one."""
    names = (DECODER,) if architecture.vision is None else (LANGUAGE, TABLE)
    return [folder / f"{name}.xml" for name in names]
