"""The embedded checkpoint's dialogues: seeded, split cleanly, and laid out as GLM-4-0414's template lays them out."""

import json
from itertools import islice
from pathlib import Path

import pytest

from edge.demo.training.concepts import CONCEPTS
from edge.demo.training.dialogues import CHOICE, FULL, LONG, SHARES, SMALL, Dialogue, DialogueSize, held_out, training
from edge.demo.training.facts import FACTS
from edge.demo.training.prompt import TEMPLATE, render
from edge.demo.training.tools import UNITS as UNIT_PAIRS
from edge.demo.training.words import CHINESE_PEOPLE, CHINESE_PLACES, PEOPLE, PLACES
from edge.demo.training.words import held_out as is_held_out

UNITS = {unit for pair in UNIT_PAIRS for unit in pair}
TOOL = {"name": "tide", "description": "潮汐 <now>", "parameters": {"type": "object", "properties": {}}}
FRAME = """[gMASK]<sop><|system|>
# 可用工具

## tide

{
    "name": "tide",
    "description": "潮汐 <now>",
    "parameters": {
        "type": "object",
        "properties": {}
    }
}
在调用上述函数时，请使用 Json 格式表示调用的参数。"""


def some(count: int, size: DialogueSize = FULL) -> list[Dialogue]:
    return list(islice(training(7, size), count))


def said(messages: list[dict[str, str]], tools: tuple[dict[str, object], ...] = ()) -> Dialogue:
    return Dialogue("kiosk", "en", tools, tuple(messages), "")


USER = {"role": "user", "content": "Hi"}
CALLED = [
    {"role": "assistant", "metadata": "tide", "content": '{"at": "Oslo"}'},
    {"role": "observation", "content": "3.5"},
    {"role": "assistant", "content": "The answer is 3.5."},
]


@pytest.mark.parametrize(
    ("messages", "tools", "prompt"),
    [
        ([USER], (), "[gMASK]<sop><|user|>\nHi<|assistant|>"),
        (
            [{"role": "system", "content": "Be brief."}, USER],
            (),
            "[gMASK]<sop><|system|>\nBe brief.<|user|>\nHi<|assistant|>",
        ),
        ([USER], (TOOL,), FRAME + "<|user|>\nHi<|assistant|>"),
        ([USER], ({"type": "function", "function": TOOL},), FRAME + "<|user|>\nHi<|assistant|>"),
        (
            [USER, *CALLED],
            (),
            '[gMASK]<sop><|user|>\nHi<|assistant|>tide \n{"at": "Oslo"}<|observation|>\n3.5<|assistant|>\n'
            "The answer is 3.5.<|assistant|>",
        ),
    ],
)
def test_the_template_lays_out(
    messages: list[dict[str, str]], tools: tuple[dict[str, object], ...], prompt: str
) -> None:
    assert render(said(messages, tools)) == prompt


def test_the_template_says_what_the_reference_says(reference: Path) -> None:
    from edge.demo.training.prompt import compile_template

    paths = (TEMPLATE, reference / "chat-templates" / "glm4-0414.jinja")
    own, real = (compile_template(path.read_text(encoding="utf-8")) for path in paths)
    for dialogue in [*some(200), *some(100, SMALL), *some(30, LONG)]:
        for tools in (dialogue.tools, None, []):
            for add in (True, False):
                arguments = {"messages": dialogue.messages, "tools": tools, "add_generation_prompt": add}
                assert own.render(**arguments) == real.render(**arguments)


def test_dialogues_are_seeded() -> None:
    assert some(50) == some(50)
    assert held_out(count=50) == held_out(count=50) != held_out(seed=1, count=50)


def names(dialogues: list[Dialogue]) -> set[str]:
    return {tool["function"]["name"] for dialogue in dialogues for tool in dialogue.tools}  # type: ignore[index]


def values(dialogues: list[Dialogue]) -> set[str]:
    """Invented words in the calls' arguments; dates, times and short numbers are too few to keep apart."""
    calls = [dialogue.reply for dialogue in dialogues if dialogue.kind == "call"]
    found = {
        str(value) for reply in calls for value in json.loads(reply[: reply.rindex("<|")].split("\n", 1)[1]).values()
    }
    return {word for value in found for word in value.split() if word.isalpha() and len(word) > 5 and word.isascii()}


def test_training_and_held_out_share_no_name_and_no_invented_value() -> None:
    trained, held = some(1500), list(held_out(count=400))
    concepts = {word for english, _ in CONCEPTS for word in english.split()}
    assert not names(trained) & names(held)
    assert not (values(trained) & values(held)) - concepts - UNITS
    assert {dialogue.kind for dialogue in held} == set(SHARES)


def test_the_lists_have_words_for_both_splits() -> None:
    for words in (PLACES, PEOPLE, CHINESE_PLACES, CHINESE_PEOPLE):
        assert 0.05 < sum(map(is_held_out, words)) / len(words) < 0.4
    assert all(len(set(questions)) == len(questions) >= 3 for _, _, questions in FACTS)


def test_every_tool_is_asked_for_once_where_the_choice_is_taught() -> None:
    for dialogue in some(100, CHOICE):
        called = [message["metadata"] for message in dialogue.messages if "metadata" in message]
        assert len(called) == len(set(called)) <= len(dialogue.tools)


def test_a_call_copies_its_arguments_from_the_question() -> None:
    for dialogue in held_out(count=300):
        if dialogue.kind != "call":
            continue
        name, arguments = dialogue.reply.removesuffix("<|observation|>").split("\n", 1)
        assert name in {tool["function"]["name"] for tool in dialogue.tools}  # type: ignore[index]
        question = dialogue.messages[-1]["content"]
        assert all(str(value) in question for value in json.loads(arguments).values() if not isinstance(value, bool))
