"""The architecture of a GLM-4 checkpoint: config.json as one validated record.

Four implementations have the same decoder and differ in config.json's keys and in the parts of a layer:

    Glm4ForCausalLM   GLM-4-0414, Z1, Rumination: sandwich norms, four a layer
    GlmForCausalLM    glm-4-9b-…-hf and GLM-Edge: two norms a layer
    ChatGLMModel      glm-4-9b, -chat, -1m as first published; glm-4v-9b, with a tower for pictures
    Glm4vForConditionalGeneration    GLM-4.1V and GLM-4.6V-Flash: Glm4ForCausalLM's decoder, and a tower for pictures
"""

import reprlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import CheckpointError
from ..text import quoted
from .adapters.config import reject_adapter_alone
from .config_object import CONFIG_HINT, ConfigObject
from .files.small_files import read_json, resolve_file
from .quantized.config import read_quantization
from .rope import Yarn, read_rope, rope_key
from .vision.eva_clip import EvaClipVision, read_eva_clip
from .vision.glm4_1v import Glm41Vision, read_glm41_vision

__all__ = ["Architecture", "Yarn", "read_architecture", "read_config"]

CHECKPOINT_CONFIG = "checkpoint_config.json"  # in the folder of a vision model, whose config.json is for GenAI
_CLASSIFIERS = ("ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering")


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
    rope_factor: float = 1.0  # by which positions are divided
    vision: EvaClipVision | Glm41Vision | None = None  # the tower of a model that reads pictures
    rope_sections: tuple[int, ...] = ()  # M-RoPE: the pairs of dimensions that turn with time, height, width, in turn

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

    def all_shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield the canonical name and shape of every tensor, those of the tower after the decoder's."""
        yield from self.shapes()
        if self.vision is not None:
            yield from self.vision.shapes()


def read_config(path: Path) -> dict[str, Any]:
    """Return the config.json of a checkpoint folder, or of a model folder: that of a vision model has the checkpoint's
    under another name. Raises CheckpointError."""
    if not path.is_dir():
        raise CheckpointError(f"there is no folder {str(path)!r}", hint="pass the folder that contains config.json")
    if resolve_file(path, CHECKPOINT_CONFIG) is not None:
        return read_json(path / CHECKPOINT_CONFIG, required=True)
    if resolve_file(path, "config.json") is None:
        reject_adapter_alone(path)
        raise CheckpointError(f"{str(path)!r} has no config.json", hint="pass the folder of a downloaded checkpoint")
    return read_json(path / "config.json", required=True)


def read_architecture(config: Mapping[str, Any]) -> Architecture:
    """Return the architecture in a parsed config.json. Raises CheckpointError if it is unsupported or impossible."""
    read_quantization(config)  # rejects what is not supported
    architecture = _PARSERS[_architecture_name(config)](ConfigObject(config))
    _validate(architecture)
    return architecture


def _architecture_name(config: Mapping[str, Any]) -> str:
    """Return the architecture that transformers' AutoModelForCausalLM would choose: that of the `model_type`. A trainer
    may have left `architectures` out, or written the name of its own class there."""
    names = config.get("architectures")
    name = names[0] if isinstance(names, list) and names else names
    if isinstance(name, str) and name.endswith(_CLASSIFIERS):
        raise CheckpointError(
            f"config.json: {quoted(name)} labels texts, and writes none", hint="use a checkpoint for text generation"
        )
    model_type = config.get("model_type")
    if isinstance(model_type, str) and model_type in _MODEL_TYPES:
        return _MODEL_TYPES[model_type]
    if isinstance(name, str) and name in _PARSERS:
        return name
    raise CheckpointError(
        f"config.json: the architecture {reprlib.repr(name)} is not supported",
        hint=f"supported: {', '.join(_SUPPORTED)}",
    )


def _parse_glm(config: ConfigObject, sandwich_norms: bool) -> Architecture:
    """Parse the keys of GlmConfig and Glm4Config, as written by transformers 4 and 5, with their defaults."""
    config.require("hidden_act", "silu")
    hidden, heads = config.integer("hidden_size"), config.integer("num_attention_heads")
    head_dim = config.integer("head_dim", hidden // heads)
    rope = read_rope(config, head_dim)
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
        rope_theta=rope.theta,
        rotary_dim=rope.rotary_dim,
        qkv_bias=config.boolean("attention_bias", True),
        sandwich_norms=sandwich_norms,
        tied_embeddings=config.boolean("tie_word_embeddings", False),
        context=rope.context,
        yarn=rope.yarn,
        rope_factor=rope.factor,
    )


def _parse_chatglm(config: ConfigObject) -> Architecture:
    """Parse the keys of ChatGLMConfig, of the format in which GLM-4 was first published."""
    for key, wanted in (
        ("add_bias_linear", False),
        ("rmsnorm", True),
        ("post_layer_norm", True),
        ("apply_residual_connection_post_layernorm", False),
    ):
        config.require(key, wanted)
    hidden, ffn = config.integer("hidden_size"), config.integer("ffn_hidden_size")
    sees = config.get("vision_config") is not None
    heads, head_dim = config.integer("num_attention_heads"), config.integer("kv_channels")
    grouped = config.boolean("multi_query_attention", False)
    return Architecture(
        name="ChatGLMModel",
        layers=config.integer("num_layers" if config.get("num_layers") is not None else "num_hidden_layers"),
        hidden=hidden,
        heads=heads,
        kv_heads=config.integer("multi_query_group_num") if grouped else heads,
        head_dim=head_dim,
        ffn=ffn,
        vocab=config.integer("padded_vocab_size"),
        norm_eps=config.number("layernorm_epsilon", 0.0, 1.0),
        rope_theta=1e4 * config.number("rope_ratio", 1e-3, 1e12, default=1.0),
        rotary_dim=head_dim // 2,  # modeling_chatglm.py rotates the first half, whatever the config
        qkv_bias=config.boolean("add_qkv_bias", False),
        sandwich_norms=False,
        tied_embeddings=config.boolean("tie_word_embeddings", False),
        context=config.integer("seq_length"),
        yarn=None,
        vision=read_eva_clip(config.section("vision_config"), hidden, ffn) if sees else None,
    )


def _parse_glm4v(config: ConfigObject) -> Architecture:
    """Parse the keys of Glm4vConfig. Its decoder's are in `text_config`, or beside `vision_config` as in the first
    published GLM-4.1V-9B-Thinking."""
    text = config.section("text_config") if config.get("text_config") else config
    text.require("head_dim", text.integer("hidden_size") // text.integer("num_attention_heads"))
    text.require("attention_bias", True)  # Glm4vTextAttention has it, whatever the config
    parsed = _parse_glm(text, sandwich_norms=True)
    sections = text.section(rope_key(text)).get("mrope_section")
    if not isinstance(sections, list) or not all(type(pairs) is int and pairs > 0 for pairs in sections):
        raise CheckpointError("config.json: mrope_section is not a list of numbers", hint=CONFIG_HINT)
    if sum(sections) != (pairs := parsed.rotary_dim // 2):
        raise CheckpointError(
            f"config.json: mrope_section has {sum(sections)} pairs of dimensions, but RoPE rotates {pairs}",
            hint=CONFIG_HINT,
        )
    if parsed.yarn is not None or parsed.rope_factor != 1:
        raise CheckpointError(
            "config.json: an extended context is not supported for vision models",
            hint="remove the rope type from config.json",
        )
    return replace(
        parsed,
        name="Glm4vForConditionalGeneration",
        tied_embeddings=parsed.tied_embeddings or config.boolean("tie_word_embeddings", False),
        rope_sections=tuple(sections),
        vision=read_glm41_vision(config.section("vision_config"), parsed.hidden),
    )


def _parse_glm4v_moe(config: ConfigObject) -> Architecture:
    raise CheckpointError(
        "GLM-4.5V and GLM-4.6V are mixtures of experts, which are not supported",
        hint="use GLM-4.6V-Flash or GLM-4.1V-9B-Thinking",
    )


def _validate(a: Architecture) -> None:
    if a.heads % a.kv_heads:
        raise CheckpointError(
            f"config.json: {a.heads} attention heads cannot be split into {a.kv_heads} key-value groups",
            hint=CONFIG_HINT,
        )
    if a.rotary_dim < 2 or a.rotary_dim % 2:
        raise CheckpointError(
            f"config.json: RoPE would rotate {a.rotary_dim} of {a.head_dim} dimensions; it must be an even number",
            hint=CONFIG_HINT,
        )


_MODEL_TYPES = {
    "glm4": "Glm4ForCausalLM",
    "glm": "GlmForCausalLM",
    "chatglm": "ChatGLMModel",
    "glm4v": "Glm4vForConditionalGeneration",
    "glm4v_moe": "Glm4vMoeForConditionalGeneration",
}
_PARSERS: dict[str, Callable[[ConfigObject], Architecture]] = {  # by config.json's `architectures`
    "Glm4ForCausalLM": lambda config: _parse_glm(config, sandwich_norms=True),
    "GlmForCausalLM": lambda config: _parse_glm(config, sandwich_norms=False),
    "ChatGLMModel": _parse_chatglm,
    "ChatGLMForConditionalGeneration": _parse_chatglm,
    "Glm4vForConditionalGeneration": _parse_glm4v,
    "Glm4vMoeForConditionalGeneration": _parse_glm4v_moe,
}
_SUPPORTED = [name for name, parse in _PARSERS.items() if parse is not _parse_glm4v_moe]
