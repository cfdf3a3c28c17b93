"""The architecture of a GLM-4 checkpoint: config.json as one validated record.

Three implementations have the same decoder and differ in config.json's keys and in the parts of a layer:

    Glm4ForCausalLM   GLM-4-0414, Z1, Rumination: sandwich norms, four a layer
    GlmForCausalLM    glm-4-9b-…-hf and GLM-Edge: two norms a layer
    ChatGLMModel      glm-4-9b, -chat, -1m as first published
"""

import math
import reprlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from ..errors import CheckpointError
from .adapter_config import reject_adapter_alone
from .small_files import read_json, resolve_file

_CONFIG_HINT = "the checkpoint's config.json is damaged or was edited: download it again"


@dataclass(frozen=True, slots=True)
class Yarn:
    """RoPE stretched beyond the trained context (https://arxiv.org/abs/2309.00071), as transformers reads it."""

    factor: float
    original_context: int
    beta_fast: float
    beta_slow: float
    attention_factor: float
    truncate: bool


@dataclass(frozen=True, slots=True)
class Architecture:
    """All that determines the decoder's graph. Sizes count elements, `context` counts tokens."""

    name: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocab: int
    norm_eps: float
    rope_theta: float
    rotary_dim: int
    qkv_bias: bool
    sandwich_norms: bool
    tied_embeddings: bool
    context: int
    yarn: Yarn | None

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes per token in an f16 KV cache."""
        return 2 * self.layers * self.kv_heads * self.head_dim * 2

    @property
    def head_name(self) -> str:
        """The canonical name of the matrix that computes logits."""
        return "model.embed_tokens.weight" if self.tied_embeddings else "lm_head.weight"

    def layer_shapes(self, layer: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield the canonical name and shape of each tensor of one layer."""
        prefix, hidden = f"model.layers.{layer}.", self.hidden
        for letter, heads in (("q", self.heads), ("k", self.kv_heads), ("v", self.kv_heads)):
            yield f"{prefix}self_attn.{letter}_proj.weight", (heads * self.head_dim, hidden)
            if self.qkv_bias:
                yield f"{prefix}self_attn.{letter}_proj.bias", (heads * self.head_dim,)
        yield f"{prefix}self_attn.o_proj.weight", (hidden, self.heads * self.head_dim)
        yield f"{prefix}mlp.gate_up_proj.weight", (2 * self.ffn, hidden)
        yield f"{prefix}mlp.down_proj.weight", (hidden, self.ffn)
        sandwich = ("post_self_attn", "post_mlp") if self.sandwich_norms else ()
        for norm in ("input", "post_attention", *sandwich):
            yield f"{prefix}{norm}_layernorm.weight", (hidden,)

    def shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield the canonical name and shape of every tensor, in the decoder's order."""
        yield "model.embed_tokens.weight", (self.vocab, self.hidden)
        for layer in range(self.layers):
            yield from self.layer_shapes(layer)
        yield "model.norm.weight", (self.hidden,)
        if not self.tied_embeddings:
            yield "lm_head.weight", (self.vocab, self.hidden)


def read_config(path: Path) -> dict[str, Any]:
    """Return the config.json of a checkpoint folder. Raises CheckpointError."""
    if not path.is_dir():
        raise CheckpointError(f"there is no folder {str(path)!r}", hint="pass the folder that contains config.json")
    if resolve_file(path, "config.json") is None:
        reject_adapter_alone(path)
        raise CheckpointError(f"{str(path)!r} has no config.json", hint="pass the folder of a downloaded checkpoint")
    return read_json(path / "config.json", required=True)


def read_architecture(config: Mapping[str, Any]) -> Architecture:
    """Return the architecture in a parsed config.json. Raises CheckpointError if it is unsupported or impossible."""
    if (quantization := config.get("quantization_config")) is not None:
        method = quantization.get("quant_method") if isinstance(quantization, dict) else quantization
        raise CheckpointError(
            f"the checkpoint is already quantized ({reprlib.repr(method)})", hint="convert the original bf16 checkpoint"
        )
    names = config.get("architectures")
    name = names[0] if isinstance(names, list) and names else names
    if not isinstance(name, str) or name not in _PARSERS:
        raise CheckpointError(
            f"config.json: the architecture {reprlib.repr(name)} is not supported",
            hint=f"supported: {', '.join(_PARSERS)}",
        )
    architecture = _PARSERS[name](_Config(config))
    _validate(architecture)
    return architecture


class _Config:
    """Typed access to one JSON object of config.json. Errors name the key."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def get(self, key: str) -> Any:
        return self._values.get(key)

    def integer(self, key: str, default: int | None = None) -> int:
        value = default if self.get(key) is None else self.get(key)
        if type(value) is not int or not 1 <= value < 2**31:
            raise self._invalid(key, "a positive integer")
        return value

    def number(self, key: str, low: float, high: float, default: float | None = None) -> float:
        value = default if self.get(key) is None else self.get(key)
        if type(value) not in (int, float) or not low <= cast(float, value) <= high:  # NaN fails the comparison
            raise self._invalid(key, f"a number from {low:g} to {high:g}")
        return float(cast(float, value))

    def boolean(self, key: str, default: bool) -> bool:
        value = default if self.get(key) is None else self.get(key)
        if type(value) is not bool:
            raise self._invalid(key, "true or false")
        return value

    def section(self, key: str) -> "_Config":
        value = {} if self.get(key) is None else self.get(key)
        if not isinstance(value, dict):
            raise self._invalid(key, "an object")
        return _Config(value)

    def require(self, key: str, wanted: Any) -> None:
        """Raise CheckpointError for a variant of the decoder that no released GLM-4 has."""
        if self.get(key) is not None and self.get(key) != wanted:
            raise self._invalid(
                key, f"{wanted!r}", hint="no released GLM-4 checkpoint differs here; it is not supported"
            )

    def _invalid(self, key: str, wanted: str, hint: str = _CONFIG_HINT) -> CheckpointError:
        found = f"is {reprlib.repr(self.get(key))}" if key in self._values else "is missing"
        return CheckpointError(f"config.json: {key} {found}; it must be {wanted}", hint=hint)


def _parse_glm(config: _Config, sandwich_norms: bool) -> Architecture:
    """Parse the keys of GlmConfig and Glm4Config, as written by transformers 4 and 5, with their defaults."""
    config.require("hidden_act", "silu")
    hidden, heads = config.integer("hidden_size"), config.integer("num_attention_heads")
    head_dim = config.integer("head_dim", hidden // heads)
    # transformers 5 keeps all of RoPE in `rope_parameters`; 4 has `rope_scaling` and two keys next to it. As in
    # transformers, `rope_scaling` takes precedence if a config has both.
    rope = config.section("rope_scaling" if config.get("rope_scaling") else "rope_parameters")
    theta = config.number("rope_theta", 1.001, 1e30, default=1e4)
    rotary = config.number("partial_rotary_factor", 0.0, 1.0, default=0.5)
    context = config.integer("max_position_embeddings")
    yarn = _parse_yarn(rope, config, context)
    return Architecture(
        name="Glm4ForCausalLM" if sandwich_norms else "GlmForCausalLM",
        layers=config.integer("num_hidden_layers"),
        hidden=hidden,
        heads=heads,
        kv_heads=config.integer("num_key_value_heads"),
        head_dim=head_dim,
        ffn=config.integer("intermediate_size"),
        vocab=config.integer("vocab_size"),
        norm_eps=config.number("rms_norm_eps", 0.0, 1.0),
        rope_theta=rope.number("rope_theta", 1.001, 1e30, default=theta),
        rotary_dim=int(head_dim * rope.number("partial_rotary_factor", 0.0, 1.0, default=rotary)),
        qkv_bias=config.boolean("attention_bias", True),
        sandwich_norms=sandwich_norms,
        tied_embeddings=config.boolean("tie_word_embeddings", False),
        context=max(context, int(yarn.original_context * yarn.factor)) if yarn else context,
        yarn=yarn,
    )


def _parse_chatglm(config: _Config) -> Architecture:
    """Parse the keys of ChatGLMConfig, of the format in which GLM-4 was first published."""
    for key, wanted in (
        ("add_bias_linear", False),
        ("rmsnorm", True),
        ("post_layer_norm", True),
        ("apply_residual_connection_post_layernorm", False),
    ):
        config.require(key, wanted)
    if config.get("vision_config") is not None:
        raise CheckpointError(
            "glm-4v is a vision model, which is not supported", hint="use a text model, such as glm-4-9b-chat"
        )
    heads, head_dim = config.integer("num_attention_heads"), config.integer("kv_channels")
    grouped = config.boolean("multi_query_attention", False)
    return Architecture(
        name="ChatGLMModel",
        layers=config.integer("num_layers" if config.get("num_layers") is not None else "num_hidden_layers"),
        hidden=config.integer("hidden_size"),
        heads=heads,
        kv_heads=config.integer("multi_query_group_num") if grouped else heads,
        head_dim=head_dim,
        ffn=config.integer("ffn_hidden_size"),
        vocab=config.integer("padded_vocab_size"),
        norm_eps=config.number("layernorm_epsilon", 0.0, 1.0),
        rope_theta=1e4 * config.number("rope_ratio", 1e-3, 1e12, default=1.0),
        rotary_dim=head_dim // 2,  # modeling_chatglm.py rotates the first half, whatever the config
        qkv_bias=config.boolean("add_qkv_bias", False),
        sandwich_norms=False,
        tied_embeddings=config.boolean("tie_word_embeddings", False),
        context=config.integer("seq_length"),
        yarn=None,
    )


def _parse_yarn(rope: _Config, config: _Config, context: int) -> Yarn | None:
    """Parse the YaRN section, with the defaults of transformers' `_compute_yarn_parameters`."""
    kind = rope.get("rope_type") or rope.get("type") or "default"
    if kind == "default":
        return None
    if kind != "yarn":
        raise CheckpointError(
            f"config.json: the rope type {reprlib.repr(kind)} is not supported", hint="GLM-4 uses 'default' or 'yarn'"
        )
    original = rope.integer("original_max_position_embeddings", context)
    original = config.integer("original_max_position_embeddings", original)  # in this order in transformers, too
    factor = rope.number("factor", 1.0, 1e6, default=max(1.0, context / original))
    scale, scale_all = rope.number("mscale", 0.0, 1e6, 0.0), rope.number("mscale_all_dim", 0.0, 1e6, 0.0)
    attention = _mscale(factor, scale) / _mscale(factor, scale_all) if scale and scale_all else _mscale(factor, 1.0)
    return Yarn(
        factor=factor,
        original_context=original,
        beta_fast=rope.number("beta_fast", 0.0, 1e6, default=32.0) or 32.0,
        beta_slow=rope.number("beta_slow", 0.0, 1e6, default=1.0) or 1.0,
        attention_factor=rope.number("attention_factor", 0.0, 1e6, default=attention),
        truncate=rope.boolean("truncate", True),
    )


def _mscale(factor: float, scale: float) -> float:
    return 1.0 if factor <= 1.0 else 0.1 * scale * math.log(factor) + 1.0


def _validate(a: Architecture) -> None:
    if a.heads % a.kv_heads:
        raise CheckpointError(
            f"config.json: {a.heads} attention heads cannot be split into {a.kv_heads} key-value groups",
            hint=_CONFIG_HINT,
        )
    if a.rotary_dim < 2 or a.rotary_dim % 2:
        raise CheckpointError(
            f"config.json: RoPE would rotate {a.rotary_dim} of {a.head_dim} dimensions; it must be an even number",
            hint=_CONFIG_HINT,
        )


_PARSERS: dict[str, Callable[[_Config], Architecture]] = {  # by config.json's `architectures`
    "Glm4ForCausalLM": lambda config: _parse_glm(config, sandwich_norms=True),
    "GlmForCausalLM": lambda config: _parse_glm(config, sandwich_norms=False),
    "ChatGLMModel": _parse_chatglm,
    "ChatGLMForConditionalGeneration": _parse_chatglm,
}
