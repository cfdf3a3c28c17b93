"""Synthetic tools: their names and schemas in the styles that people use, and the questions that need them."""

import random
from dataclasses import dataclass
from zlib import crc32

from .concepts import CONCEPTS, VERBS
from .words import CHINESE_PEOPLE, CHINESE_PLACES, PEOPLE, PLACES, WordSampler

Schema = dict[str, object]
Value = str | int | float | bool
Arguments = dict[str, Value]


@dataclass(frozen=True, slots=True)
class ParameterKind:
    """A kind of parameter: its names, its labels, and the phrases of its value in a question ({v} is the value)."""

    names: tuple[str, ...]
    labels: tuple[str, ...]
    chinese_labels: tuple[str, ...]
    phrases: tuple[str, ...]
    chinese_phrases: tuple[str, ...]
    type: str = "string"


# In Chinese, a phrase that ends in 的 precedes the noun; any other follows it.
KINDS = {
    "place": ParameterKind(
        ("city", "place", "location", "town", "area"),
        ("city", "place", "location", "city name", "name of the place"),
        ("城市", "地点", "城市名称", "位置"),
        ("in {v}", "at {v}", "for {v}"),
        ("{v}的", "{v} 的"),
    ),
    "path": ParameterKind(
        ("path", "folder", "directory", "file", "target"),
        ("path", "folder", "directory", "path to look at"),
        ("路径", "目录", "文件夹"),
        ("on {v}", "of {v}", "in {v}", "under {v}", "for {v}"),
        ("{v} 的", "{v}上的"),
    ),
    "person": ParameterKind(
        ("name", "person", "user", "owner", "customer"),
        ("name", "person", "name of the person", "user name"),
        ("姓名", "用户", "联系人", "名字"),
        ("of {v}", "for {v}", "with {v}"),
        ("{v}的", "，联系人是{v}"),
    ),
    "date": ParameterKind(
        ("date", "day", "when", "on"),
        ("date", "day", "date, as YYYY-MM-DD"),
        ("日期", "哪一天"),
        ("on {v}", "for {v}"),
        ("{v} 的", "{v}的", "，日期是 {v}"),
    ),
    "hour": ParameterKind(
        ("time", "at", "start", "hour"),
        ("time", "start time", "time of day"),
        ("时间", "开始时间", "几点"),
        ("at {v}", "for {v}", "at {v} o'clock"),
        ("{v} 的", "，时间是 {v}"),
    ),
    "count": ParameterKind(
        ("count", "number", "minutes", "seconds", "level", "amount", "percent", "days", "limit"),
        ("{n}", "number of {n}", "{n} to use"),
        ("{n}", "数量", "数值"),
        ("with {n} {v}", "for {v} {n}", "of {v} {n}", "{v}"),
        ("，数量是 {v}", " {v}", "，数值为{v}"),
        type="integer",
    ),
    "code": ParameterKind(
        ("code", "id", "number", "key", "ticket"),
        ("code", "identifier", "number", "reference code"),
        ("编号", "代码", "单号"),
        ("with code {v}", "number {v}", "{v}", "for {v}", "with the number {v}"),
        ("{v} 的", "，编号是 {v}", " {v}"),
    ),
    "text": ParameterKind(
        ("query", "text", "title", "keyword", "topic"),
        ("text", "words to look for", "title", "search words"),
        ("关键词", "内容", "标题"),
        ("called {v}", "about {v}", 'with "{v}"', "named {v}", "called '{v}'", "for {v}"),
        ("，关键词是{v}", "，内容是“{v}”", "，标题是{v}", "“{v}”的"),
    ),
}
ROUTES = (
    ("start", "end"),
    ("source", "destination"),
    ("origin", "target"),
    ("from_city", "to_city"),
    ("start", "destination"),
)
UNITS = (("celsius", "fahrenheit"), ("km", "miles"), ("GB", "MB"), ("euro", "dollar"), ("low", "high"))

# The styles of tools' names: {v} is the verb, {n} the noun, {x} something more.
ACTING_NAMES = "{v}_{n} {v}_{n} {n}_{v} {v}_the_{n} {v}_{n}_{x} do_{v}_{n} {v}".split()
READING_NAMES = (
    "get_{n} get_{n} {n} check_{n} read_{n} {n}_info {n}_status show_{n} query_{n} find_{n} lookup_{n} {n}_lookup "
    "current_{n} fetch_{n} search_{n} get_{n}_{x} {n}_{x} {x}_{n} get_{x}_{n} list_{n} {n}_free {n}_level my_{n} {x}"
).split()
# The styles of their descriptions: {a} names the parameter, such as " of a city".
ACTING = ("{does} the {what}{a}", "{does} a {what}", "{does} {what}s{a}", "used to {does} the {what}")
READING = (
    "get the {what}{a}", "returns the {what}{a}", "the current {what}{a}", "{what}{a}", "free {what}{a}",
    "look up the {what}{a}", "tells the {what}{a}", "information about the {what}{a}", "how much {what}{a}",
)  # fmt: skip
CHINESE_ACTING = ("{does}{what}", "{does}指定的{what}", "{does}一个{what}", "按{by}{does}{what}")
CHINESE_READING = ("查询{what}", "返回当前的{what}", "获取{what}信息", "{what}查询")
CHINESE_BY = ("查询指定{by}的{what}", "返回某个{by}的{what}")
OTHER_LABELS = {"from": ("from where", "出发地"), "to": ("to where", "目的地"), "unit": ("unit", "单位")}
# The styles of questions: {tail}, {it} and {behind} contain the arguments.
ORDERS = (
    "{does} the {what}{tail}.", "please {does} the {what}{tail}.", "can you {does} the {what}{tail}?",
    "I want to {does} a {what}{tail}.", "could you {does} the {what}{tail}, please?", "{does} {what}{tail}",
    "{does} a {what}{tail}, please.", "{does} my {what}{tail}.", "I need to {does} the {what}{tail}.",
)  # fmt: skip
QUESTIONS = (
    "what is the {what}{tail}?", "how is the {what}{tail}?", "show me the {what}{tail}.", "{what}{tail}?",
    "tell me the {what}{tail}.", "check the {what}{tail}.", "I need the {what}{tail}.", "{what}{tail}",
    "can you check the {what}{tail}?", "what about the {what}{tail}?", "find the {what}{tail}, please.",
    "do you know the {what}{tail}?", "how much {what} is there{tail}?", "how much {what} is free{tail}?",
    "is there any {what}{tail}?", "please look up the {what}{tail}.", "how much {what} is left{tail}?",
    "which {what} is there{tail}?", "what's the {what}{tail}?", "are there any {what}s{tail}?", "any {what}{tail}?",
    "what is the {what} like{tail}?", "I would like to know the {what}{tail}.", "get the {what}{tail}.",
)  # fmt: skip
CHINESE_ORDERS = (
    "请{does}{it}{behind}。", "帮我{does}{it}{behind}", "{does}{it}{behind}。", "我要{does}{it}{behind}。",
    "可以{does}{it}吗{behind}？", "麻烦{does}一下{it}{behind}。",
)  # fmt: skip
CHINESE_QUESTIONS = (
    "{it}是多少{behind}？", "查一下{it}{behind}。", "{it}怎么样{behind}？", "请告诉我{it}{behind}。",
    "我想知道{it}{behind}。",
    "帮我看看{it}{behind}", "{it}{behind}？", "显示{it}{behind}。", "请问{it}{behind}？", "查询{it}{behind}",
    "{it}还有多少{behind}？", "现在{it}是多少{behind}？",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Slot:
    """A parameter of a tool: its name, its kind (a key of KINDS, "from", "to" or "unit"), and its options."""

    name: str
    kind: str
    required: bool = True
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SyntheticTool:
    """A tool about a concept (English, Chinese); `verb` (English, Chinese) is its action, ("", "") if it only reads."""

    name: str
    concept: tuple[str, str]
    verb: tuple[str, str]
    slots: tuple[Slot, ...]
    schema: Schema


def held_out_name(name: str) -> bool:
    """Return whether a tool's name belongs to the held-out split: one in four does, by its checksum."""
    return crc32(name.lower().encode()) % 4 == 0


def make_tool(
    words: WordSampler, language: str, besides: tuple[SyntheticTool, ...] = (), bare: bool = False
) -> SyntheticTool:
    """Make a tool in the split of `words`, about another concept than those of the tools `besides`.

    A `bare` one has no parameters.
    """
    rng = words.rng
    taken = [part for tool in besides for part in (*tool.concept[0].split(), tool.concept[1], *tool.verb)]
    while True:
        concept = rng.choice(CONCEPTS)
        if rng.random() < 0.06:
            concept = (words.nonsense(), words.characters())
        if not any(part and (part in concept[0].split() or part in concept[1] or concept[1] in part) for part in taken):
            break
    acts = rng.random() < 0.3
    verb = rng.choice([verb for verb in VERBS if verb[0] not in taken]) if acts else ("", "")
    name = _name(words, concept[0], verb[0], {tool.name for tool in besides})
    slots = () if bare else _slots(rng)
    described = language if rng.random() < 0.9 else "en"
    schema = _schema(rng, name, _description(rng, described, concept, verb, slots), slots, described)
    return SyntheticTool(name, concept, verb, slots, schema)


def _name(words: WordSampler, concept: str, verb: str, taken: set[str]) -> str:
    rng, noun = words.rng, concept.replace(" ", "_")
    while True:
        style = rng.choice(ACTING_NAMES if verb else READING_NAMES)
        extra = rng.choice(("data", "now", "value", "tool", "api", "v2", "all", "list", words.nonsense((1, 2))))
        if style == "{x}":
            extra = words.nonsense()
        name = style.format(v=verb, n=noun, x=extra)
        if rng.random() < 0.12:
            first, *rest = name.split("_")
            name = first + "".join(part.capitalize() for part in rest)
        if name not in taken and held_out_name(name) is words.held_out:
            return name


def _slots(rng: random.Random) -> tuple[Slot, ...]:
    slots: list[Slot] = []
    if rng.random() < 0.1:
        start, end = rng.choice(ROUTES)
        slots = [Slot(start, "from"), Slot(end, "to")]
    else:
        for kind in rng.sample(sorted(KINDS), rng.choice((0, 0, 1, 1, 1, 1, 1, 2))):
            name = rng.choice(KINDS[kind].names)
            if all(name != slot.name for slot in slots):
                slots.append(Slot(name, kind))
    if rng.random() < 0.12 and len(slots) < 2:
        slots.append(Slot("unit" if rng.random() < 0.7 else "units", "unit", False, rng.choice(UNITS)))
    elif slots and rng.random() < 0.12 and slots[-1].kind not in ("from", "to"):
        slots[-1] = Slot(slots[-1].name, slots[-1].kind, required=False)
    return tuple(slots)


def _label(rng: random.Random, slot: Slot, language: str) -> str:
    if slot.kind in OTHER_LABELS:
        return OTHER_LABELS[slot.kind][language == "zh"]
    kind = KINDS[slot.kind]
    return rng.choice(kind.chinese_labels if language == "zh" else kind.labels).format(n=slot.name)


def _description(
    rng: random.Random, language: str, concept: tuple[str, str], verb: tuple[str, str], slots: tuple[Slot, ...]
) -> str:
    if rng.random() < 0.04:
        return ""
    what, does = (concept[1], verb[1]) if language == "zh" else (concept[0], verb[0])
    by = _label(rng, slots[0], language) if slots and rng.random() < 0.5 else ""
    if language == "zh":
        texts = (CHINESE_ACTING if by else CHINESE_ACTING[:3]) if does else CHINESE_BY if by else CHINESE_READING
        return rng.choice(texts).format(does=does, what=what, by=by) + rng.choice(("", "" if does else "。"))
    text = rng.choice(ACTING if does else READING).format(does=does, what=what, a=f" of a {by}" if by else "")
    text = text[0].upper() + text[1:] if rng.random() < 0.9 else text
    return text + rng.choice((".", ".", "", ", in GB.", " of this computer.", " right now."))


def _schema(rng: random.Random, name: str, description: str, slots: tuple[Slot, ...], language: str) -> Schema:
    labelled = rng.random() < 0.5
    properties: dict[str, dict[str, object]] = {}
    for slot in slots:
        kind = KINDS.get(slot.kind)
        entry: dict[str, object] = {"type": kind.type if kind else "string"}
        if slot.options:
            entry = {"enum": list(slot.options), "type": "string"}
        if labelled:
            entry = {"description": _label(rng, slot, language)} | entry
        if not slot.required:
            default = slot.options[0] if slot.options else 1 if kind and kind.type == "integer" else ""
            entry = {"default": default} | entry
        properties[slot.name] = entry
    parameters: dict[str, object] = {"properties": properties, "type": "object"}
    required = [slot.name for slot in slots if slot.required]
    if rng.random() < 0.5:
        parameters = {"type": "object", "properties": properties}
    if required or rng.random() < 0.3:
        parameters["required"] = required
    return {"name": name, "description": description, "parameters": parameters}


def ask(tool: SyntheticTool, words: WordSampler, language: str) -> tuple[str, Arguments]:
    """Draw a question that needs the tool, and the call's arguments."""
    rng = words.rng
    given = [slot for slot in tool.slots if slot.required or rng.random() < 0.4]
    arguments: Arguments = {}
    phrases: dict[str, str] = {}
    for slot in given:
        text, arguments[slot.name] = draw(words, slot, language)
        phrases[slot.name] = phrase(rng, slot, text, language)
    ordered = [phrases[slot.name] for slot in given]
    return (_chinese if language == "zh" else _english)(rng, tool, ordered), arguments


def phrase(rng: random.Random, slot: Slot, text: str, language: str) -> str:
    """Draw the phrase of a value in a question."""
    if slot.kind == "unit":
        return f"，用{text}" if language == "zh" else f"in {text}"
    if slot.kind in ("from", "to"):
        return (f"从{text}" if slot.kind == "from" else f"到{text}的") if language == "zh" else f"{slot.kind} {text}"
    kind = KINDS[slot.kind]
    return rng.choice(kind.chinese_phrases if language == "zh" else kind.phrases).format(v=text, n=slot.name)


def _english(rng: random.Random, tool: SyntheticTool, phrases: list[str]) -> str:
    tail = "".join(f" {part}" for part in phrases)
    pattern = rng.choice(ORDERS if tool.verb[0] else QUESTIONS)
    text = pattern.format(does=tool.verb[0], what=tool.concept[0], tail=tail)
    return text[0].upper() + text[1:] if rng.random() < 0.93 else text


def _chinese(rng: random.Random, tool: SyntheticTool, phrases: list[str]) -> str:
    before = "".join(part for part in phrases if part.endswith("的") or part.startswith("从"))
    behind = "".join(part for part in phrases if not (part.endswith("的") or part.startswith("从")))
    pattern = rng.choice(CHINESE_ORDERS if tool.verb[1] else CHINESE_QUESTIONS)
    return pattern.format(does=tool.verb[1], it=before + tool.concept[1], behind=behind)


def draw(words: WordSampler, slot: Slot, language: str) -> tuple[str, Value]:
    """Draw a value, as text for the question and as the call's argument."""
    rng, chinese = words.rng, language == "zh"
    match slot.kind:
        case "unit":
            text = rng.choice(slot.options)
        case "place" | "from" | "to":
            text = words.pick(CHINESE_PLACES if chinese and rng.random() < 0.8 else PLACES)
            if rng.random() < 0.35:
                text = words.characters() if chinese else words.nonsense().capitalize()
        case "person":
            text = words.pick(CHINESE_PEOPLE if chinese and rng.random() < 0.8 else PEOPLE)
            if rng.random() < 0.35:
                text = words.characters() if chinese else words.nonsense().capitalize()
        case "path":
            text = _path(words)
        case "date":
            text = f"20{rng.randrange(20, 40)}-{rng.randrange(1, 13):02}-{rng.randrange(1, 29):02}"
        case "hour":
            text = f"{rng.randrange(24):02}:{rng.randrange(0, 60):02}"
        case "count":
            text = words.number((1, 2, 2, 3))
            return text, int(text)
        case "code":
            letters = "".join(rng.choice("ABCDEFGHKLMNPRSTUVWX") for _ in range(rng.choice((1, 2, 3))))
            text = letters + rng.choice(("", "-")) + words.number((2, 3, 4))
        case _:
            count = rng.choice((1, 2, 2, 3))
            if chinese:
                text = "".join(words.characters() for _ in range(rng.choice((1, 1, 2))))
            else:
                text = " ".join(rng.choice((words.nonsense(), rng.choice(CONCEPTS)[0])) for _ in range(count))
    return text, text


def _path(words: WordSampler) -> str:
    rng = words.rng
    parts = [
        rng.choice((words.nonsense(), words.nonsense(), "home", "data", "tmp", "var"))
        for _ in range(rng.choice((1, 1, 2, 3)))
    ]
    root = rng.random()
    if root < 0.15:
        return "/"
    if root < 0.25:
        return f"{rng.choice('CDEFX')}:\\" + "\\".join(parts[:-1])
    path = "/" + "/".join(parts)
    return path + rng.choice(("", "", "", ".txt", ".log", ".csv", "/"))
