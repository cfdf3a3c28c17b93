"""A language as an expression in llguidance's syntax: classes in slashes, beside each other, `|`, `&`, `~`, `{m,n}`."""

from collections.abc import Callable

from .charset import MAX_CODE_POINT, Ranges, single
from .language import ANY, Chars, Complement, Concat, Intersection, Language, Repetition, Union, Words, chain

Write = Callable[[Ranges], str]


def character_class(ranges: Ranges) -> str:
    """Write a set of characters."""
    return f"/[{''.join(f'{_code(low)}-{_code(high)}' if high > low else _code(low) for low, high in ranges)}]/"


def to_expression(language: Language, write: Write = character_class) -> str:
    """Write a language; `write` spells the characters of a set. Multiples of a number are written as any digits."""
    match language:
        case Chars():
            return write(language.ranges)
        case Words():
            texts = (option[language.read :] for option in language.options)
            return f"({' | '.join(' '.join(write(single(char)) for char in text) or _EMPTY for text in texts)})"
        case Concat():
            return " ".join(to_expression(part, write) for part in chain(language))
        case Union(parts=()):
            return f"({_EMPTY} & {character_class(((0, MAX_CODE_POINT),))})"
        case Union():
            return f"({' | '.join(to_expression(part, write) for part in language.parts)})"
        case Intersection():
            return f"({' & '.join(_operand(part, write) for part in language.parts)})"
        case Complement():
            return f"({_operand(ANY, write)} & ~{_operand(language.part, write)})"
        case Repetition():
            most = "" if language.most is None else language.most
            return f"{_operand(language.part, write)}{{{language.least},{most}}}"
    return _EMPTY if language.empty and not language.borders() else to_expression(language.widen(), write)


_EMPTY = '""'


def _operand(language: Language, write: Write) -> str:
    return f"({to_expression(language, write)})"


def _code(code_point: int) -> str:
    return f"\\u{{{code_point:x}}}"
