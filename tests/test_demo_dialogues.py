"""The embedded checkpoint's dialogues: seeded, split cleanly, and laid out as GLM-4-0414's template lays them out."""

import json
from itertools import islice
from pathlib import Path

import pytest

from edge.demo.dialogues import FULL, LONG, SHARES, SMALL, Dialogue, Size, held_out, training
from edge.demo.kiosk import FACTS
from edge.demo.prompt import TEMPLATE, render
from edge.demo.words import NOUNS
from edge.demo.words import held_out as is_held_out

REFERENCE = Path(__file__).parents[2] / "shared" / "glm4-reference" / "chat-templates" / "glm4-0414.jinja"
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


def some(count: int, size: Size = FULL) -> list[Dialogue]:
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


@pytest.mark.skipif(not REFERENCE.exists(), reason="the reference templates are not here")
def test_the_template_says_what_the_reference_says() -> None:
    from edge.demo.prompt import compiled

    own, reference = (compiled(path.read_text(encoding="utf-8")) for path in (TEMPLATE, REFERENCE))
    for dialogue in [*some(200), *some(100, SMALL), *some(30, LONG)]:
        for tools in (dialogue.tools, None, []):
            for add in (True, False):
                arguments = {"messages": dialogue.messages, "tools": tools, "add_generation_prompt": add}
                assert own.render(**arguments) == reference.render(**arguments)


def test_dialogues_are_seeded() -> None:
    assert some(50) == some(50)
    assert held_out(count=50) == held_out(count=50) != held_out(seed=1, count=50)


def test_training_and_held_out_share_no_name_and_no_question() -> None:
    def names(dialogues: list[Dialogue]) -> set[str]:
        return {tool["function"]["name"] for dialogue in dialogues for tool in dialogue.tools}  # type: ignore[index]

    def questions(dialogues: list[Dialogue]) -> set[str]:
        return {
            message["content"] for dialogue in dialogues for message in dialogue.messages if message["role"] == "user"
        }

    trained, held = some(2000), list(held_out())
    assert not names(trained) & names(held)
    assert not questions(trained) & questions(held)
    assert {dialogue.kind for dialogue in held} == set(SHARES)


def test_the_lists_have_words_for_both_splits() -> None:
    assert 0.1 < sum(map(is_held_out, NOUNS)) / len(NOUNS) < 0.3
    assert all(len(set(questions)) == len(questions) >= 3 for _, _, questions in FACTS)


def test_a_call_copies_its_arguments_from_the_question() -> None:
    for dialogue in held_out():
        if dialogue.kind != "call":
            continue
        name, arguments = dialogue.reply.removesuffix("<|observation|>").split("\n", 1)
        assert name in {tool["function"]["name"] for tool in dialogue.tools}  # type: ignore[index]
        question = dialogue.messages[-1]["content"]
        assert all(str(value) in question for value in json.loads(arguments).values() if not isinstance(value, bool))
