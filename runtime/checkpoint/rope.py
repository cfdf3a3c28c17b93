"""Rotary position embedding (RoPE), as config.json describes it."""

import math
import reprlib
from dataclasses import dataclass

from ..errors import CheckpointError
from .config_object import ConfigObject

_TYPES = ("default", "linear", "dynamic", "yarn")  # transformers' names of those that are supported


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
class Rope:
    """RoPE as config.json describes it, for a context of so many tokens. `factor` divides positions."""

    theta: float
    rotary_dim: int
    context: int
    factor: float = 1.0
    yarn: Yarn | None = None


def read_rope(config: ConfigObject, head_dim: int) -> Rope:
    """Return the RoPE of a GlmConfig or Glm4Config, as written by transformers 4 and 5, with their defaults.

    transformers 5 keeps all of RoPE in `rope_parameters`; 4 has `rope_scaling` and two keys next to it. As in
    transformers, `rope_scaling` takes precedence if a config has both. Raises CheckpointError.
    """
    rope = config.section(rope_key(config))
    theta = config.number("rope_theta", 1.001, 1e30, default=1e4)
    rotary = config.number("partial_rotary_factor", 0.0, 1.0, default=0.5)
    context = config.integer("max_position_embeddings")
    kind = rope.get("rope_type") or rope.get("type") or "default"
    if kind not in _TYPES:
        raise CheckpointError(
            f"config.json: the rope type {reprlib.repr(kind)} is not supported", hint=f"supported: {', '.join(_TYPES)}"
        )
    yarn = _read_yarn(rope, config, context) if kind == "yarn" else None
    # "dynamic" changes theta for texts beyond the context; within it, it is the default.
    return Rope(
        theta=rope.number("rope_theta", 1.001, 1e30, default=theta),
        rotary_dim=int(head_dim * rope.number("partial_rotary_factor", 0.0, 1.0, default=rotary)),
        context=max(context, int(yarn.original_context * yarn.factor)) if yarn else context,
        factor=rope.number("factor", 1.0, 1e6) if kind == "linear" else 1.0,
        yarn=yarn,
    )


def rope_key(config: ConfigObject) -> str:
    """Return the key of config.json that has the RoPE settings."""
    return "rope_scaling" if config.get("rope_scaling") else "rope_parameters"


def _read_yarn(rope: ConfigObject, config: ConfigObject, context: int) -> Yarn:
    """Read YaRN's settings, with the defaults of transformers' `_compute_yarn_parameters`."""
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
