"""Create a checkpoint of any GLM-4 shape with random weights, for benchmarks and trial conversions.

    python -m benchmarks.make_checkpoint OUT --shape glm-4-9b-0414 --layers 4
    python -m benchmarks.make_checkpoint OUT --shape glm-4v-9b --layers 1 --tower-layers 1

Shapes are those of `edge models`. The chat template is the demo's (glm-4v-9b comes without one), and so is the
tokenizer, unless `--tokenizer` names another checkpoint. Weights are written as they are drawn, block by block, in
shards of at most 5 GB; memory stays below 1 GB at any size.
"""

import argparse
import json
import math
import shutil
import struct
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from edge.catalogue import get_entry
from runtime.checkpoint.architecture import Architecture, read_architecture
from runtime.checkpoint.tensors import safetensors_shapes
from runtime.checkpoint.tokenizer import read_tokenizer
from runtime.checkpoint.vision.eva_clip import EvaClipVision
from runtime.checkpoint.vision.glm4_1v import Glm41Vision

DEMO = Path(__file__).resolve().parents[1] / "edge" / "demo" / "checkpoint"
SHARD_BYTES = 5_000_000_000
BLOCK = 1 << 24  # values drawn at a time

TINY = replace(
    get_entry("GLM-4-9B-0414").architecture,
    layers=4,
    hidden=256,
    heads=4,
    head_dim=64,
    rotary_dim=32,
    ffn=512,
    vocab=4096,
)
FORMATS = {"glm4": "Glm4ForCausalLM", "glm": "GlmForCausalLM", "chatglm": "ChatGLMModel"}
DTYPES = {"bf16": ("BF16", 2), "f16": ("F16", 2), "f32": ("F32", 4)}


def config(a: Architecture, dtype: str, tokenizer: Path) -> dict[str, Any]:
    """config.json in the keys of the architecture's format; the token ids are those of the tokenizer's checkpoint."""
    ids = json.loads((tokenizer / "config.json").read_text())
    common = {
        "architectures": [a.name],
        "tie_word_embeddings": a.tied_embeddings,
        "torch_dtype": {"bf16": "bfloat16", "f16": "float16", "f32": "float32"}[dtype],
        **{key: ids[key] for key in ("eos_token_id", "pad_token_id")},
    }
    if a.name == "ChatGLMModel":
        return (
            common
            | vision_config(a)
            | {
                "model_type": "chatglm",
                "hidden_size": a.hidden,
                "num_attention_heads": a.heads,
                "add_bias_linear": False,
                "add_qkv_bias": a.qkv_bias,
                "ffn_hidden_size": a.ffn,
                "kv_channels": a.head_dim,
                "layernorm_epsilon": a.norm_eps,
                "multi_query_attention": True,
                "multi_query_group_num": a.kv_heads,
                "num_layers": a.layers,
                "padded_vocab_size": a.vocab,
                "rope_ratio": a.rope_theta / 10000.0,
                "seq_length": a.context,
            }
        )
    if a.name == "Glm4vForConditionalGeneration":
        ends = {key: common.pop(key) for key in ("eos_token_id", "pad_token_id")}
        rope = {"rope_type": "default", "rope_theta": a.rope_theta, "mrope_section": list(a.rope_sections)}
        rope["partial_rotary_factor"] = a.rotary_dim / a.head_dim
        text = glm_config(a) | {"model_type": "glm4v_text", "rope_parameters": rope} | ends
        return common | {"model_type": "glm4v", "text_config": text} | vision_config(a)
    return common | glm_config(a)


def glm_config(a: Architecture) -> dict[str, Any]:
    """The keys of a decoder in transformers' format."""
    return {
        "model_type": "glm4" if a.sandwich_norms else "glm",
        "attention_bias": a.qkv_bias,
        "head_dim": a.head_dim,
        "hidden_act": "silu",
        "hidden_size": a.hidden,
        "intermediate_size": a.ffn,
        "max_position_embeddings": a.context,
        "num_attention_heads": a.heads,
        "num_hidden_layers": a.layers,
        "num_key_value_heads": a.kv_heads,
        "partial_rotary_factor": a.rotary_dim / a.head_dim,
        "rms_norm_eps": a.norm_eps,
        "rope_theta": a.rope_theta,
        "vocab_size": a.vocab,
    }


def vision_config(a: Architecture) -> dict[str, Any]:
    """The keys of the image tower; {} for a text model."""
    if isinstance(vision := a.vision, Glm41Vision):
        tower = {
            "attention_bias": vision.qkv_bias,
            "depth": vision.layers,
            "hidden_act": "silu",
            "hidden_size": vision.width,
            "image_size": vision.grid * vision.patch,
            "in_channels": 3,
            "intermediate_size": vision.merger_ffn,
            "num_heads": vision.heads,
            "out_hidden_size": vision.hidden,
            "patch_size": vision.patch,
            "rms_norm_eps": vision.norm_eps,
            "spatial_merge_size": vision.merge,
            "temporal_patch_size": vision.frames,
        }
        return {"vision_config": tower}
    if not isinstance(vision, EvaClipVision):
        return {}
    tower = {
        "dropout_prob": 0.0,
        "hidden_act": "gelu",
        "hidden_size": vision.width,
        "image_size": vision.image_size,
        "in_channels": 3,
        "intermediate_size": vision.ffn,
        "layer_norm_eps": vision.norm_eps,
        "num_heads": vision.heads,
        "num_hidden_layers": vision.layers,
        "num_positions": vision.grid**2 + 1,
        "patch_size": vision.patch,
        "scaling_factor": vision.scaling,
    }
    return {"vision_config": tower}


def write(folder: Path, architecture: Architecture, dtype: str, seed: int, tokenizer: Path = DEMO) -> int:
    """Write the checkpoint; return the bytes of its weights."""
    folder.mkdir(parents=True)
    values = config(architecture, dtype, tokenizer)
    (folder / "config.json").write_text(json.dumps(values, indent=2) + "\n")
    if architecture.vision is None:
        shutil.copyfile(DEMO / "chat_template.jinja", folder / "chat_template.jinja")
    for name in ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "generation_config.json"):
        if (tokenizer / name).is_file():
            shutil.copyfile(tokenizer / name, folder / name)
    if architecture.name != "ChatGLMModel" and not (folder / "tokenizer.json").is_file():
        write_as_published(folder, architecture.vocab)
    random = np.random.default_rng(seed)
    item = DTYPES[dtype][1]
    shards = list(into_shards(safetensors_shapes(read_architecture(values)), item))
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


def write_as_published(folder: Path, vocab: int) -> None:
    """Replace tiktoken's ranks by tokenizer.json, as in the -hf and 0414 checkpoints; other converters need it."""
    (folder / "tokenizer.json").write_text(read_tokenizer(folder, vocab).tokenizer.to_str(), encoding="utf-8")
    (folder / "tokenizer.model").unlink()
    path = folder / "tokenizer_config.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    values.pop("auto_map", None)
    path.write_text(json.dumps(values | {"tokenizer_class": "PreTrainedTokenizerFast"}, indent=2), encoding="utf-8")


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
    """Write random values, scaled so that activations keep their size and logits are of the order of 1 to 10."""
    count = math.prod(shape)
    if len(shape) == 3 or "position_embedding" in name:  # added to states, which are of the order of 1
        mean, spread = 0.0, 1.0
    elif len(shape) > 1:
        ends = any(part in name for part in ("embed_tokens", "word_embeddings", "lm_head", "output_layer"))
        mean, spread = 0.0, (3.0 if ends else 1.0) / math.sqrt(math.prod(shape[1:]))
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
    """Run the benchmark that the command line describes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="a folder that does not exist yet")
    parser.add_argument("--shape", default="GLM-4-9B-0414", help='a model of `edge models`, or "tiny" (GLM-4-9B-0414)')
    parser.add_argument("--layers", type=int, help="fewer or more than the shape has")
    parser.add_argument("--tower-layers", type=int, help="fewer or more than the shape's image tower has")
    parser.add_argument("--hidden", type=int, help="another width; heads and FFN stay")
    parser.add_argument("--vocab", type=int, help="another vocabulary size")
    parser.add_argument("--format", choices=FORMATS, help="another format than the shape's own")
    parser.add_argument(
        "--tokenizer", type=Path, default=DEMO, help="a checkpoint whose tokenizer it gets (the demo's)"
    )
    parser.add_argument("--dtype", choices=DTYPES, default="bf16")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if options.out.exists():
        parser.error(f"{options.out} exists already")
    shape = TINY if options.shape == "tiny" else get_entry(options.shape).architecture
    changes = {key: value for key in ("layers", "hidden", "vocab") if (value := getattr(options, key)) is not None}
    if options.format:
        changes |= {"name": FORMATS[options.format], "sandwich_norms": options.format == "glm4"}
    if (layers := options.tower_layers) is not None:
        if shape.vision is None:
            parser.error(f"{options.shape} has no image tower")
        changes["vision"] = replace(shape.vision, layers=layers)
    if shape.vision is not None and (options.hidden or options.format):
        parser.error("--hidden and --format are for text models")
    shape = replace(shape, **changes)
    known = json.loads((options.tokenizer / "config.json").read_text())
    if shape.vocab < (least := known.get("vocab_size") or known["padded_vocab_size"]):
        parser.error(f"the tokenizer needs a vocabulary of at least {least}")
    total = write(options.out, shape, options.dtype, options.seed, options.tokenizer)
    print(f"{options.out}: {total / 1e9:.2f} GB of weights")


if __name__ == "__main__":
    main()
