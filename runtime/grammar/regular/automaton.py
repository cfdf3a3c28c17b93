"""The automaton of a language: its derivatives as states, of which only those are kept that can end."""

from collections.abc import Iterator
from dataclasses import dataclass

from ...errors import RequestError
from ..budget import spend
from .charset import Ranges, contains, normalise
from .language import NOTHING, Language, ranges_between

_MOST_STATES = 8000


@dataclass(slots=True, eq=False)
class State:
    """What follows a part of a text: `moves` are sets of characters, none in two of them, and where they lead. `rest`
    is the least number of characters to an end."""

    language: Language
    accepts: bool
    moves: tuple[tuple[Ranges, "State"], ...] = ()
    rest: int = 0

    def next(self, code_point: int) -> "State | None":
        """Return the state after a character; None if no text of the language goes on with it."""
        for ranges, state in self.moves:
            if contains(ranges, code_point):
                return state
        return None


def automaton(language: Language) -> State | None:
    """Return the first state of the language; None if no text is in it. Raises RequestError for too many states."""
    if language.state is None:
        _explore(language)
    return language.state or None


def matches(language: Language, text: str) -> bool:
    """Whether the text is in the language."""
    for character in text:
        language = language.derive(ord(character))
        if language is NOTHING:
            return False
    return language.empty


def states(first: State) -> Iterator[State]:
    """Every state that can be reached, the first included."""
    seen, todo = {id(first)}, [first]
    while todo:
        state = todo.pop()
        yield state
        for _, target in state.moves:
            if id(target) not in seen:
                seen.add(id(target))
                todo.append(target)


def longest(first: State) -> int | None:
    """Return the length of the longest text; None where there is none."""
    found: dict[int, int] = {}
    open_states: set[int] = set()
    todo: list[tuple[State, bool]] = [(first, False)]
    while todo:
        state, done = todo.pop()
        if done:
            open_states.discard(id(state))
            found[id(state)] = max((found[id(target)] + 1 for _, target in state.moves), default=0)
        elif id(state) in open_states:
            continue
        elif id(state) not in found:
            open_states.add(id(state))
            todo.append((state, True))
            for _, target in state.moves:
                if id(target) in open_states:
                    return None
                todo.append((target, False))
    return found[id(first)]


def has_words(language: Language, count: int) -> bool:
    """Whether there are at least so many texts in the language."""
    first = automaton(language)
    if first is None:
        return count <= 0
    if longest(first) is None:
        return True
    found, todo = 0, [first]
    while todo and found < count:
        state = todo.pop()
        found += state.accepts
        todo += [
            target for ranges, target in state.moves for low, high in ranges for _ in range(min(high - low + 1, count))
        ]
    return found >= count


def _explore(language: Language) -> None:
    """Find the derivatives that are not known yet, and record the state of each: False where it can never end."""
    found: dict[Language, list[tuple[Ranges, Language]]] = {}
    todo = [language]
    while todo:
        current = todo.pop()
        if current in found or current.state is not None:
            continue
        targets: dict[Language, list[tuple[int, int]]] = {}
        for low, high in ranges_between(current.borders()):
            spend(1)
            target = current.derive(low)
            if target is not NOTHING:
                targets.setdefault(target, []).append((low, high))
        found[current] = [(normalise(ranges), target) for target, ranges in targets.items()]
        if len(found) > _MOST_STATES:
            raise RequestError("a pattern has too many states", hint="simplify it, or shorten its counts")
        todo += targets
    _record(found)


def _record(found: dict[Language, list[tuple[Ranges, Language]]]) -> None:
    """Make states of the derivatives that can end, from their ends backwards."""
    before: dict[Language, list[Language]] = {}
    for current, targets in found.items():
        for _, target in targets:
            before.setdefault(target, []).append(current)
    known = [target for target in before if target.state]
    rest = {target: target.state.rest for target in known}
    rest |= {current: 0 for current in found if current.empty}
    todo = sorted(rest, key=rest.__getitem__)
    for current in todo:  # breadth first, but for states known before: their `rest` is an upper bound then
        for previous in before.get(current, ()):
            if previous not in rest or rest[current] + 1 < rest[previous]:
                rest[previous] = rest[current] + 1
                todo.append(previous)
    made = {target: target.state for target in known}
    made |= {current: State(current, current.empty, (), rest[current]) for current in found if current in rest}
    for current, targets in found.items():
        if current in made:
            made[current].moves = tuple((ranges, made[target]) for ranges, target in targets if target in made)
    for current in found:  # all of them are complete before other threads see one
        current.state = made.get(current, False)
