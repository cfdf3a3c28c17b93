"""The names of tensors in each format, and which rows of a fused matrix they are."""

from collections.abc import Callable
from dataclasses import dataclass

from .architecture import Architecture
from .vision.eva_clip import PREFIX as EVA_TOWER
from .vision.glm4_1v import PREFIX as TOWER


@dataclass(frozen=True, slots=True)
class TensorLocation:
    """A tensor as its file has it: name, shape, and the rows that are meant (None: all)."""

    name: str
    shape: tuple[int, ...]
    rows: slice | None = None


TensorNaming = Callable[[Architecture, str, tuple[int, ...]], TensorLocation]  # canonical name and shape -> location


def canonical_names(architecture: Architecture, name: str, shape: tuple[int, ...]) -> TensorLocation:
    """Return the location under the canonical name, that of transformers' Glm4ForCausalLM and GlmForCausalLM."""
    return TensorLocation(name, shape)


def glm4v_names(architecture: Architecture, name: str, shape: tuple[int, ...]) -> TensorLocation:
    """Return the location in Glm4vForConditionalGeneration, whose decoder is `model.language_model`."""
    of_decoder = name.startswith("model.") and not name.startswith(TOWER)
    return TensorLocation(f"model.language_model.{name.removeprefix('model.')}" if of_decoder else name, shape)


_CHATGLM_NAMES = {  # whole names, and stems within a layer
    "model.embed_tokens.weight": "transformer.embedding.word_embeddings.weight",
    "model.norm.weight": "transformer.encoder.final_layernorm.weight",
    "lm_head.weight": "transformer.output_layer.weight",
    "self_attn.o_proj": "self_attention.dense",
    "mlp.gate_up_proj": "mlp.dense_h_to_4h",
    "mlp.down_proj": "mlp.dense_4h_to_h",
}


def chatglm_names(a: Architecture, name: str, shape: tuple[int, ...]) -> TensorLocation:
    """Return the location in ChatGLMModel, where q, k and v are one matrix, except in the tower."""
    if name.startswith(EVA_TOWER):
        return TensorLocation(name, shape)
    if name in _CHATGLM_NAMES:
        return TensorLocation(_CHATGLM_NAMES[name], shape)
    layer, stem, kind = _split_layer_name(name)
    prefix = f"transformer.encoder.layers.{layer}."
    return _fused_qkv(a, stem, shape, f"{prefix}self_attention.query_key_value.{kind}") or TensorLocation(
        f"{prefix}{_CHATGLM_NAMES.get(stem, stem)}.{kind}", shape
    )


# llama.cpp's graphs of glm4 and chatglm rotate neighbours by RoPE and keep gate and up in one matrix, as the
# checkpoints do, so its converter only renames and permutes nothing: src/models/glm4.cpp, conversion/glm.py.
_GGUF_NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_self_attn_layernorm": "post_attention_norm",
    "post_attention_layernorm": "ffn_norm",
    "post_mlp_layernorm": "post_ffw_norm",
}


def gguf_names(a: Architecture, name: str, shape: tuple[int, ...]) -> TensorLocation:
    """Return the location in a GGUF."""
    if name in _GGUF_NAMES:
        return TensorLocation(_GGUF_NAMES[name], shape)
    layer, stem, kind = _split_layer_name(name)
    return TensorLocation(f"blk.{layer}.{_GGUF_NAMES[stem]}.{kind}", shape)


def gguf_fused_names(a: Architecture, name: str, shape: tuple[int, ...]) -> TensorLocation:
    """Return the location in a GGUF of a ChatGLMModel, where q, k and v are one matrix."""
    if name in _GGUF_NAMES:
        return TensorLocation(_GGUF_NAMES[name], shape)
    layer, stem, kind = _split_layer_name(name)
    return _fused_qkv(a, stem, shape, f"blk.{layer}.attn_qkv.{kind}") or gguf_names(a, name, shape)


def _split_layer_name(name: str) -> tuple[str, str, str]:
    """Return layer, stem and kind (weight or bias) of a canonical name within a layer."""
    _, _, layer, part = name.split(".", 3)
    stem, kind = part.rsplit(".", 1)
    return layer, stem, kind


def _fused_qkv(a: Architecture, stem: str, shape: tuple[int, ...], name: str) -> TensorLocation | None:
    """Return the location of q, k or v in a matrix of all three; None for any other stem."""
    q, kv = a.heads * a.head_dim, a.kv_heads * a.head_dim
    rows = {
        "self_attn.q_proj": slice(0, q),
        "self_attn.k_proj": slice(q, q + kv),
        "self_attn.v_proj": slice(q + kv, q + 2 * kv),
    }.get(stem)
    return rows and TensorLocation(name, (q + 2 * kv, *shape[1:]), rows)


def naming_without_head(naming: TensorNaming) -> TensorNaming:
    """Return the naming of a decoder that was saved without its head (as Glm4Model): `model.` is not in its names."""

    def located(a: Architecture, name: str, shape: tuple[int, ...]) -> TensorLocation:
        found = naming(a, name, shape)
        return TensorLocation(found.name.removeprefix("model."), found.shape, found.rows)

    return located


SAFETENSORS_NAMES: dict[str, TensorNaming] = {  # in safetensors files, by architecture
    "Glm4ForCausalLM": canonical_names,
    "GlmForCausalLM": canonical_names,
    "ChatGLMModel": chatglm_names,
    "Glm4vForConditionalGeneration": glm4v_names,
}
