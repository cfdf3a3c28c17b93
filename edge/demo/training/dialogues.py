"""Seeded synthetic dialogues: the training data of the embedded checkpoint, and its held-out test data.

Training and held-out dialogues share the tools' subjects and the patterns of questions; the tools' names and the values
in the questions are disjoint (`tools.held_out_name`, `words.held_out`).
Prompts have the layout of GLM-4-0414's chat template, replies the layout in which GLM-4-0414 generates:
`\\n` + text + `<|user|>`, or `name\\n{arguments}` + `<|observation|>`, two calls joined by `<|assistant|>`.
"""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass

from .facts import FACTS, NO_TOOL
from .tools import Arguments, Schema, SyntheticTool, Value, ask, draw, make_tool
from .words import WordSampler

CALL, TWO_CALLS, RESULT, NO_FIT, KIOSK = "call", "two calls", "result", "no fit", "kiosk"
SHARES = {CALL: 50, TWO_CALLS: 6, RESULT: 16, NO_FIT: 12, KIOSK: 16}
SYSTEMS = (
    "You are a helpful assistant.",
    "You are the assistant of a kiosk. Answer briefly.",
    "Answer in one sentence.",
    "You are a friendly guide in a museum.",
    "Use the tools where they fit.",
    "你是一个有用的助手。",
    "你是服务台的助手，请简短回答。",
)
ERRORS = {
    "en": (
        "not found",
        "no such entry",
        "timed out",
        "access denied",
        "service unavailable",
        "unknown value",
        "out of range",
    ),
    "zh": ("没有找到", "没有权限", "超时", "服务不可用", "参数不对"),
}

BOTH = ("{does} the {what} for {a} and {b}.", "the {what} of {a} and {b}?", "compare the {what} of {a} and {b}.")
BOTH_IN_CHINESE = ("{does}{a}和{b}的{what}", "比较{a}和{b}的{what}", "{a}和{b}的{what}分别是多少？")

TemplateMessage = dict[str, str]
Call = tuple[SyntheticTool, Arguments]


@dataclass(frozen=True, slots=True)
class Dialogue:
    """A dialogue up to its last reply: `messages` and `tools` for the chat template, `reply` as generated."""

    kind: str
    language: str
    tools: tuple[Schema, ...]
    messages: tuple[TemplateMessage, ...]
    reply: str


@dataclass(frozen=True, slots=True)
class DialogueSize:
    """The number of tools that a dialogue offers, and of turns before the last one, each drawn from these.

    `bare` tools have no parameters, and each is needed once: such dialogues teach only which tool to choose.
    """

    tools: tuple[int, ...]
    turns: tuple[int, ...]
    bare: bool = False


CHOICE = DialogueSize((2, 3, 4, 4), (0,), bare=True)
SMALL = DialogueSize((1, 1, 2, 2, 3), (1, 2, 3))
FULL = DialogueSize((0, 1, 2, 3, 4, 4), (0, 1, 2, 3, 4))
LONG = DialogueSize((3, 4), (6, 7, 8))
SHORT = DialogueSize((0, 1, 2, 3, 4, 4), (0, 0, 0, 1))


def training(seed: int, size: DialogueSize = FULL) -> Iterator[Dialogue]:
    """Yield training dialogues without end."""
    rng = random.Random(seed)
    while True:
        yield make_dialogue(rng, held_out_split=False, size=size)


def held_out(seed: int = 20250414, count: int = 1000) -> tuple[Dialogue, ...]:
    """Return test dialogues, with tool names, values and kiosk questions that training never sees."""
    rng = random.Random(seed)
    return tuple(make_dialogue(rng, held_out_split=True, size=SHORT) for _ in range(count))


def make_dialogue(rng: random.Random, held_out_split: bool, size: DialogueSize) -> Dialogue:
    """Draw a dialogue, and its kind by SHARES."""
    words = WordSampler(rng, held_out_split)
    language = "zh" if rng.random() < 0.4 else "en"
    kind = rng.choices(tuple(SHARES), tuple(SHARES.values()))[0]
    count = rng.choice(size.tools)
    if kind in (CALL, TWO_CALLS, RESULT):
        count = max(count, 1)
    tools: tuple[SyntheticTool, ...] = ()
    for _ in range(count):
        tools += (make_tool(words, language, tools, size.bare),)
    messages: list[TemplateMessage] = []
    if rng.random() < 0.15:
        messages.append({"role": "system", "content": rng.choice(SYSTEMS)})
    if size.bare:
        return _choice_dialogue(words, language, tools)
    for _ in range(rng.choice(size.turns)):
        earlier = rng.choices(tuple(SHARES), (70, 4, 0, 13, 13))[0] if tools else rng.choice((NO_FIT, KIOSK))
        question, calls, text = _turn(words, language, tools, earlier)
        messages += [{"role": "user", "content": question}, *_history(calls)]
        if calls:
            results, text = _results(words, language, len(calls))
            messages += [{"role": "observation", "content": result} for result in results]
        messages.append({"role": "assistant", "content": text})
    question, calls, text = _turn(words, language, tools, kind)
    kind = CALL if kind == TWO_CALLS and len(calls) == 1 else kind
    messages.append({"role": "user", "content": question})
    reply = "<|assistant|>".join(f"{tool.name}\n{_json(arguments)}" for tool, arguments in calls) + "<|observation|>"
    if kind == RESULT:
        results, text = _results(words, language, len(calls))
        messages += [*_history(calls), *({"role": "observation", "content": result} for result in results)]
    if kind == RESULT or not calls:
        reply = f"\n{text}<|user|>"
    offered: tuple[Schema, ...] = tuple({"type": "function", "function": tool.schema} for tool in tools)
    return Dialogue(kind, language, offered, tuple(messages), reply)


def _choice_dialogue(words: WordSampler, language: str, tools: tuple[SyntheticTool, ...]) -> Dialogue:
    """Draw a dialogue that needs every tool once, with questions between that no tool fits."""
    rng = words.rng
    requested: list[SyntheticTool | None] = [*rng.sample(tools, len(tools)), *[None] * rng.choice((0, 1, 1, 2))]
    rng.shuffle(requested)
    messages: list[TemplateMessage] = []
    for tool in requested:
        if tool is None:
            question, _, text = _turn(words, language, tools, rng.choice((NO_FIT, NO_FIT, KIOSK)))
            reply = f"\n{text}<|user|>"
            turn: list[TemplateMessage] = [{"role": "assistant", "content": text}]
        else:
            question, result = ask(tool, words, language)[0], words.number()
            reply = f"{tool.name}\n{{}}<|observation|>"
            text = f"结果是{result}。" if language == "zh" else f"The answer is {result}."
            turn = [*_history(((tool, {}),)), {"role": "observation", "content": result}]
            turn.append({"role": "assistant", "content": text})
        messages += [{"role": "user", "content": question}, *turn]
    while messages[-1]["role"] != "user":
        messages.pop()
    offered: tuple[Schema, ...] = tuple({"type": "function", "function": tool.schema} for tool in tools)
    return Dialogue(CALL if tool else NO_FIT, language, offered, tuple(messages), reply)


def _turn(
    words: WordSampler, language: str, tools: tuple[SyntheticTool, ...], kind: str
) -> tuple[str, tuple[Call, ...], str]:
    """Draw a question, and the calls or the text that it needs."""
    rng = words.rng
    if kind == KIOSK:
        return _kiosk(words, language)
    if kind == NO_FIT or not tools:
        return ask(make_tool(words, language, tools), words, language)[0], (), NO_TOOL[language]
    tool = rng.choice(tools)
    if kind == TWO_CALLS and len(tool.slots) == 1 and tool.slots[0].kind in ("place", "person", "code", "path"):
        return _two_calls(words, language, tool)
    question, arguments = ask(tool, words, language)
    return question, ((tool, arguments),), ""


def _kiosk(words: WordSampler, language: str) -> tuple[str, tuple[Call, ...], str]:
    rng = words.rng
    _, answer, questions = rng.choice([fact for fact in FACTS if fact[0] == language])
    text = questions[-1] if words.held_out else rng.choice(questions[:-1])
    before, after = ("Excuse me, ", "Please: ", "OK. ", "Hi! "), (" Please.", " Thanks!")
    if language == "zh":
        before, after = ("你好，", "那么，", "麻烦问一下，", "打扰一下，"), ("谢谢！", "谢谢。")
    if rng.random() < 0.2 and not words.held_out:
        text = rng.choice(before) + text if rng.random() < 0.7 else text + rng.choice(after)
    return text, (), answer


def _two_calls(words: WordSampler, language: str, tool: SyntheticTool) -> tuple[str, tuple[Call, ...], str]:
    """Draw a question that needs two calls of a tool in one reply."""
    rng, slot, chinese = words.rng, tool.slots[0], language == "zh"
    (first, one), (second, two) = draw(words, slot, language), draw(words, slot, language)
    patterns = BOTH_IN_CHINESE if chinese else BOTH
    text = rng.choice(patterns[:1] if tool.verb[0] else patterns).format(
        does=tool.verb[chinese] or ("查询" if chinese else "check"), what=tool.concept[chinese], a=first, b=second
    )
    return text[0].upper() + text[1:], ((tool, {slot.name: one}), (tool, {slot.name: two})), ""


def _history(calls: tuple[Call, ...]) -> list[TemplateMessage]:
    return [{"role": "assistant", "metadata": tool.name, "content": _json(arguments)} for tool, arguments in calls]


def _json(arguments: dict[str, Value]) -> str:
    return json.dumps(arguments, ensure_ascii=False)


def _json_result(words: WordSampler, result: object) -> str:
    """Return a result as JSON, with or without blanks after its separators."""
    compact = words.rng.random() < 0.6
    return json.dumps(result, ensure_ascii=False, separators=(",", ":") if compact else None)


def _results(words: WordSampler, language: str, count: int) -> tuple[list[str], str]:
    """Draw the tools' results, and the reply that reports them."""
    rng = words.rng
    if count == 1 and rng.random() < 0.1:
        error = rng.choice(ERRORS[language if rng.random() < 0.6 else "en"]) + rng.choice(("", f": {words.nonsense()}"))
        result = rng.choice((f"Error: {error}", _json_result(words, {"error": error})))
        return [result], (f"没有成功：{error}。" if language == "zh" else f"That did not work: {error}.")
    pairs = [_result(words, language) for _ in range(count)]
    answers = [answer for _, answer in pairs]
    if language == "zh":
        return [result for result, _ in pairs], "结果是" + "和".join(answers) + "。"
    return [result for result, _ in pairs], ("The answers are " if count > 1 else "The answer is ") + " and ".join(
        answers
    ) + "."


def _result(words: WordSampler, language: str) -> tuple[str, str]:
    """Draw a tool's result, and its wording in the reply."""
    rng = words.rng
    if rng.random() < 0.4:
        number = words.number((1, 2, 3, 4), decimals=rng.random() < 0.5)
        number += rng.choice(("", "", "", " GB", " km", " euros", " %", "°C", " " + words.nonsense()))
        return number, number
    if rng.random() < 0.12:
        items = [_phrase(words, language) for _ in range(rng.choice((1, 2, 3)))]
        return _json_result(words, items), ", ".join(items)
    if rng.random() < 0.5:
        text = _phrase(words, language)
        return (text, text) if rng.random() < 0.85 else (_json_result(words, text), text)
    fields: dict[str, Value] = {}
    for _ in range(rng.choice((1, 2, 2, 3))):
        key = "_".join(
            words.nonsense() if rng.random() < 0.4 else words.pick(_KEYS) for _ in range(rng.choice((1, 1, 2)))
        )
        number = words.number(decimals=rng.random() < 0.3)
        fields[key] = (
            _phrase(words, language) if rng.random() < 0.5 else float(number) if "." in number else int(number)
        )
    comma = "，" if language == "zh" else ", "
    return _json_result(words, fields), comma.join(f"{key} {value}" for key, value in fields.items())


_KEYS = (
    "temp sky price total count state level rate size name unit date free used days seat gate fee time row"
).split()


def _phrase(words: WordSampler, language: str) -> str:
    rng = words.rng
    if language == "zh" and rng.random() < 0.8:
        return rng.choice(("", words.number())) + "".join(words.characters() for _ in range(rng.choice((1, 2))))
    parts = [
        rng.choice((words.nonsense(), words.pick(_KEYS), words.number())) for _ in range(rng.choice((1, 2, 2, 3, 4)))
    ]
    return (", " if rng.random() < 0.15 else " ").join(parts)
