"""What the objects and arrays of a schema need of the compiler."""

from typing import Any, Protocol

from ..nodes import Node
from ..regular.automaton import State
from ..regular.language import Language
from .document import Conjunction, Schema, SchemaDocument


class Builder(Protocol):
    """Makes the rules of a schema. `rules` holds them by name."""

    document: SchemaDocument
    rules: dict[str, Node]

    def node(self, schemas: Conjunction) -> Node:
        """Return a reference to the rule of a conjunction, which is made later."""
        ...

    def new_name(self, kind: str) -> str:
        """Return a name for rules that none has yet."""
        ...

    def automaton(self, language: Language, schema: Schema) -> State | None:
        """Return the automaton of a language that a schema asks for. Raises RequestError with its place."""
        ...

    def types(self, schemas: Conjunction) -> frozenset[str]:
        """Return the types of which a conjunction's values may be."""
        ...

    def keys(self, schemas: Conjunction) -> Language:
        """Return the texts that are valid for a conjunction."""
        ...

    def count_scalars(self, schemas: Conjunction) -> int | None:
        """Return how many scalars are valid for a conjunction; None if they are not listed."""
        ...

    def accepts(self, value: Any, schemas: Conjunction) -> bool:
        """Whether a value is valid for a conjunction."""
        ...
