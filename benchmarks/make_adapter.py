"""Create a LoRA adapter with random weights for a checkpoint or a model folder, for benchmarks and trial conversions.

    python -m benchmarks.make_adapter FOLDER OUT --rank 16

It updates every matrix of every layer, under the names of transformers' classes.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from runtime.checkpoint.architecture import Architecture, read_architecture, read_config


def write(architecture: Architecture, out: Path, rank: int, seed: int) -> int:
    """Write the adapter in f32, as PEFT does; return its bytes."""
    out.mkdir(parents=True)
    modules = [
        (name.removesuffix(".weight"), shape)
        for layer in range(architecture.layers)
        for name, shape in architecture.layer_shapes(layer)
        if len(shape) == 2
    ]
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": 2 * rank, "bias": "none"}
    names = sorted({module.rsplit(".", 1)[1] for module, _ in modules})
    (out / "adapter_config.json").write_text(json.dumps(config | {"target_modules": names}, indent=2) + "\n")
    header, end = {}, 0
    shapes = [
        (f"base_model.model.{module}.{part}.weight", shape)
        for module, (rows, columns) in modules
        for part, shape in (("lora_A", (rank, columns)), ("lora_B", (rows, rank)))
    ]
    for name, (rows, columns) in shapes:
        header[name] = {
            "dtype": "F32",
            "shape": [rows, columns],
            "data_offsets": [end, end := end + 4 * rows * columns],
        }
    encoded = json.dumps(header).encode()
    random = np.random.default_rng(seed)
    with (out / "adapter_model.safetensors").open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        for name, (rows, columns) in shapes:
            spread = 0.1 if "lora_B" in name else 1.0
            values = random.standard_normal((rows, columns), dtype=np.float32) * np.float32(spread / columns**0.5)
            file.write(values.data)
    return end


def main() -> None:
    """Run the benchmark that the command line describes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a checkpoint or a model folder: its config.json is read")
    parser.add_argument("out", type=Path, help="a folder that does not exist yet")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if options.out.exists():
        parser.error(f"{options.out} exists already")
    total = write(read_architecture(read_config(options.folder)), options.out, options.rank, options.seed)
    print(f"{options.out}: {total / 1e6:,.1f} MB of rank {options.rank}")


if __name__ == "__main__":
    main()
