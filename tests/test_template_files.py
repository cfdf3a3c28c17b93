"""Where a checkpoint keeps its chat templates and the names of its special tokens: as transformers finds them."""

import json
import shutil

import pytest

from edge.demo import CHECKPOINT
from runtime.backends.echo import Echo
from runtime.chat import Chat
from runtime.checkpoint.checkpoint import Checkpoint
from runtime.errors import CheckpointError, RequestError
from runtime.events import Reasoning, Text
from runtime.messages import Message
from runtime.model import Model
from runtime.prompt.template import ChatTemplate

from .ggufs import write_gguf

TOOL = {"name": "clock", "description": "d", "parameters": {"type": "object", "properties": {}}}
WRAPPED = {"type": "function", "function": TOOL}
SAID = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "A"}, {"role": "user", "content": "B"}]
BODY = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}"
    "{% endfor %}{{ tools | tojson }}{{ bos_token }}|{{ unk_token }}|{{ pad_token }}|{{ image_token }}<|assistant|>"
)
DEFAULT, TOOL_USE, RAG = f"[gMASK]d{BODY}", f"[gMASK]t{BODY}", f"[gMASK]r{BODY}"
NAMED = [{"name": "default", "template": DEFAULT}, {"name": "tool_use", "template": TOOL_USE}]


def added(content, **more):
    return {"content": content, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False, **more}


DECODER = {"2466": added("<|endoftext|>", special=True), "2468": added("[gMASK]", special=True)}
OWN_TOKEN = "a token of its own"  # which transformers 4 leaves out
# What is written over the embedded checkpoint: files by their names, and keys of tokenizer_config.json.
PLACES = {
    "chat_template.jinja": ({"chat_template.jinja": DEFAULT}, {}),
    "the file before the key": ({"chat_template.jinja": DEFAULT}, {"chat_template": TOOL_USE}),
    "a key": ({}, {"chat_template": DEFAULT}),
    "a list of names": ({}, {"chat_template": [*NAMED, {"name": "rag", "template": RAG}]}),
    "a folder of others": (
        {
            "chat_template.jinja": DEFAULT,
            "additional_chat_templates/tool_use.jinja": TOOL_USE,
            "additional_chat_templates/rag.jinja": RAG,
        },
        {},
    ),
    "line ends of Windows": ({"chat_template.jinja": DEFAULT.replace("\n", "\r\n")}, {}),
    "tokens as objects": (
        {"chat_template.jinja": DEFAULT},
        {
            "bos_token": {"__type": "AddedToken", **added("[gMASK]")},
            "unk_token": "<eop>",
            "added_tokens_decoder": DECODER,
        },
    ),
    "special_tokens_map.json": (
        {
            "chat_template.jinja": DEFAULT,
            "special_tokens_map.json": json.dumps({"bos_token": added("[gMASK]"), "eos_token": "<|user|>"}),
        },
        {},
    ),
    "special_tokens_map.json beside a list of tokens": (
        {"chat_template.jinja": DEFAULT, "special_tokens_map.json": json.dumps({"bos_token": "[sMASK]"})},
        {"added_tokens_decoder": DECODER},
    ),
    OWN_TOKEN: ({"chat_template.jinja": DEFAULT}, {"image_token": "<|begin_of_image|>"}),
    "extra tokens by name": (
        {"chat_template.jinja": DEFAULT},
        {"extra_special_tokens": {"image_token": "<|begin_of_image|>"}},
    ),
}


@pytest.fixture
def checkpoint(tmp_path):
    """The embedded checkpoint without its weights and its template."""
    ignored = shutil.ignore_patterns("*.safetensors", "chat_template.jinja")
    return shutil.copytree(CHECKPOINT, tmp_path / "tiny", ignore=ignored)


def write(checkpoint, files, config):
    for name, text in files.items():
        (checkpoint / name).parent.mkdir(exist_ok=True)
        (checkpoint / name).write_bytes(text.encode())
    path = checkpoint / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | config), encoding="utf-8")


def render(opened, tools=()):
    compiled = ChatTemplate(opened.chat_templates(), opened.family, opened.manifest.special_tokens)
    return "".join(compiled.render([Message.from_json(item) for item in SAID], tools))


@pytest.mark.parametrize("tools", [[], [TOOL]], ids=["no tools", "tools"])
@pytest.mark.parametrize("place", PLACES)
def test_templates_and_tokens_are_those_of_transformers(checkpoint, place, tools):
    transformers = pytest.importorskip("transformers", minversion="5" if place == OWN_TOKEN else None)
    write(checkpoint, *PLACES[place])
    wanted = transformers.AutoTokenizer.from_pretrained(checkpoint).apply_chat_template(
        SAID, tools=[WRAPPED] if tools else None, tokenize=False, add_generation_prompt=True
    )
    assert render(Checkpoint.open(checkpoint), tools) == wanted


def test_a_processors_template_is_the_last_resort(checkpoint):
    write(checkpoint, {"chat_template.json": json.dumps({"chat_template": DEFAULT})}, {})
    assert Checkpoint.open(checkpoint).chat_template() == DEFAULT
    write(checkpoint, {}, {"chat_template": TOOL_USE})
    assert Checkpoint.open(checkpoint).chat_template() == TOOL_USE


REFUSED = {
    "no default one": (
        {"additional_chat_templates/tool_use.jinja": TOOL_USE},
        {},
        "none is the default one",
    ),
    "a name with a path": ({}, {"chat_template": [*NAMED, {"name": "../x", "template": "{{ 1 }}"}]}, "'../x'"),
    "a template that is none": ({}, {"chat_template": [{"name": "default", "template": 1}]}, "is damaged"),
    "a number": ({"chat_template.json": '{"chat_template": 1}'}, {}, r"chat_template.json: chat_template is damaged"),
    "tools, and no assistant": (
        {
            "chat_template.jinja": "[gMASK]{{ tools }}"
            "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}"
        },
        {},
        "shows tools, but no call",
    ),
}


@pytest.mark.parametrize(("files", "config", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_refused(checkpoint, files, config, words):
    write(checkpoint, files, config)
    with pytest.raises(CheckpointError, match=words) as caught:
        Checkpoint.open(checkpoint)
    assert caught.value.hint


def test_a_gguf_names_templates_and_tokens(tmp_path):
    path = write_gguf(
        CHECKPOINT,
        tmp_path / "x.gguf",
        "F16",
        tokenizer__chat_template=DEFAULT,
        tokenizer__chat_template__tool_use=TOOL_USE,
        tokenizer__ggml__bos_token_id=2468,
    )
    opened = Checkpoint.open(path)
    assert opened.chat_templates().named == {"default": DEFAULT, "tool_use": TOOL_USE}
    tokens = {"bos_token": "[gMASK]", "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
    assert opened.chat_templates().tokens == tokens


OPENED, UNOPENED = "[gMASK]{% for m in messages %}{{ m.content }}{% endfor %}<|assistant|>\n<think>", DEFAULT
THINKING = {
    "opened by the prompt": (OPENED, "I think.</think>\nYes.", "I think."),
    "a model that cannot": (UNOPENED, "<think>I think.</think>\nYes.", ""),
    "removed by the template": (
        DEFAULT.replace("{{ m.content }}", "{{ m.content.split('</thought>')[-1] }}"),
        "<thought>I think.</thought>\nYes.",
        "I think.",
    ),
    "switched off by the prompt": (f"{OPENED}\n\n</think>\n\n", "Yes.", ""),
}


@pytest.mark.parametrize(("template", "reply", "thought"), THINKING.values(), ids=THINKING.keys())
def test_reasoning_is_found_where_the_model_can_think(checkpoint, template, reply, thought):
    write(checkpoint, {"chat_template.jinja": template}, {})
    reasoning, text = replied(checkpoint, reply)
    assert reasoning == thought
    assert text == ("Yes." if thought or reply == "Yes." else reply)


def test_a_model_with_a_token_for_it_can_think(checkpoint):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        path = checkpoint / name
        path.write_text(path.read_text(encoding="utf-8").replace("<|end_of_video|>", "<think>"), encoding="utf-8")
    write(checkpoint, {"chat_template.jinja": DEFAULT}, {})
    assert replied(checkpoint, "<think>I think.</think>\nYes.") == ("I think.", "Yes.")


def replied(checkpoint, reply):
    events = list(Model(Checkpoint.open(checkpoint), backend=Echo([reply])).reply("Hi"))
    return tuple("".join(e.text for e in events if isinstance(e, kind)).strip() for kind in (Reasoning, Text))


def test_further_variables_are_those_of_transformers(checkpoint):
    from transformers import AutoTokenizer

    template = (
        "[gMASK]{% for d in documents or [] %}{{ d.title }}: {{ d.text }}\n{% endfor %}{{ messages[0].content }}"
        "{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}<|assistant|>"
    )
    write(checkpoint, {"chat_template.jinja": template}, {})
    variables = {"documents": [{"title": "<|user|> é", "text": "b"}], "enable_thinking": False}
    wanted = AutoTokenizer.from_pretrained(checkpoint).apply_chat_template(SAID, tokenize=False, **variables)
    model = Model(Checkpoint.open(checkpoint), backend=(engine := Echo(["Yes."])))
    list(model.reply(SAID, template_variables=variables))
    assert engine.requests[0].prompt == model.prompt(SAID, template_variables=variables)
    assert "".join(engine.requests[0].prompt) == wanted
    assert engine.requests[0].prompt[0] == "[gMASK]<"  # what somebody typed opens no role
    for wrong in ({"messages": []}, {"documents": object()}, {1: 2}):
        with pytest.raises(RequestError):
            model.prompt(SAID, template_variables=wrong)


def test_a_chat_passes_them_on(checkpoint):
    template = "[gMASK]{{ mode }}{% for m in messages %}{{ m.content }}{% endfor %}<|assistant|>"
    write(checkpoint, {"chat_template.jinja": template}, {})
    engine = Echo(["Yes.", "Yes."])
    with Chat(Model(Checkpoint.open(checkpoint), backend=engine), template_variables={"mode": "brief: "}) as chat:
        chat.send("Hi")
        chat.send("Again")
    assert ["".join(request.prompt) for request in engine.requests] == [
        "[gMASK]brief: Hi<|assistant|>",
        "[gMASK]brief: HiYes.Again<|assistant|>",
    ]
    with pytest.raises(RequestError, match="template_variables"):
        Chat(Model(Checkpoint.open(checkpoint), backend=engine), template_variables=["mode"])


def test_a_named_template_is_selected_as_transformers_selects_it(checkpoint):
    from transformers import AutoTokenizer

    rag = "[gMASK]rag:{% for d in documents %}{{ d.text }}{% endfor %}{{ messages[0].content }}<|assistant|>"
    write(checkpoint, {"chat_template.jinja": DEFAULT, "additional_chat_templates/rag.jinja": rag}, {})
    documents = {"documents": [{"text": "A fact."}]}
    wanted = AutoTokenizer.from_pretrained(checkpoint).apply_chat_template(
        SAID, chat_template="rag", tokenize=False, **documents
    )
    model = Model(Checkpoint.open(checkpoint), backend=(engine := Echo(["Yes."])))
    list(model.reply(SAID, template_variables=documents | {"chat_template": "rag"}))
    assert "".join(engine.requests[0].prompt) == wanted == "[gMASK]rag:A fact.Hi<|assistant|>"
    with pytest.raises(RequestError, match="no chat template 'summary'; it has default, rag"):
        model.prompt(SAID, template_variables={"chat_template": "summary"})
