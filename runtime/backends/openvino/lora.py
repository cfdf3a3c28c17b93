"""LoRA adapters at run time: GenAI adds their products to the outputs of the MatMuls that bear their modules' names.

GenAI ignores tensors for which it finds no MatMul, and the adapter's own scaling; under `add_request` only MODE_STATIC
acts. So adapters are checked against the IR here, scaled and summed by concatenating their ranks, and passed as one
adapter in memory, under the names of our MatMuls. The weights stay as they are, in any recipe.
"""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...checkpoint.adapters.adapter import ModelAdapters, open_adapters
from ...checkpoint.adapters.merged_rows import Floats
from ...checkpoint.adapters.reference import AdapterReference
from ...checkpoint.architecture import read_architecture, read_config
from ...errors import CheckpointError, ModelFolderError
from ...folder.ir import IR
from ...folder.model_folder import ModelFolder

_PREFIX = "base_model.model."  # which GenAI's pipelines remove
_MERGE_HINT = "`edge convert CHECKPOINT FOLDER --adapter DIR` merges it into the weights"


def adapter_properties(folder: ModelFolder, adapters: Sequence[AdapterReference]) -> dict[str, Any]:
    """Return the properties with which a pipeline of this folder loads the adapters; {} without any.

    Raises CheckpointError for an adapter that is damaged, does not fit the model, or can only be merged, naming its
    tensor; ModelFolderError for a folder whose IR does not name its matrices.
    """
    if not adapters:
        return {}
    import openvino
    import openvino_genai as genai

    opened = open_adapters(read_architecture(read_config(folder.path)), adapters)
    factors = _sum_factors(opened)
    _require_matrices(folder, factors)
    content = np.frombuffer(_safetensors(factors), np.uint8)
    adapter = genai.Adapter(openvino.Tensor(content.copy()))
    return {"adapters": genai.AdapterConfig(adapter, 1.0, mode=genai.AdapterConfig.Mode.MODE_STATIC)}


def _sum_factors(adapters: ModelAdapters) -> dict[str, tuple[Floats, Floats]]:
    """Return B (rows, rank), scaled, and A (rank, columns) of each module, the ranks of all adapters concatenated."""
    for place in adapters.places.values():
        raise CheckpointError(f"{place} replaces a tensor, which is not supported at run time", hint=_MERGE_HINT)
    found: defaultdict[str, list[tuple[Floats, Floats]]] = defaultdict(list)
    for name, updates in adapters.updates.items():
        for update in updates:
            if update.magnitude is not None or update.transposed:
                what = "a DoRA" if update.magnitude is not None else "an update of the embedding"
                raise CheckpointError(
                    f"{update.left.name!r} of the adapter is {what}, which is not supported at run time",
                    hint=_MERGE_HINT,
                )
            left, right = update.factors
            found[name.removesuffix(".weight")].append((left * np.float32(update.scale), right))
    return {
        module: (np.concatenate([left for left, _ in parts], axis=1), np.concatenate([right for _, right in parts]))
        for module, parts in found.items()
    }


def _require_matrices(folder: ModelFolder, factors: Mapping[str, tuple[Floats, Floats]]) -> None:
    """Raise unless each module has exactly one MatMul in the IR, found as GenAI does, and of its shape."""
    matrices = IR.read(folder).matrices
    for module, (left, right) in factors.items():
        found = [matrix for matrix in matrices if module in matrix.matmul]
        if not found and not any("self_attn" in matrix.matmul for matrix in matrices):
            raise ModelFolderError(
                f"{folder.path} cannot run adapters: its matrices have no names",
                hint="it was converted by an earlier version or from ONNX; convert the checkpoint again",
            )
        if [matrix.shape for matrix in found] != [(len(left), right.shape[1])]:
            raise CheckpointError(f"the adapter's update of {module} fits no matrix of {folder.path}", hint=_MERGE_HINT)


def _safetensors(factors: Mapping[str, tuple[Floats, Floats]]) -> bytes:
    """Return a safetensors file with the factors as lora_A and lora_B."""
    header: dict[str, Any] = {}
    data: list[bytes] = []
    end = 0
    for module, (left, right) in factors.items():
        for part, values in (("lora_A", right), ("lora_B", left)):
            raw = np.ascontiguousarray(values, np.float32).tobytes()
            place = {"dtype": "F32", "shape": list(values.shape), "data_offsets": [end, end + len(raw)]}
            header[f"{_PREFIX}{module}.{part}.weight"] = place
            data.append(raw)
            end += len(raw)
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    return b"".join([len(encoded).to_bytes(8, "little"), encoded, *data])
