import json
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import pytest
from pydantic import Field

from runtime.errors import ToolError
from runtime.events import ToolCall
from runtime.tool_call import run_call
from runtime.tools import Tool, to_definitions, to_tools


@dataclass
class Place:
    city: str
    zone: int = 0


def disk_free(path: Annotated[str, Field(description="A folder")], unit: Literal["GB", "MB"] = "GB") -> str:
    """Free disk space.

    Of the disk that holds the folder.
    """
    return f"12 {unit} on {path}"


def add(numbers: list[float]) -> float:
    """Adds numbers."""
    return sum(numbers)


def visit(place: Place) -> Place:
    return Place(place.city.upper(), place.zone + 1)


def fail(path: str) -> str:
    raise FileNotFoundError(f"no {path}")


def test_a_function_becomes_a_tool():
    tool = Tool.from_function(disk_free)
    assert tool.to_json() == {
        "name": "disk_free",
        "description": "Free disk space.\n\nOf the disk that holds the folder.",
        "parameters": {
            "type": "object",
            "properties": {
                "path": {"description": "A folder", "type": "string"},
                "unit": {"default": "GB", "enum": ["GB", "MB"], "type": "string"},
            },
            "required": ["path"],
        },
    }


def test_the_values_of_a_dict_keep_their_type():
    def count(words: dict[str, int]) -> int:
        return sum(words.values())

    words = {"type": "object", "additionalProperties": {"type": "integer"}}
    assert Tool.from_function(count).parameters["properties"] == {"words": words}


def test_a_parameter_called_title_stays():
    def find(title: str) -> str:
        return title

    assert Tool.from_function(find).parameters["properties"] == {"title": {"type": "string"}}


RESULTS = {
    "text": (disk_free, {"path": "/"}, "12 GB on /"),
    "an option": (disk_free, {"path": "/", "unit": "MB"}, "12 MB on /"),
    "a number": (add, {"numbers": [1, 2.5]}, "3.5"),
    "a dataclass": (visit, {"place": {"city": "paris"}}, '{"city":"PARIS","zone":1}'),
}


@pytest.mark.parametrize(("function", "arguments", "result"), RESULTS.values(), ids=RESULTS.keys())
def test_a_call_runs(function, arguments, result):
    made = run_call(to_tools([function]), ToolCall(function.__name__, json.dumps(arguments), "call_1"))
    assert (made.call_id, made.name, made.content, made.error) == ("call_1", function.__name__, result, False)


COMPLAINTS = {
    "an unknown tool": (ToolCall("erase", "{}"), "there is no tool erase"),
    "a missing argument": (ToolCall("disk_free", "{}"), "path: Field required"),
    "a wrong choice": (ToolCall("disk_free", '{"path": "/", "unit": "TB"}'), "unit: Input should be 'GB' or 'MB'"),
    "an unknown argument": (ToolCall("disk_free", '{"path": "/", "deep": 1}'), "deep: Extra inputs are not permitted"),
    "broken JSON": (ToolCall("disk_free", '{"path": }'), "not valid JSON"),
    "no object": (ToolCall("disk_free", "[]"), "not a JSON object"),
    "cut off": (ToolCall("disk_free", '{"path": "/', complete=False), "cut off"),
    "an exception": (ToolCall("fail", '{"path": "x"}'), "FileNotFoundError: no x"),
}


@pytest.mark.parametrize(("wanted", "words"), COMPLAINTS.values(), ids=COMPLAINTS.keys())
def test_what_goes_wrong_is_told_to_the_model(wanted, words):
    result = run_call(to_tools([disk_free, fail]), wanted)
    assert result.error
    assert result.content.startswith("Error: ")
    assert words in result.content
    assert "\n" not in result.content


def no_type(path):
    return path


def many(*paths: str) -> str:
    return str(paths)


async def later(path: str) -> str:
    return path


def odd(value: slice) -> str:
    return str(value)


def unknown(value: "Nowhere") -> str:  # noqa: F821
    return str(value)


@pytest.mark.parametrize("function", [no_type, many, odd, unknown, lambda path: path], ids=lambda f: f.__name__)
def test_what_cannot_be_a_tool_is_refused_with_a_cure(function):
    with pytest.raises(ToolError) as caught:
        Tool.from_function(function)
    assert "\n" not in str(caught.value)
    assert caught.value.hint


def test_two_tools_of_one_name_are_refused():
    with pytest.raises(ToolError, match="two tools are named add"):
        to_tools([add, add])


PARAMETERS = {"type": "object", "properties": {}}
DEFINITIONS = {
    "as it is": ({"response": {"x": 1}, "name": "f", "strict": False, "parameters": PARAMETERS}, ...),
    "nothing is added": ({"name": "f"}, ...),
    "null is nothing": ({"name": "f", "description": None, "returns": "n"}, {"name": "f", "returns": "n"}),
    "no type": ({"type": "function", "name": "f", "strict": True}, {"name": "f", "strict": True}),
    "Anthropic's": (
        {"name": "f", "input_schema": PARAMETERS, "cache_control": {"type": "ephemeral"}},
        {"name": "f", "description": "", "parameters": PARAMETERS},
    ),
    "MCP's": (
        {"name": "f", "title": "F", "description": "d", "inputSchema": PARAMETERS, "outputSchema": {}},
        {"name": "f", "description": "d", "parameters": PARAMETERS},
    ),
}


@pytest.mark.parametrize(("definition", "shown"), DEFINITIONS.values(), ids=DEFINITIONS.keys())
def test_a_definition_is_shown_as_it_is(definition, shown):
    shown = definition if shown is ... else shown
    for given in (definition, {"type": "function", "function": definition}):
        tool = Tool.from_json(given)
        assert json.dumps(tool.to_json()) == json.dumps(shown)  # in the same order
        assert list(to_definitions([given])) == [shown]
    assert replace(tool, name="g", description="other").to_json() == shown | {"name": "g", "description": "other"}


def test_a_definition_is_json():
    with pytest.raises(ToolError, match="the definition of the tool f is not JSON"):
        Tool.from_json({"name": "f", "handler": print})
