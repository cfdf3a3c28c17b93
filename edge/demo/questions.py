"""Questions that only one tool can answer, and the arguments that it must be called with.

The question has the tool's concept in other words than the schema's, and the arguments word for word.
"""

from .patterns import (
    CHINESE_COMMANDS,
    CHINESE_QUESTIONS,
    COMMANDS,
    KINDS,
    QUESTIONS,
    SPLIT_QUESTIONS,
)
from .tools import Slot, Tool
from .words import CHINESE_NOUNS, CHINESE_PEOPLE, CHINESE_PLACES, NOUNS, PEOPLE, PLACES, Words

Value = str | int | float | bool
Arguments = dict[str, Value]


def ask(tool: Tool, words: Words, brief: bool = False) -> tuple[str, Arguments]:
    """A question that needs this tool, and the arguments. A brief one names only half of a concept of two words."""
    concept = (words.rng.choice(tool.concept),) if brief else tool.concept
    return (_ask_chinese if tool.language == "zh" else _ask_english)(tool, words, concept)


def ask_again(tool: Tool, words: Words) -> tuple[str, Arguments] | None:
    """A short follow-up ("And in Oslo?") to a call of a tool with one argument."""
    if len(tool.slots) != 1 or tool.slots[0].kind not in ("place", "person", "code", "path"):
        return None
    shown, value = draw(words, tool.slots[0], tool.language)
    patterns: tuple[str, ...] = ("And {v}?", "And for {v}?", "What about {v}?", "The same for {v}, please.")
    if tool.language == "zh":
        patterns = ("那{v}呢？", "{v}呢？", "换成{v}呢？")
    return words.rng.choice(patterns).format(v=shown), {tool.slots[0].name: value}


def draw(words: Words, slot: Slot, language: str) -> tuple[str, Value]:
    """A value for a slot: as a question writes it, and as JSON holds it."""
    rng, kind = words.rng, slot.kind
    chinese = language == "zh" and rng.random() < 0.75
    if kind in ("count", "amount"):
        text = words.number((1, 1, 2, 3), decimals=kind == "amount" and rng.random() < 0.6)
        return text, float(text) if "." in text else int(text)
    if kind == "choice":
        text = rng.choice(slot.choices)
    elif kind == "date":
        text = f"{rng.randrange(2020, 2035)}-{rng.randrange(1, 13):02}-{rng.randrange(1, 29):02}"
    elif kind == "time":
        text = f"{rng.randrange(24):02}:{rng.randrange(60):02}"
    elif kind == "code":
        letters = words.nonsense((1,)).upper()[:3]
        text = rng.choice(
            (words.number((4, 5, 6)), f"{letters}-{words.number((3, 4))}", f"{letters}{words.number((2, 3))}")
        )
    elif kind == "path":
        text = _path(words)
    elif kind == "email":
        text = f"{words.nonsense()}@{words.nonsense()}.{rng.choice(('com', 'org', 'net', 'cn', 'de'))}"
    elif kind == "text":
        count = rng.choice((1, 2, 2, 3, 4))
        text = ("" if chinese else " ").join(_word(words, chinese) for _ in range(count))
    elif chinese:
        listed = CHINESE_PEOPLE if kind == "person" else CHINESE_PLACES
        text = words.of(listed) if rng.random() < 0.45 else words.characters(rare=rng.random() < 0.12)
    else:
        text = words.of(PEOPLE if kind == "person" else PLACES) if rng.random() < 0.4 else _proper(words)
    return text, text


def _word(words: Words, chinese: bool) -> str:
    if chinese:
        return words.of(CHINESE_NOUNS)
    return words.rng.choice((words.of(NOUNS).replace("-", " "), words.nonsense()))


def _proper(words: Words) -> str:
    rng = words.rng
    name = words.nonsense()
    if rng.random() < 0.2:
        name = rng.choice(("new", "port", "san", "old", words.nonsense())) + " " + name
    return name if rng.random() < 0.35 else name.upper() if rng.random() < 0.06 else name.title()


def _path(words: Words) -> str:
    rng = words.rng
    parts = [rng.choice((words.nonsense(), words.of(NOUNS).split("-")[0])) for _ in range(rng.choice((1, 1, 2, 3)))]
    style = rng.random()
    if style < 0.5:
        return "/" + "/".join(parts) if rng.random() < 0.85 else "/"
    if style < 0.75:
        return rng.choice("CDEFGX") + ":\\" + "\\".join(parts if rng.random() < 0.6 else [])
    return parts[0] + "." + rng.choice(("txt", "csv", "pdf", "png", "log", "json"))


def _used(words: Words, tool: Tool) -> list[tuple[Slot, str, Value]]:
    used: list[tuple[Slot, str, Value]] = []
    for slot in tool.slots:
        if slot.required or words.rng.random() < 0.5:
            if slot.kind == "flag":
                value = words.rng.random() < 0.6
                shown = ("with" if value else "without") if tool.language == "en" else "要" if value else "不要"
                used.append((slot, shown, value))
            else:
                used.append((slot, *draw(words, slot, tool.language)))
    return used


def _ask_english(tool: Tool, words: Words, concept: tuple[str, ...]) -> tuple[str, Arguments]:
    rng = words.rng
    used = _used(words, tool)
    phrases, ending = [], ""
    for slot, shown, _ in used:
        kind = KINDS[slot.kind]
        cue = slot.cue or rng.choice(kind.cues + kind.lone if len(tool.slots) == 1 else kind.cues)
        phrase = cue.format(v=shown, n=slot.label)
        if cue.startswith(":"):
            ending = phrase
        else:
            phrases.append(phrase)
    if rng.random() < 0.25 and not any(slot.cue for slot in tool.slots):
        rng.shuffle(phrases)
    about = "".join(" " + phrase for phrase in phrases)
    c = " ".join(concept).replace("-", " ")
    if tool.verb:
        text = rng.choice(COMMANDS).format(v=tool.verb, c=c, a=about)
    elif len(concept) == 2 and rng.random() < 0.35:
        x, y = concept if rng.random() < 0.5 else concept[::-1]
        text = rng.choice(SPLIT_QUESTIONS).format(x=x.replace("-", " "), y=y.replace("-", " "), a=about)
    else:
        text = rng.choice(QUESTIONS).format(c=c, a=about)
    if ending:
        text = text.rstrip(".?") + ending
    elif rng.random() < 0.12:
        text = rng.choice(("Please ", "Hi, ", "Excuse me, ", "Now ", "And ", "OK, ")) + text[0].lower() + text[1:]
    elif rng.random() < 0.12 and not text.startswith("Please"):
        text = text[:-1] + rng.choice((", please", " please")) + text[-1]
    elif rng.random() < 0.12:
        text = text[:-1]
    if rng.random() < 0.88:
        text = text[0].upper() + text[1:]
    return text, {slot.name: value for slot, _, value in used}


def _ask_chinese(tool: Tool, words: Words, concept: tuple[str, ...]) -> tuple[str, Arguments]:
    rng = words.rng
    used = _used(words, tool)
    before, after = "", []
    for slot, value, _ in used:
        foreign = not any(char >= "\u4e00" for char in value)
        shown = f" {value} " if foreign and rng.random() < 0.5 else value
        if slot.cue:
            before += slot.cue.format(v=shown)
        elif slot.kind == "flag":
            after.append(f"{shown}{slot.label}")
        elif (
            not before
            and not after
            and (len(tool.slots) == 1 or slot.kind in ("place", "person"))
            and rng.random() < 0.8
        ):
            before = rng.choice(("{v}的", "{v}的", "{v}", "在{v}的" if slot.kind == "place" else "{v}的")).format(
                v=shown
            )
        else:
            after.append(rng.choice(("{n}是{v}", "{n}为{v}", "{n}{v}", "{n}：{v}")).format(n=slot.label, v=shown))
    if before and tool.slots[0].cue and rng.random() < 0.8:
        before += "的"
    pattern = rng.choice(CHINESE_COMMANDS if tool.verb else CHINESE_QUESTIONS)
    text = pattern.format(v=tool.verb, c="".join(concept), a=before)
    text = "，".join([text.rstrip("？"), *after]) if after else text
    if rng.random() < 0.3 and text[-1] not in "？吗":
        text += "。" if not after or after[-1][-1] != " " else ""
    return text.strip(), {slot.name: value for slot, _, value in used}
