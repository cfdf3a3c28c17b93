"""Makes tools that never were.

A tool is about a concept (`blue lamp`, `braneth`), and its name or its description says so. Schemas look like those
that Python functions become: types, defaults, choices and descriptions that may be missing.
"""

import random
from dataclasses import dataclass

from .patterns import CHINESE_PAIRS, CHINESE_VERBS, ENDINGS, FILLERS, KINDS, PAIRS, QUERY_VERBS, VERBS
from .words import ADJECTIVES, CHINESE_ADJECTIVES, CHINESE_NOUNS, NOUNS, Words

Schema = dict[str, object]


@dataclass(frozen=True, slots=True)
class Slot:
    """One parameter: `label` is what a question in the tool's language calls it."""

    name: str
    label: str
    kind: str
    required: bool
    choices: tuple[str, ...] = ()
    cue: str = ""


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool, the words it is about, and its language."""

    language: str
    name: str
    verb: str
    concept: tuple[str, ...]
    slots: tuple[Slot, ...]
    schema: Schema


def make_tool(words: Words, language: str, like: Tool | None = None) -> Tool:
    """A new tool; what it is about comes from the split of `words`. One `like` another differs in a single word."""
    rng = words.rng
    chinese = language == "zh"
    concept = _chinese_concept(words) if chinese else _concept(words)
    verb = rng.choice(CHINESE_VERBS if chinese else VERBS) if rng.random() < 0.35 else ""
    if like is not None and like.verb:
        concept = like.concept
        verb = rng.choice([word for word in (CHINESE_VERBS if chinese else VERBS) if word != like.verb])
    elif like is not None and len(like.concept) == 2:
        concept, verb = (like.concept[0], concept[-1]) if rng.random() < 0.4 else (concept[0], like.concept[1]), ""
    slots = _slots(words, language)
    plain = [part for word in concept for part in word.split("-")]
    if chinese:
        plain = (
            [words.of(NOUNS).split("-")[0]]
            if rng.random() < 0.5
            else [words.nonsense() for _ in range(rng.choice((1, 2)))]
        )
    telling = not chinese and rng.random() < 0.9
    name = _name(words, plain if telling or chinese else [words.nonsense() for _ in range(rng.choice((1, 2)))], verb)
    described = not telling or rng.random() < 0.88
    description = (
        _chinese_description(rng, concept, verb, slots) if chinese else _description(rng, concept, verb, slots)
    )
    schema: Schema = {"name": name}
    if described or rng.random() < 0.5:
        schema["description"] = description if described else ""
    schema["parameters"] = _parameters(rng, slots, language)
    return Tool(language, name, verb, concept, slots, schema)


def _concept(words: Words) -> tuple[str, ...]:
    rng = words.rng
    noun = words.of(NOUNS) if rng.random() < 0.6 else words.nonsense()
    if rng.random() < 0.55:
        return (noun,)
    first = rng.choice((lambda: words.of(ADJECTIVES), lambda: words.of(NOUNS), words.nonsense))()
    return (first, noun) if first != noun else (noun,)


def _chinese_concept(words: Words) -> tuple[str, ...]:
    rng = words.rng
    noun = words.of(CHINESE_NOUNS) if rng.random() < 0.65 else words.characters()
    return (words.of(CHINESE_ADJECTIVES), noun) if rng.random() < 0.3 else (noun,)


def _name(words: Words, parts: list[str], verb: str) -> str:
    rng = words.rng
    verb = verb if verb.isascii() and verb else rng.choice(QUERY_VERBS) if rng.random() < 0.6 else ""
    parts = [*parts] if not verb else [verb, *parts] if rng.random() < 0.85 else [*parts, verb]
    if rng.random() < 0.1:
        return parts[0] + "".join(part.capitalize() for part in parts[1:])
    return "_".join(parts)


def _description(rng: random.Random, concept: tuple[str, ...], verb: str, slots: tuple[Slot, ...]) -> str:
    c = " ".join(concept).replace("-", " ") + rng.choice(("", "", "", "s"))
    if rng.random() < 0.2:
        c += " " + rng.choice(FILLERS)
    of = rng.choice((" of a ", " for a ", " in a ", " by ", " for the given ")) + slots[0].label if slots else ""
    if rng.random() < 0.3:
        of = rng.choice(ENDINGS) if rng.random() < 0.4 else ""
    if verb:
        text = rng.choice((f"{verb} a {c}{of}", f"{verb} the {c}{of}", f"{verb} {c}{of}", f"{verb}s the {c}{of}"))
    else:
        get = rng.choice(("get", "return", "find", "look up", "tells", "shows"))
        text = rng.choice(
            (
                f"{get} the {c}{of}",
                f"{get} {c}{of}",
                f"the {c}{of}",
                f"{c}{of}",
                f"current {c}{of}",
                f"number of {c}{of}",
            )
        )
        if rng.random() < 0.2:
            text += ", in " + rng.choice(("GB", "percent", "euros", "metres", "kilograms"))
    return text[0].upper() + text[1:] + rng.choice((".", ".", ""))


def _chinese_description(rng: random.Random, concept: tuple[str, ...], verb: str, slots: tuple[Slot, ...]) -> str:
    c = "".join(concept)
    of = rng.choice(("指定", "某个", "给定")) + slots[0].label + "的" if slots and rng.random() < 0.5 else ""
    if verb:
        return rng.choice((f"{verb}{of}{c}", f"{verb}{c}", f"用来{verb}{c}")) + rng.choice(("。", ""))
    return rng.choice((f"查询{of}{c}", f"获取{of}{c}", f"{of}{c}查询", f"返回{of}{c}", f"{of}{c}")) + rng.choice(
        ("。", "")
    )


def _slots(words: Words, language: str) -> tuple[Slot, ...]:
    rng = words.rng
    if rng.random() < 0.08:
        i = rng.randrange(len(PAIRS))
        kind = rng.choice(("place", "free", "date", "time", "count"))
        labels = CHINESE_PAIRS[i] if language == "zh" else PAIRS[i]
        cues = (("从{v}", "到{v}") if rng.random() < 0.5 else ("", "")) if language == "zh" else ("from {v}", "to {v}")
        return tuple(
            Slot(name, label.replace("_", " "), kind, True, cue=cue)
            for name, label, cue in zip(PAIRS[i], labels, cues, strict=True)
        )
    n = rng.choice((0, 1, 1, 1, 1, 1, 2, 2, 3))
    slots: list[Slot] = []
    for kind in rng.sample(sorted(KINDS), n):
        name, label = rng.choice(KINDS[kind].names)
        if kind in ("free", "count", "amount", "choice", "flag", "place") and rng.random() < 0.4:
            name = words.nonsense() if rng.random() < 0.5 else words.of(NOUNS).replace("-", "_")
            label = label if language == "en" else words.of(CHINESE_NOUNS)
        if language == "en":
            label = name.replace("_", " ")
        if any(slot.name == name or slot.label == label for slot in slots):
            continue
        choices: tuple[str, ...] = ()
        if kind == "choice":
            choices = tuple(
                dict.fromkeys(words.nonsense() if rng.random() < 0.5 else words.of(NOUNS) for _ in range(4))
            )
            choices = choices[: rng.choice((2, 3, 4))]
        slots.append(Slot(name, label, kind, rng.random() < 0.7 or (n == 1 and rng.random() < 0.5), choices))
    return tuple(sorted(slots, key=lambda slot: not slot.required))


def _parameters(rng: random.Random, slots: tuple[Slot, ...], language: str) -> Schema:
    described = rng.random() < 0.5 or (language == "zh" and len(slots) > 1)
    pydantic = rng.random() < 0.5
    properties: Schema = {}
    for slot in slots:
        kind = KINDS[slot.kind].type
        schema: Schema = {"type": "string", "enum": list(slot.choices)} if slot.choices else {"type": kind}
        if described:
            text = (
                rng.choice(("{}", "{}名称", "要用的{}"))
                if language == "zh"
                else rng.choice(("The {}.", "the {}", "Which {}.", "{} to use"))
            )
            schema["description"] = text.format(slot.label)
        if not slot.required:
            default: dict[str, list[object]] = {
                "integer": [1, 2, 10],
                "number": [0.5, 1.0, 20.0],
                "boolean": [False, True],
            }
            schema["default"] = rng.choice(
                default.get(kind, [slot.choices[0]] if slot.choices else ["", None, "all", "auto"])
            )
        properties[slot.name] = dict(sorted(schema.items())) if pydantic else schema
    required = [slot.name for slot in slots if slot.required]
    if pydantic:
        return {"properties": properties} | ({"required": required} if required else {}) | {"type": "object"}
    parameters: Schema = {"type": "object", "properties": properties}
    if required or rng.random() < 0.5:
        parameters["required"] = required
    return parameters
