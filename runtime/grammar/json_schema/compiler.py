"""A JSON schema becomes a tree.

Its state is a conjunction of schemas, which becomes a rule: the choice of its alternatives, each the choice of its
types. So allOf, siblings of `$ref`, dependencies, `if` and `not` need nothing special, and a schema may refer to
itself.

https://json-schema.org/draft/2020-12/json-schema-validation
"""

from typing import Any

from ...errors import RequestError
from ..budget import STEPS, budget, spend
from ..nodes import Node
from ..pruning import pruned
from ..regular.automaton import State, automaton
from ..regular.language import Language, union, words
from ..tree import Tree, choice, numeral, reference
from .alternatives import Alternatives, common_types
from .arrays import Arrays
from .document import TRUE, Conjunction, Schema, SchemaDocument, UnsupportedSchema, conjunction
from .numbers import Numbers, is_number
from .objects import Objects
from .strings import Strings
from .validity import InvalidSchema
from .values import canonical_value, constant

_DEEPEST = 6  # where a conjunction is looked at to see whether anything is valid for it


def compile_schema(schema: Any, compiler: "type[Compiler] | None" = None) -> Tree:
    """Return the grammar of a JSON schema, drafts 4 to 2020-12: of JSON, or of what a `compiler` makes of it.

    Raises RequestError, with the JSON pointer of the place, for what is invalid, not supported or too large, and for a
    schema for which nothing is valid.
    """
    try:
        with budget(STEPS):
            tree = (compiler or Compiler)(schema).compile()
    except (InvalidSchema, UnsupportedSchema):
        raise
    except RequestError as exc:
        raise UnsupportedSchema(f"unsupported JSON schema: {exc} at #", hint=exc.hint) from exc
    except RecursionError as exc:
        raise RequestError("unsupported JSON schema: it is nested too deeply", hint="nest it less") from exc
    if tree is None:
        raise RequestError("unsupported JSON schema: nothing is valid for it", hint="correct the schema")
    return tree


class Compiler:
    """Makes the rules of a schema. `rules` holds them by name."""

    def __init__(self, schema: Any) -> None:
        self.document = SchemaDocument(schema)
        self.rules: dict[str, Node] = {}
        self._alternatives = Alternatives(self.document, self._excludes)
        self._names: dict[Conjunction, str] = {}
        self._waiting: list[Conjunction] = []
        self._numbers: dict[str, int] = {}
        self._empty: dict[tuple[Conjunction, Schema | None], bool] = {}

    def compile(self) -> Tree | None:
        """Return the tree; None if nothing is valid for the schema."""
        root = self.root()
        while self._waiting:
            schemas = self._waiting.pop()
            alternatives = self._alternatives.of(schemas)
            node = choice(*(self._build(alternative) for alternative in alternatives))
            self.rules[self._names[schemas]] = node
        return pruned(Tree(root, self.rules))

    def root(self) -> Node:
        """Return what the root of the schema becomes."""
        return self.node(conjunction(self.document.root))

    def node(self, schemas: Conjunction) -> Node:
        """Return a reference to the rule of a conjunction, which is made later."""
        schemas = tuple(schema for schema in schemas if schema.says_something)
        if schemas not in self._names:
            self._names[schemas] = self.new_name("value")
            self._waiting.append(schemas)
        return reference(self._names[schemas])

    def new_name(self, kind: str) -> str:
        """Return a name for rules that none has yet."""
        self._numbers[kind] = number = self._numbers.get(kind, 0) + 1
        return f"{kind}{number}"

    def automaton(self, language: Language, schema: Schema) -> State | None:
        """Return the automaton of a language that a schema asks for. Raises RequestError with its place."""
        with schema.placing_errors():
            return automaton(language)

    def types(self, schemas: Conjunction) -> frozenset[str]:
        """Return the types of which a conjunction's values may be."""
        return frozenset[str]().union(*map(common_types, self._alternatives.of(schemas)))

    def keys(self, schemas: Conjunction) -> Language:
        """Return the texts that are valid for a conjunction."""
        found = []
        for alternative in self._alternatives.of(schemas):
            constants = self._constants(alternative)
            if constants is not None:
                found.append(words(value for value in constants if isinstance(value, str)))
            elif "string" in common_types(alternative):
                found.append(Strings.of(alternative).keys())
        return union(*found)

    def count_scalars(self, schemas: Conjunction) -> int | None:
        """Return how many scalars are valid for a conjunction; None if they are not listed."""
        values = set[Any]()
        for alternative in self._alternatives.of(schemas):
            constants = self._constants(alternative)
            if constants is None:
                if common_types(alternative) <= {"boolean", "null"}:
                    constants = [value for value in (True, False, None) if self._accepts(value, alternative)]
                else:
                    return None
            if any(isinstance(value, dict | list) for value in constants):
                return None
            values.update(map(canonical_value, constants))
        return len(values)

    def accepts(self, value: Any, schemas: Conjunction) -> bool:
        """Whether a value is valid for a conjunction."""
        return any(self._accepts(value, alternative) for alternative in self._alternatives.of(schemas))

    def _accepts(self, value: Any, schemas: Conjunction) -> bool:
        if json_type(value) not in common_types(schemas):
            return False
        for schema in schemas:
            listed, excluded = schema.listed, schema.excluded
            if listed is not None and canonical_value(value) not in listed:
                return False
            if excluded and canonical_value(value) in excluded:
                return False
        match value:
            case str():
                return Strings.of(schemas).accepts(value)
            case dict():
                return Objects(schemas, self).accepts(value)
            case list():
                return Arrays(schemas, self).accepts(value)
        return not is_number(value) or Numbers.of(schemas).accepts(value)

    def _constants(self, schemas: Conjunction) -> list[Any] | None:
        """Return the values that an alternative lists; None if it lists none."""
        for schema in schemas:
            if "enum" in schema or "const" in schema:
                listed = schema["enum"] if "enum" in schema else [schema["const"]]
                return [value for value in listed if self._accepts(value, schemas)]
        return None

    def _build(self, schemas: Conjunction) -> Node:
        constants = self._constants(schemas)
        if constants is not None:
            return choice(*map(constant, constants))
        kinds = common_types(schemas)
        return choice(*(self._build_type(kind, schemas) for kind in _ORDER if kind in kinds))

    def _build_type(self, kind: str, schemas: Conjunction) -> Node:
        with (schemas[0] if schemas else TRUE).placing_errors():
            match kind:
                case "string":
                    return Strings.of(schemas).node()
                case "number":
                    return numeral(Numbers.of(schemas).language())
                case "object":
                    return Objects(schemas, self).node()
                case "array":
                    return Arrays(schemas, self).node()
        values = [None] if kind == "null" else [True, False]
        return choice(*(constant(value) for value in values if self._accepts(value, schemas)))

    def _excludes(self, schemas: Conjunction, plain: Schema) -> bool:
        return self._is_empty(schemas, plain, 0)

    def _is_empty(self, schemas: Conjunction, plain: Schema | None, depth: int) -> bool:
        """Whether provably nothing is valid for a conjunction. Of the schema `plain`, which is being expanded, only
        what it says itself counts."""
        key = schemas, plain
        if key in self._empty:
            return self._empty[key]
        if depth > _DEEPEST:
            return False
        spend(4)
        self._empty[key] = False  # a recursion that comes back here has something valid, or ends elsewhere
        try:
            alternatives = self._alternatives.of(tuple(schema for schema in schemas if schema is not plain))
        except RequestError:
            return False
        if plain is not None and plain in schemas:
            alternatives = [conjunction(plain, *alternative) for alternative in alternatives]
        self._empty[key] = all(self._is_empty_alternative(alternative, depth) for alternative in alternatives)
        return self._empty[key]

    def _is_empty_alternative(self, schemas: Conjunction, depth: int) -> bool:
        try:
            constants = self._constants(schemas)
            if constants is not None:
                return not constants
            return all(self._is_empty_type(kind, schemas, depth) for kind in common_types(schemas))
        except RequestError:
            return False

    def _is_empty_type(self, kind: str, schemas: Conjunction, depth: int) -> bool:
        match kind:
            case "string":
                strings = Strings.of(schemas)
                return (strings.most is not None and strings.least > strings.most) or not automaton(strings.language)
            case "number":
                return not automaton(Numbers.of(schemas).language())
            case "object":
                objects = Objects(schemas, self)
                if objects.most is not None and objects.least > objects.most:
                    return True
                return any(self._is_empty(objects.value(name), None, depth + 1) for name in objects.required)
            case "array":
                arrays = Arrays(schemas, self)
                if arrays.most is not None and arrays.least > arrays.most:
                    return True
                return any(self._is_empty(arrays.item(index), None, depth + 1) for index in range(min(arrays.least, 4)))
        return not any(self._accepts(value, schemas) for value in (None, True, False) if json_type(value) == kind)


_ORDER = ("null", "boolean", "number", "string", "array", "object")


def json_type(value: Any) -> str:
    """Return the name of a value's type; "number" stands for integers, too."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case str():
            return "string"
        case list():
            return "array"
        case dict():
            return "object"
    return "number"
