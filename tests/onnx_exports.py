"""ONNX files of GLM decoders, exported by torch with optimum's names: cache inputs and outputs beside the texts'."""

import shutil
import warnings
from pathlib import Path
from typing import Any

from runtime.checkpoint.checkpoint import Checkpoint


def export(checkpoint: Path, folder: Path) -> Path:
    """Writes the checkpoint's decoder and its texts into `folder`; returns the .onnx file. Takes some ten seconds."""
    import torch
    from torch.export import Dim
    from transformers import DynamicCache

    from runtime.backends.torch.model import load_model

    described = Checkpoint.open(checkpoint)
    a = described.architecture
    model = load_model(described, torch.float32)
    model.set_attn_implementation("eager")

    class Exported(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: Any, attention_mask: Any, position_ids: Any, *past: Any) -> tuple[Any, ...]:
            cache = DynamicCache(config=model.config)
            for layer in range(a.layers):
                cache.update(past[2 * layer], past[2 * layer + 1], layer)
            out = self.model(input_ids, attention_mask, position_ids, cache, use_cache=True)
            return (out.logits, *(part for layer in out.past_key_values.layers for part in (layer.keys, layer.values)))

    batch, before, new = 2, 4, 3
    past = [torch.zeros(batch, a.kv_heads, before, a.head_dim) for _ in range(2 * a.layers)]
    ids = torch.ones(batch, new, dtype=torch.int64)
    mask = torch.ones(batch, before + new, dtype=torch.int64)
    names = [f"{layer}.{kind}" for layer in range(a.layers) for kind in ("key", "value")]
    two = {0: Dim.DYNAMIC, 1: Dim.DYNAMIC}
    folder.mkdir(parents=True)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Exported().eval(),
            (ids, mask, ids.cumsum(1), *past),
            folder / "model.onnx",
            input_names=["input_ids", "attention_mask", "position_ids", *(f"past_key_values.{n}" for n in names)],
            output_names=["logits", *(f"present.{n}" for n in names)],
            dynamic_shapes=(two, two, two, tuple({0: Dim.DYNAMIC, 2: Dim.DYNAMIC} for _ in past)),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    for path in checkpoint.iterdir():
        if path.suffix != ".safetensors":
            shutil.copyfile(path, folder / path.name)
    return folder / "model.onnx"
