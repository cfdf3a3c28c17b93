"""The embedded checkpoint's model: GLM-4-0414's architecture in a small size, saved as a checkpoint folder."""

import json
from pathlib import Path
from shutil import copyfile

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import nn
from transformers import Glm4Config, Glm4ForCausalLM

from .prompt import TEMPLATE

CONTEXT = 2048


def config(tokenizer: Tokenizer) -> Glm4Config:
    """Return GLM-4-0414's architecture in a small size: widths are multiples of the int4 group size."""
    stops = [tokenizer.token_to_id(token) for token in ("<|endoftext|>", "<|user|>", "<|observation|>")]
    return Glm4Config(
        architectures=["Glm4ForCausalLM"],
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=6,
        num_attention_heads=8,
        num_key_value_heads=2,
        head_dim=32,
        partial_rotary_factor=0.5,
        rope_theta=10000.0,
        attention_bias=True,
        rms_norm_eps=1e-5,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        pad_token_id=stops[0],
        eos_token_id=stops,
        bos_token_id=None,
        dtype="bfloat16",
    )


def initialise(model: Glm4ForCausalLM) -> None:
    """Initialise embeddings with norm 1, and sublayers with outputs that are small against them."""
    nn.init.normal_(model.model.embed_tokens.weight, std=model.config.hidden_size**-0.5)
    for layer in model.model.layers:
        nn.init.constant_(layer.post_self_attn_layernorm.weight, 0.02)
        nn.init.constant_(layer.post_mlp_layernorm.weight, 0.02)


def save(model: Glm4ForCausalLM, out: Path) -> None:
    """Write config, generation config, template and bfloat16 weights."""
    state = {name: tensor.detach().to(torch.bfloat16).clone() for name, tensor in model.state_dict().items()}
    state.pop("lm_head.weight", None)
    state = {name.replace("._orig_mod", ""): tensor for name, tensor in state.items()}
    save_file(state, out / "model.safetensors", metadata={"format": "pt"})
    model.config.dtype = torch.bfloat16  # a model that was loaded to continue training has float32
    model.config.save_pretrained(out)
    generation = {
        "do_sample": False,
        "eos_token_id": model.config.eos_token_id,
        "pad_token_id": model.config.pad_token_id,
    }
    (out / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n", encoding="utf-8")
    if out != TEMPLATE.parent:
        copyfile(TEMPLATE, out / TEMPLATE.name)
