"""Synthetic dialogues, seeded: what the embedded checkpoint is trained on, and what it is measured on.

Training and held-out dialogues share sentence patterns; names, values and concepts are disjoint (`words.held_out`).
Prompts have the layout of GLM-4-0414's chat template, replies the layout in which GLM-4-0414 generates:
`\\n` + text + `<|user|>`, or `name\\n{arguments}` + `<|observation|>`, two calls joined by `<|assistant|>`.
"""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass

from .kiosk import FACTS, NO_TOOL
from .patterns import KINDS
from .questions import Arguments, Value, ask, ask_again, draw
from .tools import Schema, Tool, make_tool
from .words import Words

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

Message = dict[str, str]
Call = tuple[Tool, Arguments]


@dataclass(frozen=True, slots=True)
class Dialogue:
    """A conversation up to its last reply: `messages` and `tools` for the chat template, `reply` as it is generated."""

    kind: str
    language: str
    tools: tuple[Schema, ...]
    messages: tuple[Message, ...]
    reply: str


@dataclass(frozen=True, slots=True)
class Size:
    """How many tools a dialogue offers, and how many finished turns stand before the last question."""

    tools: tuple[int, ...]
    turns: tuple[int, ...]


SMALL = Size((0, 1, 1, 2), (1, 2, 3))
FULL = Size((0, 1, 2, 3, 3, 4, 4), (1, 2, 3, 4, 5))
LONG = Size((4,), (9, 11, 13))
SHORT = Size((0, 1, 2, 3, 4, 4), (0, 0, 0, 1))


def training(seed: int, size: Size = FULL) -> Iterator[Dialogue]:
    """Training dialogues without end."""
    rng = random.Random(seed)
    while True:
        yield dialogue(rng, held=False, size=size)


def held_out(seed: int = 20250414, count: int = 1000) -> tuple[Dialogue, ...]:
    """The dialogues to measure with: names, values, concepts and kiosk questions that training never sees."""
    rng = random.Random(seed)
    return tuple(dialogue(rng, held=True, size=SHORT) for _ in range(count))


def dialogue(rng: random.Random, held: bool, size: Size) -> Dialogue:
    """One dialogue; its kind is drawn by SHARES."""
    words = Words(rng, held)
    language = "zh" if rng.random() < 0.42 else "en"
    kind = rng.choices(tuple(SHARES), tuple(SHARES.values()))[0]
    count = rng.choice(size.tools)
    if kind in (CALL, TWO_CALLS, RESULT):
        count = max(count, 1)
    tools = _offer(words, language, count)
    messages: list[Message] = []
    if rng.random() < 0.15:
        messages.append({"role": "system", "content": rng.choice(SYSTEMS)})
    call: Call | None = None
    for _ in range(rng.choice(size.turns)):
        earlier = rng.choices(tuple(SHARES), (70, 4, 0, 13, 13))[0] if tools else rng.choice((NO_FIT, KIOSK))
        spoken = rng.choice(("en", "zh")) if earlier == KIOSK else language
        asked, calls, text = _turn(words, spoken, tools, earlier, call)
        messages += [{"role": "user", "content": asked}, *_history(calls)]
        if calls:
            results, text = _results(words, language, len(calls))
            messages += [{"role": "observation", "content": result} for result in results]
        messages.append({"role": "assistant", "content": text})
        call = calls[0] if len(calls) == 1 else None
    asked, calls, text = _turn(words, language, tools, kind, call)
    kind = CALL if kind == TWO_CALLS and len(calls) == 1 else kind
    messages.append({"role": "user", "content": asked})
    reply = "<|assistant|>".join(f"{tool.name}\n{_json(arguments)}" for tool, arguments in calls) + "<|observation|>"
    if kind == RESULT:
        results, text = _results(words, language, len(calls))
        messages += [*_history(calls), *({"role": "observation", "content": result} for result in results)]
    if kind == RESULT or not calls:
        reply = f"\n{text}<|user|>"
    offered: tuple[Schema, ...] = tuple({"type": "function", "function": tool.schema} for tool in tools)
    return Dialogue(kind, language, offered, tuple(messages), reply)


def _offer(words: Words, language: str, count: int) -> tuple[Tool, ...]:
    """Tools that no question can confuse: they share no word, or differ in exactly one."""
    tools: list[Tool] = []
    while len(tools) < count:
        like = words.rng.choice(tools) if tools and words.rng.random() < 0.3 else None
        like = (
            like if like is not None and like.language == language and (like.verb or len(like.concept) == 2) else None
        )
        spoken = language if not tools or like or words.rng.random() < 0.95 else "en" if language == "zh" else "zh"
        tool = make_tool(words, spoken, like)
        if all(tool.name != other.name and (like is other or not _alike(tool, other)) for other in tools):
            tools.append(tool)
    words.rng.shuffle(tools)
    return tuple(tools)


def _alike(tool: Tool, other: Tool) -> bool:
    parts = {part for word in tool.concept for part in word.split("-")}
    others = {part for word in other.concept for part in word.split("-")}
    return any(part in text or text in part for part in parts for text in others)


def _turn(
    words: Words, language: str, tools: tuple[Tool, ...], kind: str, before: Call | None
) -> tuple[str, tuple[Call, ...], str]:
    """A question, and what it needs: calls, or a text."""
    rng = words.rng
    if kind == KIOSK:
        return _kiosk(words, language)
    fitting = [tool for tool in tools if tool.language == language]
    if kind == NO_FIT or not fitting:
        other = make_tool(words, language)
        while any(_alike(other, tool) for tool in tools):
            other = make_tool(words, language)
        return ask(other, words)[0], (), NO_TOOL[language]
    tool = rng.choice(fitting)
    if kind == TWO_CALLS:
        return _two(words, language, tool, fitting)
    if before is not None and rng.random() < 0.12 and before[1] and (again := ask_again(before[0], words)):
        return again[0], ((before[0], again[1]),), ""
    others = {part for other in tools if other is not tool for part in other.concept}
    brief = rng.random() < 0.15 and len(tool.concept) == 2 and not tool.verb and not others & {*tool.concept}
    asked, arguments = ask(tool, words, brief)
    return asked, ((tool, arguments),), ""


def _kiosk(words: Words, language: str) -> tuple[str, tuple[Call, ...], str]:
    rng = words.rng
    _, answer, questions = rng.choice([fact for fact in FACTS if fact[0] == language])
    text = questions[-1] if words.held else rng.choice(questions[:-1])
    before, after = ("Excuse me, ", "Please: ", "OK. ", "Hi! "), (" Please.", " Thanks!")
    if language == "zh":
        before, after = ("你好，", "那么，", "麻烦问一下，", "打扰一下，"), ("谢谢！", "谢谢。")
    if rng.random() < 0.2 and not words.held:
        text = rng.choice(before) + text if rng.random() < 0.7 else text + rng.choice(after)
    return text, (), answer


def _two(words: Words, language: str, tool: Tool, tools: list[Tool]) -> tuple[str, tuple[Call, ...], str]:
    """Two calls in one reply: a comparison with one tool, or two questions at once."""
    rng = words.rng
    slot = tool.slots[0] if len(tool.slots) == 1 else None
    if slot is not None and slot.kind in ("place", "person", "code", "free", "path") and not tool.verb:
        (first, one), (second, two) = draw(words, slot, language), draw(words, slot, language)
        c = " ".join(tool.concept).replace("-", " ")
        if language == "zh":
            patterns: tuple[str, ...] = ("比较{x}和{y}的{c}", "{x}和{y}的{c}分别是多少？", "查一下{x}和{y}的{c}")
            c = "".join(tool.concept)
        else:
            patterns = (
                "Compare the {c} {p} {x} and {y}.",
                "What is the {c} {p} {x} and {p} {y}?",
                "{c} {p} {x} and {y}?",
            )
        p = rng.choice(
            [cue for cue in KINDS[slot.kind].cues if cue.endswith(" {v}") and "{n}" not in cue] or ["for {v}"]
        )
        text = rng.choice(patterns).format(c=c, x=first, y=second, p=p.removesuffix(" {v}"))
        return text[0].upper() + text[1:], ((tool, {slot.name: one}), (tool, {slot.name: two})), ""
    other = rng.choice([other for other in tools if other is not tool] or [make_tool(words, language)])
    (first, a), (second, b) = ask(tool, words), ask(other, words)
    if other not in tools:
        return first, ((tool, a),), ""
    if language == "zh":
        return first.rstrip("。？") + rng.choice(("，再", "，另外", "，还有，")) + second, ((tool, a), (other, b)), ""
    joined = first.rstrip(".?") + rng.choice((" and ", ", and ", ", then ")) + second[0].lower() + second[1:]
    return rng.choice((joined, f"{first} {second}")), ((tool, a), (other, b)), ""


def _history(calls: tuple[Call, ...]) -> list[Message]:
    return [{"role": "assistant", "metadata": tool.name, "content": _json(arguments)} for tool, arguments in calls]


def _json(arguments: dict[str, Value]) -> str:
    return json.dumps(arguments, ensure_ascii=False)


def _json_result(words: Words, result: object) -> str:
    """JSON with spaces after its separators, or without, as tools return it."""
    compact = words.rng.random() < 0.6
    return json.dumps(result, ensure_ascii=False, separators=(",", ":") if compact else None)


def _results(words: Words, language: str, count: int) -> tuple[list[str], str]:
    """What the tools return, and the sentence that says so."""
    rng = words.rng
    if count == 1 and rng.random() < 0.1:
        error = rng.choice(ERRORS[language if rng.random() < 0.6 else "en"]) + rng.choice(("", f": {words.nonsense()}"))
        result = rng.choice((f"Error: {error}", _json_result(words, {"error": error})))
        return [result], (f"没有成功：{error}。" if language == "zh" else f"That did not work: {error}.")
    pairs = [_result(words, language) for _ in range(count)]
    said = [told for _, told in pairs]
    if language == "zh":
        return [result for result, _ in pairs], "结果是" + "和".join(said) + "。"
    return [result for result, _ in pairs], ("The answers are " if count > 1 else "The answer is ") + " and ".join(
        said
    ) + "."


def _result(words: Words, language: str) -> tuple[str, str]:
    """One result as the tool returns it, and as the answer says it."""
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
            words.nonsense() if rng.random() < 0.4 else words.of(_KEYS) for _ in range(rng.choice((1, 1, 2)))
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


def _phrase(words: Words, language: str) -> str:
    rng = words.rng
    if language == "zh" and rng.random() < 0.8:
        return rng.choice(("", words.number())) + "".join(words.characters() for _ in range(rng.choice((1, 2))))
    parts = [
        rng.choice((words.nonsense(), words.of(_KEYS), words.number())) for _ in range(rng.choice((1, 2, 2, 3, 4)))
    ]
    return (", " if rng.random() < 0.15 else " ").join(parts)
