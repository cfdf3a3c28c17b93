"""Create a quantised checkpoint of any GLM-4 shape with random codes, to measure what reading it takes.

    python -m benchmarks.make_checkpoint PLAIN --shape GLM-4-9B-0414
    python -m benchmarks.make_quantized PLAIN OUT --format gptq
    python -m benchmarks.conversion OUT FOLDER --recipe stored

The matrices of the layers become random codes in groups of 128; all other tensors are the plain checkpoint's.
"""

import argparse
import json
import math
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from runtime.checkpoint.tensors import CheckpointTensors

GROUP = 128
BLOCK = 1 << 24  # bytes written at a time
Part = tuple[str, str, tuple[int, ...], str]  # suffix, safetensors' dtype, shape, kind of the values
SIZES = {"I32": 4, "U8": 1, "F16": 2, "F32": 4, "F8_E4M3": 1, "I64": 8}


def gptq(rows: int, columns: int) -> list[Part]:
    groups = columns // GROUP
    return [
        ("qweight", "I32", (columns // 8, rows), "codes"),
        ("qzeros", "I32", (groups, rows // 8), "codes"),
        ("scales", "F16", (groups, rows), "scales"),
    ]


def awq(rows: int, columns: int) -> list[Part]:
    groups = columns // GROUP
    return [
        ("qweight", "I32", (columns, rows // 8), "codes"),
        ("qzeros", "I32", (groups, rows // 8), "codes"),
        ("scales", "F16", (groups, rows), "scales"),
    ]


def compressed_tensors(rows: int, columns: int) -> list[Part]:
    return [
        ("weight_packed", "I32", (rows, columns // 8), "codes"),
        ("weight_scale", "F16", (rows, columns // GROUP), "scales"),
        ("weight_shape", "I64", (2,), "shape"),
    ]


def fp8(rows: int, columns: int) -> list[Part]:
    blocks = (-(-rows // GROUP), -(-columns // GROUP))
    return [("weight", "F8_E4M3", (rows, columns), "fp8"), ("weight_scale_inv", "F32", blocks, "scales")]


def bitsandbytes(rows: int, columns: int) -> list[Part]:
    return [
        ("weight", "U8", (rows * columns // 2, 1), "codes"),
        ("weight.absmax", "F32", (rows * columns // 64,), "scales"),
        ("weight.quant_map", "F32", (16,), "map"),
        ("weight.quant_state.bitsandbytes__nf4", "U8", (len(state(rows, columns)),), "state"),
    ]


FORMATS = {
    "gptq": (gptq, {"quant_method": "gptq", "bits": 4, "group_size": GROUP}),
    "awq": (awq, {"quant_method": "awq", "bits": 4, "group_size": GROUP, "version": "gemm"}),
    "compressed-tensors": (compressed_tensors, {"quant_method": "compressed-tensors", "format": "pack-quantized"}),
    "fp8": (fp8, {"quant_method": "fp8", "weight_block_size": [GROUP, GROUP]}),
    "bitsandbytes": (bitsandbytes, {"quant_method": "bitsandbytes", "load_in_4bit": True}),
}


def state(rows: int, columns: int) -> bytes:
    """bitsandbytes' description of a matrix."""
    return json.dumps({"quant_type": "nf4", "blocksize": 64, "shape": [rows, columns]}).encode()


def values(kind: str, dtype: str, shape: tuple[int, ...], matrix: tuple[int, int]) -> Iterator[bytes]:
    """The bytes of a tensor."""
    random, count = np.random.default_rng(len(shape)), math.prod(shape)
    if kind == "state":
        yield state(*matrix)
    elif kind == "shape":
        yield np.array(matrix, np.int64).tobytes()
    elif kind == "map":
        yield np.linspace(-1, 1, 16, dtype=np.float32).tobytes()
    elif kind == "scales":
        spread = 0.2 if dtype == "F16" else 0.02 if len(shape) == 2 else 2.0  # of integers, FP8, NF4
        yield np.full(count, spread / math.sqrt(matrix[1]), "<f2" if dtype == "F16" else "<f4").tobytes()
    else:
        size = count * SIZES[dtype]
        for first in range(0, size, BLOCK):
            block = random.integers(0, 256, min(BLOCK, size - first), np.uint8)
            yield (block & np.uint8(0xBF) if kind == "fp8" else block).tobytes()  # below FP8's NaN


def main() -> None:
    """Run the benchmark that the command line describes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plain", type=Path, help="a checkpoint, from benchmarks.make_checkpoint")
    parser.add_argument("out", type=Path, help="a folder that does not exist yet")
    parser.add_argument("--format", choices=FORMATS, default="gptq")
    options = parser.parse_args()
    parts_of, description = FORMATS[options.format]
    options.out.mkdir(parents=True)
    for file in options.plain.iterdir():
        if ".safetensors" not in file.name:
            shutil.copy(file, options.out)
    config: dict[str, Any] = json.loads((options.plain / "config.json").read_text())
    (options.out / "config.json").write_text(json.dumps(config | {"quantization_config": description}))
    with CheckpointTensors.open(options.plain) as opened:
        header: dict[str, Any] = {}
        sources: list[tuple[str, str, tuple[int, ...], tuple[int, int]]] = []
        end = 0
        for name in opened.names:
            tensor = opened.tensor(name)
            plain = len(tensor.shape) == 1 or ".layers." not in name
            stem, rows, columns = name.removesuffix(".weight"), tensor.shape[0], tensor.shape[-1]
            listed = [("", tensor.dtype.upper(), tensor.shape, name)] if plain else parts_of(rows, columns)
            for suffix, dtype, shape, kind in listed:
                size = tensor.nbytes if plain else math.prod(shape) * SIZES[dtype]
                key = name if plain else f"{stem}.{suffix}"
                header[key] = {"dtype": dtype, "shape": list(shape), "data_offsets": [end, end + size]}
                sources.append((kind, dtype, shape, (rows, columns)))
                end += size
        encoded = json.dumps(header).encode()
        encoded += b" " * (-len(encoded) % 8)
        with (options.out / "model.safetensors").open("wb") as file:
            file.write(struct.pack("<Q", len(encoded)) + encoded)
            for kind, dtype, shape, matrix in sources:
                if kind in opened.names:
                    raw = opened.tensor(kind).raw
                    for first in range(0, len(raw), 4096):
                        file.write(np.ascontiguousarray(raw[first : first + 4096]).tobytes())
                    opened.release()
                    continue
                for block in values(kind, dtype, shape, matrix):
                    file.write(block)
    print(f"{options.out}: {end / 1e9:.2f} GB of weights")


if __name__ == "__main__":
    main()
