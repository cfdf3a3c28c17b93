"""Strict tools with pydantic's field types: the arguments of each are enforced."""

import json
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple
from uuid import UUID

import pytest
from pydantic import AnyUrl, AwareDatetime, BaseModel, ConfigDict, Field, HttpUrl, Json, SecretStr, WithJsonSchema
from pydantic import TypeAdapter as Adapter
from typing_extensions import TypedDict

from runtime.grammar.json_schema.compiler import compile_schema
from runtime.grammar.matcher import Matcher
from runtime.tools import Tool

pytestmark = pytest.mark.slow


class Colour(Enum):
    RED = "red"
    GREEN = "green"


class Level(IntEnum):
    LOW = 1
    HIGH = 3


class Place(BaseModel):
    city: str = Field(max_length=40)
    zone: int = 0


class Closed(BaseModel):
    model_config = ConfigDict(extra="forbid")
    city: str


class Node(BaseModel):
    name: str
    children: list["Node"] = []


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = Field(ge=0, le=9)


class Dog(BaseModel):
    kind: Literal["dog"]
    name: str


class Point(NamedTuple):
    x: float
    y: float


class Movie(TypedDict):
    title: str
    year: int


# An address as pydantic's EmailStr describes it, which needs the package email-validator.
Email = Annotated[str, WithJsonSchema({"type": "string", "format": "email"})]
ID = "9b2d7b3e-6f0c-4a53-8a86-0d6bb1f5a2c1"

# Type, an argument that it accepts, and one that it does not.
TYPES: dict[str, tuple[Any, Any, Any]] = {
    "str": (str, "Oslo", 1),
    "str of some length": (Annotated[str, Field(min_length=2, max_length=5)], "Oslo", "London"),
    "str of a pattern": (Annotated[str, Field(pattern=r"^[A-Z]{3}-\d+$")], "ABC-42", "abc-42"),
    "str of a pattern and a length": (Annotated[str, Field(pattern=r"^\w+$", max_length=8)], "kiosk", "kiosk kiosk"),
    "int": (int, 120_000, 1.5),
    "int within bounds": (Annotated[int, Field(ge=1, lt=100)], 99, 100),
    "int of a multiple": (Annotated[int, Field(multiple_of=15)], 45, 50),
    "float": (float, -2.5e-3, "2"),
    "float within bounds": (Annotated[float, Field(gt=0, le=1)], 0.25, 1.01),
    "float of a multiple": (Annotated[float, Field(multiple_of=0.5, ge=0, le=10)], 2.5, 2.7),
    "Decimal": (Decimal, "12.50", ["12.50"]),
    "bool": (bool, True, "true"),
    "None": (None, None, 0),
    "Optional": (int | None, None, "none"),
    "Literal": (Literal["GB", "MB", 1], 1, 2),
    "Enum": (Colour, "red", "blue"),
    "IntEnum": (Level, 3, 2),
    "list": (list[int], [1, 2, 3], [1, "2"]),
    "list of some length": (Annotated[list[str], Field(min_length=1, max_length=2)], ["a", "b"], []),
    "set": (set[Literal["a", "b", "c"]], ["a", "c"], ["a", "a"]),
    "set of str": (set[str], ["a", "b"], ["a", "b", "a"]),
    "frozenset": (frozenset[bool], [True, False], [True, True]),
    "tuple": (tuple[int, str], [1, "a"], ["a", 1]),
    "tuple of any length": (tuple[bool, ...], [True, False], [0]),
    "dict": (dict[str, int], {"a": 1, "b": 2}, {"a": "1"}),
    "dict of named keys": (dict[Literal["x", "y"], float], {"x": 1.5}, {"z": 1.5}),
    "model": (Place, {"city": "Oslo", "zone": 1}, {"zone": 1}),
    "model without extras": (Closed, {"city": "Oslo"}, {"city": "Oslo", "zone": 1}),
    "recursive model": (Node, {"name": "a", "children": [{"name": "b", "children": []}]}, {"children": []}),
    "TypedDict": (Movie, {"title": "Alien", "year": 1979}, {"title": "Alien"}),
    "NamedTuple": (Point, [1.5, 2], [1.5]),
    "discriminated union": (
        Annotated[Cat | Dog, Field(discriminator="kind")], {"kind": "cat", "lives": 9}, {"kind": "dog", "lives": 9}
    ),
    "union": (int | list[int], [1], "1"),
    "EmailStr": (Email, "ada@example.org", "ada at example.org"),
    "AnyUrl": (AnyUrl, "ftp://example.org/a?b#c", "example"),
    "HttpUrl": (HttpUrl, "https://example.org/", "not a link"),
    "Path": (Path, "/tmp/a.txt", 1),
    "UUID": (UUID, ID, ID[:-1]),
    "date": (date, "2024-02-29", "2024-02-30"),
    "time": (time, "23:59:00Z", "24:00:00Z"),
    "datetime": (datetime, "2024-02-29T12:00:00+01:00", "2024-02-29 noon"),
    "AwareDatetime": (AwareDatetime, "2024-02-29T12:00:00Z", "2024-13-01T12:00:00Z"),
    "timedelta": (timedelta, "P1DT2H", "two hours"),
    "bytes": (bytes, "abc", 1),
    "SecretStr": (SecretStr, "secret", 1),
    "IPv4Address": (IPv4Address, "192.168.0.1", "192.168.0.256"),
    "IPv6Address": (IPv6Address, "fe80::1", "fe80:::1"),
    "Json": (Json[list[int]], "[1, 2]", [1, 2]),
    "Any": (Any, {"a": [None, 1.5, "x"]}, ...),
    "object": (dict[str, Any], {"a": {"b": []}}, []),
}  # fmt: skip


def tool_of(annotation: Any) -> Tool:
    """Return the tool of a function with one parameter."""

    def use(value):
        """Use a value."""
        return value

    use.__annotations__ = {"value": annotation}
    return Tool.from_function(use)


def matches(tree, text: str) -> bool:
    matcher = Matcher(tree)
    return matcher.feed(text) == len(text) and matcher.complete


def arguments(value: Any) -> str:
    return json.dumps({"value": value}, ensure_ascii=False) if value is not ... else '{"value": }'


@pytest.mark.parametrize("name", TYPES)
def test_arguments_of_a_type_are_enforced(name):
    annotation, good, bad = TYPES[name]
    tree = compile_schema(tool_of(annotation).parameters)
    assert matches(tree, arguments(good))
    Adapter(dict[Literal["value"], annotation]).validate_json(arguments(good))
    assert not matches(tree, arguments(bad))
    assert not matches(tree, "{}")
