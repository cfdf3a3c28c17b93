"""Every model of the catalogue, tiny, in its exact format: it converts, its family is found, and it generates.

Heads, KV groups, biases, norms, RoPE, embeddings, tokenizer files and the keys of config.json are those of the real
checkpoint; widths, depth and vocabulary are small. Chat templates are our own.
"""

import json
import shutil
from pathlib import Path

import pytest

from convert.pipeline import convert
from edge.catalogue import CATALOGUE
from runtime.errors import ModelFolderError
from runtime.events import Finish
from runtime.messages import Message
from runtime.model import Model
from runtime.reply.reply import Reply
from runtime.sampling import Sampling

from .checkpoints import Tiny
from .conftest import SPECIAL_TOKENS
from .references import OWN, write_tiktoken
from .test_tokenizer import RANKS, VOCABULARY

CLOCK = {"name": "clock", "description": "The time", "parameters": {"type": "object", "properties": {}}}
FORMATS = {"Glm4ForCausalLM": "glm4", "GlmForCausalLM": "glm", "ChatGLMModel": "chatglm"}
TEMPLATES = {template.family: template.source for template in OWN.values()}
# What the configurations of the original format hold besides; the remote code that they name is never run.
ORIGINAL = {
    "auto_map": {"AutoConfig": "configuration_chatglm.ChatGLMConfig", "AutoModel": "modeling_chatglm.Nobody"},
    "apply_query_key_layer_scaling": True,
    "apply_residual_connection_post_layernorm": False,
    "attention_softmax_in_fp32": True,
    "bias_dropout_fusion": True,
    "fp32_residual_connection": False,
    "original_rope": True,
    "post_layer_norm": True,
    "rmsnorm": True,
    "torch_dtype": "bfloat16",
    "use_cache": True,
}

TEXT_MODELS = [entry for entry in CATALOGUE.values() if entry.architecture.vision is None]


def write(entry, folder: Path) -> Path:
    """A tiny checkpoint of the entry's model, with the tokenizer files of its format."""
    real, form = entry.architecture, FORMATS[entry.architecture.name]
    ends = [
        len(RANKS),
        SPECIAL_TOKENS.index("<|user|>") + len(RANKS),
        SPECIAL_TOKENS.index("<|observation|>") + len(RANKS),
    ]
    Tiny(
        format=form,
        dtype="bf16",
        heads=real.heads,
        kv_heads=real.kv_heads,
        head_dim=16,
        rotary=real.rotary_dim / real.head_dim,
        theta=real.rope_theta,
        qkv_bias=real.qkv_bias,
        tied=real.tied_embeddings,
        context=real.context,
        vocab=VOCABULARY + 2,
        shards=1 if form == "glm" else 2,
        config={"eos_token_id": ends, "model_type": form, **(ORIGINAL if form == "chatglm" else {})},
    ).write(folder)
    write_tiktoken(folder, RANKS)
    if form != "chatglm":
        from runtime.checkpoint.tokenizer import read_tokenizer

        read_tokenizer(folder, VOCABULARY + 2).tokenizer.save(str(folder / "tokenizer.json"))
        (folder / "tokenizer.model").unlink()
    if entry.family in TEMPLATES:
        (folder / "chat_template.jinja").write_text(TEMPLATES[entry.family], encoding="utf-8")
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ends, "do_sample": True, "top_p": 0.8}))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("entry", TEXT_MODELS, ids=lambda entry: entry.name)
def test_it_converts_and_generates(entry, tmp_path):
    source = write(entry, tmp_path / entry.name)
    for _ in convert(source, tmp_path / "model", "int4"):
        pass
    shutil.rmtree(source)
    few = Sampling(max_new_tokens=8)
    with Model(tmp_path / "model") as model:
        manifest = model.source.manifest
        assert (manifest.family, manifest.source.name) == (entry.family, entry.name)
        assert manifest.source.architecture == entry.architecture.name
        assert manifest.context_length == entry.architecture.context
        (*_, finish) = model.complete("你好, hello", few)
        assert isinstance(finish, Finish)
        assert 0 < finish.usage.completion_tokens <= 8
        if entry.family == "base":
            with pytest.raises(ModelFolderError, match="base model"):
                model.reply([Message("user", "hello")])
            return
        tools = [CLOCK] if model.family.tools else []
        said = Reply.from_events(model.reply([Message("user", "hello")], tools, few))
        assert 0 < said.usage.completion_tokens <= 8
        shown = "".join(model.prompt([Message("user", "hello")], tools))
        assert ("clock" in shown) is model.family.tools
