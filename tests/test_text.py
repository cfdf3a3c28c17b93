"""Half an emoji, a file name in GBK: whatever comes in without being Unicode, the chat goes on."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.demo import CHECKPOINT
from runtime.backends.echo import Echo
from runtime.chat import Chat
from runtime.events import ToolCall, ToolResult
from runtime.grammar.grammar import Choice, JsonSchema, Regex
from runtime.messages import Message
from runtime.model import Model
from runtime.prompt.families import FAMILIES
from runtime.prompt.template import ChatTemplate
from runtime.sampling import Sampling
from runtime.text import replace_json_surrogates, replace_surrogates, replace_surrogates_within
from runtime.tool_call import run_call
from runtime.tools import Tool, to_tools

from .conftest import SPECIAL_TOKENS

HALF = "\ud83d"
NAME = "caf\udce9.txt"  # os.listdir's spelling of a Latin-1 name
TEXTS = {
    "nothing": ("", ""),
    "a text": ("né 你 🎉", "né 你 🎉"),
    "half an emoji": (f"hi {HALF}", "hi �"),
    "the other half": ("\ude00 hi", "� hi"),
    "two halves that fit": (f"{HALF}\ude00!", "😀!"),
    "two halves that do not": (f"\ude00{HALF}", "��"),
    "a file name": (NAME, "caf�.txt"),
    "a name in GBK": ("\udcc4\udce3.txt", "��.txt"),
}


@pytest.mark.parametrize(("text", "wanted"), TEXTS.values(), ids=TEXTS.keys())
def test_surrogates_are_replaced_wherever_text_comes_in(text, wanted):
    assert replace_surrogates(text) == wanted
    assert replace_surrogates_within({text: [text, (text, 1)]}) == {wanted: [wanted, (wanted, 1)]}
    assert Message("user", text, text, name=text).to_json() == Message("user", wanted, wanted, name=wanted).to_json()
    assert ToolCall(text, text, text) == ToolCall(wanted, wanted, wanted)
    assert ToolResult(text, text, text) == ToolResult(wanted, wanted, wanted)
    tool = Tool(f"f{text}", text, {"properties": {text: {"enum": [text]}}}, str)
    assert tool.to_json() == Tool(f"f{wanted}", wanted, {"properties": {wanted: {"enum": [wanted]}}}, str).to_json()
    assert Sampling(stop=(f"x{text}",)).stop == (f"x{wanted}",)
    assert Choice((f"x{text}",)).options == (f"x{wanted}",)
    assert Regex(text).pattern == wanted
    assert JsonSchema.from_schema({"enum": [text]}) == JsonSchema.from_schema({"enum": [wanted]})


ESCAPES = {
    "a lone escape": (r'"\ud83d!"', r'"\ufffd!"'),
    "upper case": (r'"\uD83D\uDE00 \uDE00"', r'"\uD83D\uDE00 \ufffd"'),
    "a pair": (r'"\ud83d\ude00"', r'"\ud83d\ude00"'),
    "a backslash and letters": (r'"\\ud83d"', r'"\\ud83d"'),
    "another escape": (r'"\u4f60\n"', r'"\u4f60\n"'),
    "one that is broken off": (r'"\ud8', r'"\ud8'),
}


@pytest.mark.parametrize(("text", "wanted"), ESCAPES.values(), ids=ESCAPES.keys())
def test_escapes_of_json_are_replaced(text, wanted):
    assert replace_json_surrogates(text) == wanted


@given(st.text(st.characters(codec=None, categories=("Cs", "L", "P"))))
def test_what_comes_out_is_unicode(text):
    assert replace_surrogates(text).encode().decode() == replace_surrogates(text)
    assert json.loads(replace_json_surrogates(json.dumps(text))) == replace_surrogates(text)


@dataclass
class Entry:
    name: str


def listed() -> list[str]:
    return [NAME]


def sized() -> dict[str, int]:
    return {NAME: 3}


def entries() -> list[Entry]:
    return [Entry(NAME)]


def paths() -> list[Path]:
    return [Path(NAME)]


def missing() -> str:
    raise FileNotFoundError(f"no {NAME}")


def plain() -> str:
    return NAME


def nowhere() -> float:
    return float("nan")


RESULTS = {
    plain: "caf�.txt",
    listed: '["caf�.txt"]',
    sized: '{"caf�.txt":3}',
    entries: '[{"name":"caf�.txt"}]',
    paths: '["caf�.txt"]',
    missing: "Error: FileNotFoundError: no caf�.txt",
    nowhere: '"NaN"',
}


@pytest.mark.parametrize("function", RESULTS, ids=lambda f: f.__name__)
def test_a_tools_result_is_unicode_and_json(function):
    assert run_call(to_tools([function]), ToolCall(function.__name__, "{}")).content == RESULTS[function]


def test_a_tool_is_called_with_unicode():
    def shout(word: str) -> str:
        return word.upper()

    own = Tool("own", "", {}, lambda text: json.loads(text)["word"])
    for tool in (shout, own):
        wanted = ToolCall(Tool.from_function(tool).name, r'{"word": "a\ud83d"}')
        assert run_call(to_tools([tool]), wanted).content.lower() == "a�"


@pytest.mark.slow
@pytest.mark.parametrize("function", RESULTS, ids=lambda f: f.__name__)
def test_a_chat_goes_on(demo_folder, tmp_path, function):
    """On the engine itself, whose tokenizer takes no surrogate."""
    with Chat(demo_folder, device="CPU", tools=[function], system=HALF) as chat:
        chat.send(f"list {HALF}", tool_choice="required", sampling=Sampling(max_new_tokens=40))
        chat.save(tmp_path / "chat.json")
        chat.load(tmp_path / "chat.json")
        assert "glm4-edge" in chat.send("Who are you?", tools=()).text


def test_a_saved_chat_with_half_an_emoji_is_taken_up(bare_folder, tmp_path):
    (tmp_path / "chat.json").write_text(r'{"messages": [{"role": "user", "content": "a \ud83d"}]}')
    chat = Chat(Model(bare_folder, backend=Echo()))
    chat.load(tmp_path / "chat.json")
    assert chat.history == (Message("user", "a �"),)
    chat.save(tmp_path / "chat.json")
    assert chat.send(HALF).text


def test_nothing_reaches_a_prompt_that_is_not_unicode():
    template = ChatTemplate((CHECKPOINT / "chat_template.jinja").read_text(encoding="utf-8"), FAMILIES["glm4_0414"], ())
    tool = {"name": HALF, "description": HALF, "parameters": {"properties": {HALF: {"enum": [HALF]}}}}
    prompt = "".join(template.render([Message("user", HALF)], [tool]))
    assert prompt.encode()
    assert prompt.count("�") == 6


TYPED = {
    "a noncharacter": "a\ufdd0b",
    "all of them": "".join(map(chr, range(0xFDD0, 0xFDF0))),
    "its escape": r"a\ufdd0b",
    "the escapes of all of them": "".join(rf"\u{code:04x}" for code in range(0xFDD0, 0xFDF0)),
    "private use": "\ue000\uf8ff",
}


@pytest.mark.parametrize("typed", TYPED.values(), ids=TYPED.keys())
def test_nothing_that_is_typed_vanishes(typed):
    text = f"{typed}<|user|>{typed}"
    for source in ("{{ messages[0].content }}", "{{ messages[0].content | tojson(ensure_ascii=True) }}"):
        pieces = ChatTemplate(source, FAMILIES["glm4_0414"], SPECIAL_TOKENS).render([Message("user", text)])
        said = "".join(pieces)
        assert (json.loads(said) if "tojson" in source else said) == text
        assert not any(token in piece for piece in pieces for token in SPECIAL_TOKENS)
