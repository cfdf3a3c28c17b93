"""A transformers model made of a checkpoint's tensors, the same way for each of the three formats.

transformers has no class for the original format without running the checkpoint's code, but its decoder is that of
GlmForCausalLM; `CheckpointTensors` gives every format's tensors the same names.
"""

from typing import Any

from ...checkpoint.architecture import Architecture
from ...checkpoint.checkpoint import Checkpoint
from ...checkpoint.tensors import Tensor
from ...system.native_effects import ignore_user_warnings, quiet_transformers


def load_model(folder: Checkpoint, dtype: Any, device_map: str | None = None) -> Any:
    """Load the model in `dtype`, on the CPU or spread by `device_map`. Weights that have that type already stay in
    the mapped file. Raises CheckpointError."""
    import transformers

    architecture = folder.architecture
    name = "Glm4" if architecture.sandwich_norms else "Glm"
    config = getattr(transformers, f"{name}Config")(**_config(architecture))
    placed = {} if device_map is None else {"device_map": device_map}
    checkpoint = folder.weights()
    state = {name: _as_torch(checkpoint.tensor(name)) for name in checkpoint.names}
    with quiet_transformers():
        model = getattr(transformers, f"{name}ForCausalLM").from_pretrained(
            None, config=config, state_dict=state, torch_dtype=dtype, **placed
        )
    return model.eval()


def _config(a: Architecture) -> dict[str, Any]:
    """Return the fields of GlmConfig and Glm4Config. transformers 5 reads RoPE from `rope_parameters`, 4 from the
    other three."""
    rotated = a.rotary_dim / a.head_dim
    scaling: dict[str, Any] = {"rope_type": "default"}
    if a.rope_factor != 1:
        scaling = {"rope_type": "linear", "factor": a.rope_factor}
    if a.yarn is not None:
        scaling = {
            "rope_type": "yarn",
            "factor": a.yarn.factor,
            "original_max_position_embeddings": a.yarn.original_context,
            "beta_fast": a.yarn.beta_fast,
            "beta_slow": a.yarn.beta_slow,
            "attention_factor": a.yarn.attention_factor,
            "truncate": a.yarn.truncate,
        }
    return {
        "vocab_size": a.vocab,
        "hidden_size": a.hidden,
        "intermediate_size": a.ffn,
        "num_hidden_layers": a.layers,
        "num_attention_heads": a.heads,
        "num_key_value_heads": a.kv_heads,
        "head_dim": a.head_dim,
        "attention_bias": a.qkv_bias,
        "rms_norm_eps": a.norm_eps,
        "max_position_embeddings": a.context,
        "tie_word_embeddings": a.tied_embeddings,
        "pad_token_id": None,
        "bos_token_id": None,
        "eos_token_id": None,
        "rope_theta": a.rope_theta,
        "partial_rotary_factor": rotated,
        "rope_scaling": None if scaling["rope_type"] == "default" else scaling,
        "rope_parameters": scaling | {"rope_theta": a.rope_theta, "partial_rotary_factor": rotated},
    }


def _as_torch(tensor: Tensor) -> Any:
    import torch

    with ignore_user_warnings():  # the mapping is read-only, and so is who uses it
        values = torch.from_numpy(tensor.data)
    return values.view(torch.bfloat16) if tensor.dtype == "bf16" else values
