"""Tiny random GLM-4 checkpoints in every format, for tests. The same seed gives the same weights in every format."""

import json
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
YARN = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512}  # as GLM-4-0414's README spells it


@dataclass(frozen=True)
class Tiny:
    """What a tiny checkpoint is like. `config` overrides keys of its config.json."""

    format: str = "glm4"  # glm4 | glm | chatglm
    dtype: str = "f32"  # bf16 | f16 | f32 | mixed
    shards: int = 1
    layers: int = 2
    hidden: int = 64
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 32
    ffn: int = 96
    vocab: int = 160
    rotary: float = 0.5
    theta: float = 10000.0
    qkv_bias: bool = False
    tied: bool = False
    context: int = 4096
    seed: int = 1
    config: dict[str, Any] = field(default_factory=dict)

    def write(self, folder: Path) -> Path:
        """Writes config.json and the weights; returns the folder."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(self.config_json(), indent=1))
        tensors = [(name, *self.encode(i, value)) for i, (name, value) in enumerate(self.stored().items())]
        if self.shards == 1:
            write_safetensors(folder / "model.safetensors", tensors)
            return folder
        weight_map = {}
        for shard in range(self.shards):
            name = f"model-{shard + 1:05}-of-{self.shards:05}.safetensors"
            part = tensors[shard :: self.shards]
            write_safetensors(folder / name, part)
            weight_map |= {tensor[0]: name for tensor in part}
        index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        return folder

    def weights(self) -> dict[str, Array]:
        """Every tensor in f32 under its canonical name, scaled so that logits are of the order of 1 to 10."""
        random = np.random.default_rng(self.seed)

        def matrix(rows: int, columns: int, scale: float = 1.0) -> Array:
            return (random.standard_normal((rows, columns)) * scale / np.sqrt(columns)).astype(np.float32)

        def vector(size: int, mean: float, spread: float) -> Array:
            return (mean + spread * random.standard_normal(size)).astype(np.float32)

        found = {"model.embed_tokens.weight": matrix(self.vocab, self.hidden, 3.0)}
        for layer in range(self.layers):
            prefix = f"model.layers.{layer}."
            for letter, heads in (("q", self.heads), ("k", self.kv_heads), ("v", self.kv_heads)):
                found[f"{prefix}self_attn.{letter}_proj.weight"] = matrix(heads * self.head_dim, self.hidden, 1.5)
                if self.qkv_bias:
                    found[f"{prefix}self_attn.{letter}_proj.bias"] = vector(heads * self.head_dim, 0.0, 0.5)
            found[f"{prefix}self_attn.o_proj.weight"] = matrix(self.hidden, self.heads * self.head_dim)
            found[f"{prefix}mlp.gate_up_proj.weight"] = matrix(2 * self.ffn, self.hidden)
            found[f"{prefix}mlp.down_proj.weight"] = matrix(self.hidden, self.ffn)
            for norm in ("input", "post_attention", *(("post_self_attn", "post_mlp") if self.format == "glm4" else ())):
                found[f"{prefix}{norm}_layernorm.weight"] = vector(self.hidden, 1.0, 0.2)
        found["model.norm.weight"] = vector(self.hidden, 1.0, 0.2)
        if not self.tied:
            found["lm_head.weight"] = matrix(self.vocab, self.hidden, 3.0)
        return found

    def stored(self) -> dict[str, Array]:
        """The weights under the names of the format."""
        weights = self.weights()
        return weights if self.format != "chatglm" else self._as_chatglm(weights)

    def _as_chatglm(self, weights: dict[str, Array]) -> dict[str, Array]:
        found = {
            "transformer.rotary_pos_emb.inv_freq": np.ones(self.head_dim // 4, np.float32),
            "transformer.embedding.word_embeddings.weight": weights["model.embed_tokens.weight"],
            "transformer.encoder.final_layernorm.weight": weights["model.norm.weight"],
        }
        if not self.tied:
            found["transformer.output_layer.weight"] = weights["lm_head.weight"]
        for layer in range(self.layers):
            ours, theirs = f"model.layers.{layer}.", f"transformer.encoder.layers.{layer}."
            for kind in ("weight", "bias") if self.qkv_bias else ("weight",):
                parts = [weights[f"{ours}self_attn.{letter}_proj.{kind}"] for letter in "qkv"]
                found[f"{theirs}self_attention.query_key_value.{kind}"] = np.concatenate(parts)
            for stem, original in (
                ("self_attn.o_proj", "self_attention.dense"),
                ("mlp.gate_up_proj", "mlp.dense_h_to_4h"),
                ("mlp.down_proj", "mlp.dense_4h_to_h"),
                ("input_layernorm", "input_layernorm"),
                ("post_attention_layernorm", "post_attention_layernorm"),
            ):
                found[f"{theirs}{original}.weight"] = weights[f"{ours}{stem}.weight"]
        return found

    def config_json(self) -> dict[str, Any]:
        if self.format == "chatglm":
            return {
                "architectures": ["ChatGLMModel"],
                "model_type": "chatglm",
                "add_bias_linear": False,
                "add_qkv_bias": self.qkv_bias,
                "ffn_hidden_size": self.ffn,
                "hidden_size": self.hidden,
                "kv_channels": self.head_dim,
                "layernorm_epsilon": 1.5625e-07,
                "multi_query_attention": self.kv_heads != self.heads,
                "multi_query_group_num": self.kv_heads,
                "num_attention_heads": self.heads,
                "num_layers": self.layers,
                "rope_ratio": self.theta / 10000.0,
                "padded_vocab_size": self.vocab,
                "seq_length": self.context,
                "tie_word_embeddings": self.tied,
                **self.config,
            }
        return {
            "architectures": ["Glm4ForCausalLM" if self.format == "glm4" else "GlmForCausalLM"],
            "model_type": self.format,
            "attention_bias": self.qkv_bias,
            "head_dim": self.head_dim,
            "hidden_act": "silu",
            "hidden_size": self.hidden,
            "intermediate_size": self.ffn,
            "max_position_embeddings": self.context,
            "num_attention_heads": self.heads,
            "num_hidden_layers": self.layers,
            "num_key_value_heads": self.kv_heads,
            "pad_token_id": 0,
            "eos_token_id": [0],
            "partial_rotary_factor": self.rotary,
            "rms_norm_eps": 1e-05 if self.format == "glm4" else 1.5625e-07,
            "rope_theta": self.theta,
            "tie_word_embeddings": self.tied,
            "vocab_size": self.vocab,
            **self.config,
        }

    def encode(self, index: int, value: Array) -> tuple[str, tuple[int, ...], bytes]:
        dtype = ("bf16", "f16", "f32")[index % 3] if self.dtype == "mixed" else self.dtype
        if dtype == "bf16":
            return "BF16", value.shape, (value.view(np.uint32) >> 16).astype(np.uint16).tobytes()
        return (
            ("F16", value.shape, value.astype(np.float16).tobytes())
            if dtype == "f16"
            else ("F32", value.shape, value.tobytes())
        )


def write_safetensors(path: Path, tensors: Iterable[tuple[str, str, tuple[int, ...], bytes]]) -> None:
    header, data = {}, b""
    for name, dtype, shape, raw in tensors:
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    encoded = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    encoded += b" " * (-len(encoded) % 8)
    path.write_bytes(struct.pack("<Q", len(encoded)) + encoded + data)
