"""A longer context than config.json has: RoPE as the makers of GLM-4-0414 and GLM-Z1 extend it, by YaRN."""

from collections.abc import Mapping
from typing import Any

from ..errors import CheckpointError
from .architecture import read_architecture
from .config_object import ConfigObject
from .rope import rope_key

_YARN_CONTEXT = 32768  # tokens that GLM-4-0414 and Z1 were trained on; models with more of them need no YaRN
_YARN_FACTOR = 4  # up to which their makers extend them, to 131,072


def extend_context(config: Mapping[str, Any], context: int) -> dict[str, Any]:
    """Return config.json with RoPE extended to `context` tokens.

    GLM-4-0414 and Z1 get YaRN, by up to 4 (https://huggingface.co/zai-org/GLM-4-9B-0414#-long-context-yarn). Where
    config.json has RoPE of the type linear, it covers its factor times the context already. The type dynamic gets the
    theta that transformers computes for a text of `context` tokens. Raises CheckpointError for a context that the model
    has already, or cannot be extended to.
    """
    architecture = read_architecture(config)
    if context <= architecture.context:
        raise CheckpointError(
            f"the model has a context of {architecture.context:,} tokens already", hint="leave out --context"
        )
    values = ConfigObject(config)
    key = rope_key(values) if architecture.name != "ChatGLMModel" else ""
    rope = dict(config.get(key) or {})
    kind = rope.pop("rope_type", None) or rope.pop("type", None) or "default"
    rope.pop("type", None)
    by_yarn = architecture.name == "Glm4ForCausalLM" and kind == "default" and architecture.context <= _YARN_CONTEXT
    if not by_yarn and kind not in ("linear", "dynamic"):
        raise CheckpointError(
            f"this model cannot be extended beyond its context of {architecture.context:,} tokens",
            hint="YaRN is for GLM-4-0414 and GLM-Z1; GLM-4-9B-Chat-1M has a context of 1,048,576 tokens",
        )
    factor = _YARN_FACTOR if by_yarn else values.section(key).number("factor", 1.0, 1e6)
    if context > factor * architecture.context:
        raise CheckpointError(
            f"this model cannot be extended to {context:,} tokens",
            hint=f"--context may be {architecture.context + 1:,} to {int(factor * architecture.context):,}",
        )
    found = dict(config) | {"max_position_embeddings": context}
    if by_yarn:
        yarn = {
            "rope_type": "yarn",
            "factor": context / architecture.context,
            "original_max_position_embeddings": architecture.context,
        }
        return found | {key if key in config else "rope_scaling": rope | yarn}
    if kind == "linear":
        return found
    dim = architecture.rotary_dim
    growth = factor * context / architecture.context - (factor - 1)
    theta = architecture.rope_theta * growth ** (dim / (dim - 2))
    rope.pop("factor", None)
    return found | {key: rope | {"rope_type": "default", "rope_theta": theta}, "rope_theta": theta}
