"""Checkpoints as others write them: chat templates, configurations and GGUF files that GLM-4's own do not look like.

What is not supported yet is an expected failure, with today's behaviour as its reason.
"""

import json
import shutil
import struct

import pytest

from convert.output.tokenizer import write_tokenizer
from edge.conversion import convert
from edge.demo import CHECKPOINT
from runtime.backends.echo import Echo
from runtime.checkpoint.checkpoint import Checkpoint
from runtime.checkpoint.tensors import CheckpointTensors
from runtime.checkpoint.tokenizer import read_tokenizer
from runtime.errors import CheckpointError, Notice
from runtime.events import Text, ToolCall
from runtime.messages import Message
from runtime.model import Model
from runtime.prompt.template import ChatTemplate
from runtime.sampling import Sampling, SamplingParams

from .checkpoints import Tiny
from .ggufs import write_gguf
from .references import write_tiktoken

WEATHER = {
    "name": "get_weather",
    "description": "w",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
HISTORY = (Message("user", "U1"), Message("assistant", "A1"), Message("user", "U2"))
CALLED = (
    Message("user", "q"),
    Message("assistant", "", tool_calls=(ToolCall("get_weather", '{"city":"x"}', "c1"),)),
    Message("tool", "sunny", tool_call_id="c1", name="get_weather"),
)
TURNS = "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}{% endfor %}<|assistant|>"


def not_yet(*values, reason):
    return pytest.param(*values, marks=pytest.mark.xfail(strict=True, reason=reason))


def with_tools(item, turns=TURNS):
    """A template that lays out each tool by `item`."""
    tools = "{% if tools %}<|system|>\n{% for t in tools %}" + item + "\n{% endfor %}{% endif %}"
    return "[gMASK]<sop>" + tools + turns


@pytest.fixture
def checkpoint(tmp_path):
    """The embedded checkpoint without its weights."""
    shutil.copytree(CHECKPOINT, tmp_path / "tiny", ignore=shutil.ignore_patterns("*.safetensors"))
    return tmp_path / "tiny"


def edit(path, **changes):
    """Change keys of a JSON file; `...` removes one."""
    values = json.loads(path.read_text(encoding="utf-8")) | changes
    path.write_text(json.dumps({key: value for key, value in values.items() if value is not ...}), encoding="utf-8")


def render(checkpoint, template, messages, tools=()):
    (checkpoint / "chat_template.jinja").write_text(template, encoding="utf-8")
    opened = Checkpoint.open(checkpoint)
    compiled = ChatTemplate(opened.chat_templates(), opened.family, opened.manifest.special_tokens)
    return "".join(compiled.render(messages, tools))


CALLS_OF_OPENAI = with_tools(
    "{{ t | tojson }}",
    "{% for m in messages %}{% if m.role == 'assistant' and m.tool_calls %}{% for c in m.tool_calls %}"
    "<|assistant|>{{ c.function.name }}\n{{ c.function.arguments }}{% endfor %}{% elif m.role == 'tool' %}"
    "<|observation|>\n{{ m.content }}{% else %}<|{{ m.role }}|>\n{{ m.content }}{% endif %}{% endfor %}<|assistant|>",
)
EOS_AFTER_REPLIES = (
    "[gMASK]<sop>{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}"
    "{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}<|assistant|>"
)
EOS_AFTER_ALL = (
    "[gMASK]<sop>{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + eos_token }}{% endfor %}<|assistant|>"
)
RENDERED = {
    "eos_token after replies": (
        EOS_AFTER_REPLIES,
        HISTORY,
        (),
        "[gMASK]<sop><|user|>\nU1<|assistant|>\nA1<|endoftext|><|user|>\nU2<|assistant|>",
    ),
    "eos_token joined to text": (
        EOS_AFTER_ALL,
        HISTORY,
        (),
        "[gMASK]<sop><|user|>\nU1<|endoftext|><|assistant|>\nA1<|endoftext|><|user|>\nU2<|endoftext|><|assistant|>",
    ),
    "tool['function'] with its name": (
        with_tools("{{ t['function']['name'] }}: {{ t['function'] | tojson }}"),
        HISTORY[:1],
        (WEATHER,),
        f"[gMASK]<sop><|system|>\nget_weather: {json.dumps(WEATHER)}\n<|user|>\nU1<|assistant|>",
    ),
    "the whole tool": (
        with_tools("{{ t | tojson }}"),
        HISTORY[:1],
        (WEATHER,),
        f"[gMASK]<sop><|system|>\n{json.dumps({'type': 'function', 'function': WEATHER})}\n<|user|>\nU1<|assistant|>",
    ),
}


@pytest.mark.parametrize(("template", "messages", "tools", "prompt"), RENDERED.values(), ids=RENDERED.keys())
def test_a_template_renders_as_in_transformers(checkpoint, template, messages, tools, prompt):
    assert render(checkpoint, template, messages, tools) == prompt


def test_a_template_of_tool_calls_keeps_the_name(checkpoint):
    assert "<|assistant|>get_weather\n" in render(checkpoint, CALLS_OF_OPENAI, CALLED, (WEATHER,))


THOUGHT_DROPPED = (
    "[gMASK]<sop>{% for m in messages %}{% set visible = m.content.split('</think>')[-1].strip() %}"
    "<|{{ m.role }}|>\n{{ visible }}{% endfor %}<|assistant|>"
)


def test_reasoning_that_the_model_opens_itself_is_no_text(checkpoint):
    """GLM-Z1 with a template that drops former reasoning, and leaves <think> to the model."""
    (checkpoint / "chat_template.jinja").write_text(THOUGHT_DROPPED, encoding="utf-8")
    model = Model(Checkpoint.open(checkpoint), backend=Echo(["<think>\nI think so.</think>\n\nThe answer."]))
    text = "".join(event.text for event in model.reply([Message("user", "q")]) if isinstance(event, Text))
    assert text.strip() == "The answer."


@pytest.mark.parametrize("count", [None, 32], ids=["no dimension_count", "the whole head"])
def test_rope_of_an_early_gguf_turns_half_of_a_head(tmp_path, count):
    """GLM-4 has no other, though llama.cpp wrote such files at first."""
    path = write_gguf(CHECKPOINT, tmp_path / "early.gguf", "F16", glm4__rope__dimension_count=count)
    with pytest.warns(Notice, match=r"rope\.dimension_count"), CheckpointTensors.open(path) as opened:
        assert opened.architecture.rotary_dim == 16


ARCHITECTURES = {
    "missing": ...,
    "null": None,
    "empty": [],
    "a model without a head": ["Glm4Model"],
    "an adapter's wrapper": ["PeftModelForCausalLM"],
    "TRL's value head": ["AutoModelForCausalLMWithValueHead"],
}


@pytest.mark.parametrize("architectures", ARCHITECTURES.values(), ids=ARCHITECTURES.keys())
def test_model_type_is_enough(checkpoint, architectures):
    edit(checkpoint / "config.json", architectures=architectures)
    assert Checkpoint.open(checkpoint).manifest.source.architecture == "Glm4ForCausalLM"


SAMPLINGS = {
    "temperature 0": ({"temperature": 0.0}, {"temperature": 0.0}),
    "top_p 0": ({"top_p": 0}, {"temperature": 1.0, "top_p": 0.0}),
    "top_k 0": ({"top_k": 0}, {"temperature": 1.0, "top_k": 0}),
    "null": ({"temperature": None, "top_p": None}, {"temperature": 1.0}),
    "all": (
        {"temperature": 0.6, "top_p": 0.8, "top_k": 20, "min_p": 0.05, "repetition_penalty": 1.1},
        {"temperature": 0.6, "top_p": 0.8, "top_k": 20, "min_p": 0.05, "repetition_penalty": 1.1},
    ),
    "no sampling": ({"do_sample": False, "temperature": 0.6, "repetition_penalty": 1.1}, {"repetition_penalty": 1.1}),
}


@pytest.mark.parametrize(("written", "read"), SAMPLINGS.values(), ids=SAMPLINGS.keys())
def test_sampling_of_generation_config(checkpoint, written, read):
    """Zeros are values, and all settings are in the manifest."""
    edit(checkpoint / "generation_config.json", **{"do_sample": True} | written)
    opened = Checkpoint.open(checkpoint)
    assert opened.manifest.sampling == read
    assert opened.sampling() == Sampling(**read)


@pytest.mark.parametrize(
    ("settings", "greedy"),
    [
        ({}, True),
        ({"temperature": 1.0}, False),
        ({"temperature": 1.0, "top_p": 0.0}, True),
        ({"temperature": 1.0, "min_p": 1.0}, True),
        ({"temperature": 1.0, "min_p": 0.5, "top_p": 0.5}, False),
    ],
)
def test_settings_that_leave_one_token(settings, greedy):
    assert SamplingParams(**settings).greedy is greedy


def add_tensors(path, names):
    """Put tensors of one f32 each into a safetensors file, before the others."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    shift = 4 * len(names)
    for name, entry in header.items():
        if name != "__metadata__":
            entry["data_offsets"] = [offset + shift for offset in entry["data_offsets"]]
    for i, name in enumerate(names):
        header[name] = {"dtype": "F32", "shape": [1], "data_offsets": [4 * i, 4 * i + 4]}
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    path.write_bytes(struct.pack("<Q", len(encoded)) + encoded + bytes(shift) + data[8 + length :])


PASSED_OVER = {
    "TRL's value head": (["v_head.summary.weight", "v_head.summary.bias"], "v_head.summary.bias"),
    "RoPE's tables of transformers": (
        [f"model.layers.{i}.self_attn.rotary_emb.inv_freq" for i in range(6)],
        "layers.N",
    ),
    "one table": (["model.rotary_emb.inv_freq"], "model.rotary_emb.inv_freq"),
    "Transformer Engine": (["model.layers.0.mlp.down_proj._extra_state"], "_extra_state"),
}


@pytest.mark.parametrize(("names", "named"), PASSED_OVER.values(), ids=PASSED_OVER.keys())
def test_tensors_that_are_not_the_decoder_s_are_passed_over_by_name(tmp_path, names, named):
    path = Tiny().write(tmp_path)
    add_tensors(path / "model.safetensors", names)
    with pytest.warns(Notice, match="were passed over") as caught, CheckpointTensors.open(path) as opened:
        assert not set(opened.names) & set(names)
    assert named in str(caught[0].message)
    assert len(caught) == 1


@pytest.mark.parametrize(
    "name",
    ["model.layers.0.self_attn.q_proj.lora_A.weight", "transformer.prefix_encoder.embedding.weight", "score.weight"],
)
def test_tensors_that_would_change_replies_are_not(tmp_path, name):
    path = Tiny().write(tmp_path)
    add_tensors(path / "model.safetensors", [name])
    with pytest.raises(CheckpointError, match="does not belong to this decoder"):
        CheckpointTensors.open(path)


def test_a_conversion_records_what_was_passed_over(tmp_path):
    shutil.copytree(CHECKPOINT, tmp_path / "tuned")
    add_tensors(tmp_path / "tuned" / "model.safetensors", ["v_head.summary.weight"])
    with pytest.warns(Notice, match="v_head"):
        folder = convert(tmp_path / "tuned", tmp_path / "out", "int8")
    assert any("v_head.summary.weight" in note for note in folder.manifest.notes)


LFS_POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4665a5ea\nsize 4995443264\n"


@pytest.mark.parametrize("name", ["tokenizer.json", "config.json", "chat_template.jinja", "model.safetensors"])
def test_a_git_lfs_pointer_is_told(checkpoint, name):
    (checkpoint / name).write_text(LFS_POINTER)
    with pytest.raises(CheckpointError, match=rf"{name} is a git-lfs pointer") as caught:
        Checkpoint.open(checkpoint).weights()
    assert "git lfs pull" in caught.value.hint


@pytest.mark.parametrize("changes", [{"dtype": ..., "torch_dtype": "bfloat16"}, {"dtype": ...}, {"dtype": "float32"}])
def test_the_spelling_of_dtype_changes_nothing(checkpoint, changes):
    """Tensors have a type of their own."""
    before = Checkpoint.open(checkpoint)
    edit(checkpoint / "config.json", **changes)
    after = Checkpoint.open(checkpoint)
    assert (after.architecture, after.manifest) == (before.architecture, before.manifest)


def add_token(checkpoint, token_id, special=True, **flags):
    """Add <|new|> as `tokenizer.add_tokens` and `save_pretrained` do, in tokenizer.json."""
    path = checkpoint / "tokenizer.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    entry = {"lstrip": False, "rstrip": False, "single_word": False, "normalized": False} | flags
    values["added_tokens"].append({"id": token_id, "content": "<|new|>", "special": special} | entry)
    path.write_text(json.dumps(values, ensure_ascii=False), encoding="utf-8")


@pytest.mark.parametrize("special", [True, False])
def test_a_token_added_without_resizing_the_embedding(tmp_path, special):
    """GLM-4's embedding has more rows than its tokenizer has tokens. The tiny one has none left."""
    source = Tiny(vocab=2598, config={"eos_token_id": [2466, 2480]}).write(tmp_path / "tuned")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copyfile(CHECKPOINT / name, source / name)
    add_token(source, 2480, special)
    opened = Checkpoint.open(source)
    assert opened.tokenizer.encode("a<|new|>b").count(2480) == 1
    assert "<|new|>" in opened.manifest.stop_tokens
    (tmp_path / "out").mkdir()
    write_tokenizer(opened.tokenizer, tmp_path / "out")
    import openvino_genai as genai

    for text in ("a<|new|>b", "<|new|> x", "y\n<|new|>\n<|user|>"):
        found = genai.Tokenizer(str(tmp_path / "out")).encode(text, add_special_tokens=False).input_ids.data[0]
        assert found.tolist() == opened.tokenizer.encode(text)


def test_a_token_without_a_row_is_rejected_by_its_id(checkpoint):
    add_token(checkpoint, 2480)
    with pytest.raises(CheckpointError, match="the id 2480, but the model has only 2480 ids"):
        Checkpoint.open(checkpoint)


@pytest.mark.parametrize("tied", [True, False])
def test_a_decoder_saved_without_its_head(tmp_path, tied):
    """As Glm4Model: names lack `model.`. With tied embeddings nothing is missing."""
    tiny = Tiny(tied=tied)
    path = tiny.write(tmp_path / "whole")
    bare = tiny.write(tmp_path / "bare")
    data = (bare / "model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header = {name.removeprefix("model."): entry for name, entry in header.items()}
    if not tied:
        header["v_head.weight"] = header.pop("lm_head.weight")
    encoded = json.dumps(header).encode()
    (bare / "model.safetensors").write_bytes(struct.pack("<Q", len(encoded)) + encoded + data[8 + length :])
    if not tied:
        with pytest.raises(CheckpointError, match=r"'lm_head.weight' is missing") as caught:
            CheckpointTensors.open(bare)
        assert "text generation" in caught.value.hint
        return
    with CheckpointTensors.open(path) as wanted, CheckpointTensors.open(bare) as found:
        assert found.names == wanted.names
        for name in found.names:
            assert (found.tensor(name).f32() == wanted.tensor(name).f32()).all()


def test_the_token_files_of_earlier_transformers(tmp_path):
    """special_tokens_map.json and added_tokens.json, where tokenizer_config.json has nothing of theirs."""
    ranks = [bytes([byte]) for byte in range(256)]
    folder = write_tiktoken(tmp_path, ranks)
    wanted = read_tokenizer(folder, 300)
    edit(folder / "tokenizer_config.json", added_tokens_decoder=..., eos_token=..., pad_token=...)
    listed = dict(wanted.special_tokens.items())
    (folder / "added_tokens.json").write_text(json.dumps(listed))
    named = {"eos_token": {"content": "<|user|>", "lstrip": False}, "pad_token": "<|endoftext|>"}
    (folder / "special_tokens_map.json").write_text(json.dumps(named))
    found = read_tokenizer(folder, 300)
    assert found.special_tokens == wanted.special_tokens
    assert (found.eos_token, found.pad_token) == ("<|user|>", "<|endoftext|>")


def test_an_added_token_strips_the_blanks_beside_it(tmp_path):
    folder = write_tiktoken(tmp_path, [bytes([byte]) for byte in range(256)])
    decoder = json.loads((folder / "tokenizer_config.json").read_text())["added_tokens_decoder"]
    decoder["270"] = {"content": "<|new|>", "special": True, "lstrip": True, "rstrip": True}
    edit(folder / "tokenizer_config.json", added_tokens_decoder=decoder)
    source = read_tokenizer(folder, 300)
    assert source.encode("a <|new|>  b") == [ord("a"), 270, ord("b")]
    write_tokenizer(source, tmp_path)
    import openvino_genai as genai

    found = genai.Tokenizer(str(tmp_path)).encode("a <|new|>  b", add_special_tokens=False).input_ids.data[0]
    assert found.tolist() == [ord("a"), 270, ord("b")]
