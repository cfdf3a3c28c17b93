"""A checkpoint of any GLM-4 shape with random weights: for measuring, and for trying a conversion before a download.

    python benchmarks/make_checkpoint.py OUT --shape glm-4-9b-0414 --layers 4

Tokenizer and chat template are those of the demo's checkpoint. Weights go to disk as they are drawn, block by block, in
shards of at most 5 GB; memory stays below 1 GB at any size. Only numpy is used.
"""

import argparse
import json
import math
import shutil
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from runtime.architecture import read_architecture
from runtime.checkpoint import stored_tensors

DEMO = Path(__file__).resolve().parents[1] / "edge" / "demo" / "checkpoint"
SHARD_BYTES = 5_000_000_000
BLOCK = 1 << 24  # values drawn at a time

_9B = {"hidden": 4096, "layers": 40, "heads": 32, "kv_heads": 2, "ffn": 13696, "vocab": 151552, "bias": True}
_9B_0414 = {**_9B, "format": "glm4", "eps": 1e-05, "context": 32768}
_9B_2024 = {**_9B, "format": "chatglm", "eps": 1.5625e-07, "theta": 5e6, "context": 131072}
_32B_0414 = {**_9B_0414, "hidden": 6144, "layers": 61, "heads": 48, "ffn": 23040, "bias": False}
_EDGE = {"format": "glm", "eps": 1e-05, "rotary": 1.0, "vocab": 59264, "context": 8192, "bias": False, "tied": True}
SHAPES: dict[str, dict[str, Any]] = {
    "glm-4-9b-0414": _9B_0414,
    "glm-4-32b-0414": _32B_0414,
    "glm-z1-rumination-32b-0414": {**_32B_0414, "kv_heads": 8, "context": 131072},
    "glm-4-9b-chat": _9B_2024,
    "glm-4-9b-chat-1m": {**_9B_2024, "kv_heads": 4, "theta": 1e8, "context": 1048576},
    "glm-edge-1.5b": {**_EDGE, "hidden": 2048, "layers": 28, "heads": 16, "kv_heads": 4, "ffn": 6144},
    "glm-edge-4b": {**_EDGE, "hidden": 3072, "layers": 40, "heads": 24, "kv_heads": 6, "ffn": 8192},
    "tiny": {**_9B_0414, "hidden": 256, "layers": 4, "heads": 4, "head_dim": 64, "ffn": 512, "vocab": 4096},
}
DTYPES = {"bf16": ("BF16", 2), "f16": ("F16", 2), "f32": ("F32", 4)}


def config(shape: dict[str, Any], dtype: str) -> dict[str, Any]:
    """config.json in the keys of the shape's format; token ids are those of the demo's tokenizer."""
    demo = json.loads((DEMO / "config.json").read_text())
    tokens = {key: demo[key] for key in ("eos_token_id", "pad_token_id")}
    common = {
        "hidden_size": shape["hidden"],
        "num_attention_heads": shape["heads"],
        "tie_word_embeddings": shape.get("tied", False),
        "torch_dtype": {"bf16": "bfloat16", "f16": "float16", "f32": "float32"}[dtype],
        **tokens,
    }
    head_dim, theta = shape.get("head_dim", 128), shape.get("theta", 10000.0)
    if shape["format"] == "chatglm":
        return common | {
            "architectures": ["ChatGLMModel"],
            "model_type": "chatglm",
            "add_bias_linear": False,
            "add_qkv_bias": shape["bias"],
            "ffn_hidden_size": shape["ffn"],
            "kv_channels": head_dim,
            "layernorm_epsilon": shape["eps"],
            "multi_query_attention": True,
            "multi_query_group_num": shape["kv_heads"],
            "num_layers": shape["layers"],
            "padded_vocab_size": shape["vocab"],
            "rope_ratio": theta / 10000.0,
            "seq_length": shape["context"],
        }
    return common | {
        "architectures": ["Glm4ForCausalLM" if shape["format"] == "glm4" else "GlmForCausalLM"],
        "model_type": shape["format"],
        "attention_bias": shape["bias"],
        "head_dim": head_dim,
        "hidden_act": "silu",
        "intermediate_size": shape["ffn"],
        "max_position_embeddings": shape["context"],
        "num_hidden_layers": shape["layers"],
        "num_key_value_heads": shape["kv_heads"],
        "partial_rotary_factor": shape.get("rotary", 0.5),
        "rms_norm_eps": shape["eps"],
        "rope_theta": theta,
        "vocab_size": shape["vocab"],
    }


def write(folder: Path, shape: dict[str, Any], dtype: str, seed: int) -> int:
    """Writes the whole checkpoint; returns the bytes of its weights."""
    folder.mkdir(parents=True)
    values = config(shape, dtype)
    (folder / "config.json").write_text(json.dumps(values, indent=2) + "\n")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        shutil.copyfile(DEMO / name, folder / name)
    random = np.random.default_rng(seed)
    item = DTYPES[dtype][1]
    shards = list(into_shards(stored_tensors(read_architecture(values)), item))
    names = {}
    for number, shard in enumerate(shards, 1):
        file = "model.safetensors" if len(shards) == 1 else f"model-{number:05}-of-{len(shards):05}.safetensors"
        print(f"{file}: {sum(map(math.prod, shard.values())) * item / 1e9:.2f} GB", file=sys.stderr)
        write_shard(folder / file, shard, dtype, random)
        names |= dict.fromkeys(shard, file)
    total = item * sum(math.prod(size) for shard in shards for size in shard.values())
    if len(shards) > 1:
        index = {"metadata": {"total_size": total}, "weight_map": names}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")
    return total


def into_shards(tensors: dict[str, tuple[int, ...]], item: int) -> Iterator[dict[str, tuple[int, ...]]]:
    shard: dict[str, tuple[int, ...]] = {}
    for name, shape in tensors.items():
        if shard and item * (sum(map(math.prod, shard.values())) + math.prod(shape)) > SHARD_BYTES:
            yield shard
            shard = {}
        shard[name] = shape
    yield shard


def write_shard(path: Path, shard: dict[str, tuple[int, ...]], dtype: str, random: np.random.Generator) -> None:
    code, item = DTYPES[dtype]
    header, end = {}, 0
    for name, shape in shard.items():
        begin, end = end, end + item * math.prod(shape)
        header[name] = {"dtype": code, "shape": list(shape), "data_offsets": [begin, end]}
    encoded = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    encoded += b" " * (-len(encoded) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(encoded)) + encoded)
        for name, shape in shard.items():
            draw(file, name, shape, dtype, random)


def draw(file: BinaryIO, name: str, shape: tuple[int, ...], dtype: str, random: np.random.Generator) -> None:
    """Scales are such that activations keep their size through the layers and logits are of the order of 1 to 10."""
    count = math.prod(shape)
    if len(shape) == 2:
        ends = any(part in name for part in ("embed", "lm_head", "output_layer"))
        mean, spread = 0.0, (3.0 if ends else 1.0) / math.sqrt(shape[1])
    else:
        mean, spread = (0.0, 0.5) if name.endswith("bias") else (1.0, 0.1)
    for first in range(0, count, BLOCK):
        values = random.standard_normal(min(BLOCK, count - first), dtype=np.float32)
        values *= np.float32(spread)
        values += np.float32(mean)
        file.write(encode(values, dtype).data)


def encode(values: np.ndarray[Any, Any], dtype: str) -> np.ndarray[Any, Any]:
    if dtype != "bf16":
        return values.astype(np.float16 if dtype == "f16" else np.float32)
    bits = values.view(np.uint32)
    bits += 0x7FFF + ((bits >> 16) & 1)  # to the nearest, ties to even
    return (bits >> 16).astype(np.uint16)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="a folder that does not exist yet")
    parser.add_argument("--shape", choices=SHAPES, default="glm-4-9b-0414")
    parser.add_argument("--layers", type=int, help="fewer or more than the shape has")
    parser.add_argument("--hidden", type=int, help="another width; heads and FFN stay")
    parser.add_argument("--vocab", type=int, help="another vocabulary size")
    parser.add_argument("--format", choices=("glm4", "glm", "chatglm"), help="another format than the shape's own")
    parser.add_argument("--dtype", choices=DTYPES, default="bf16")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if options.out.exists():
        parser.error(f"{options.out} exists already")
    changes = {key: getattr(options, key) for key in ("layers", "hidden", "vocab", "format")}
    shape = SHAPES[options.shape] | {key: value for key, value in changes.items() if value is not None}
    if shape["vocab"] < (least := json.loads((DEMO / "config.json").read_text())["vocab_size"]):
        parser.error(f"the demo's tokenizer needs a vocabulary of at least {least}")
    total = write(options.out, shape, options.dtype, options.seed)
    print(f"{options.out}: {total / 1e9:.2f} GB of weights")


if __name__ == "__main__":
    main()
