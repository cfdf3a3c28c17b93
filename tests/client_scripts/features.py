"""What every client has to do with the embedded checkpoint: a script calls `run` with a function for each feature."""

import asyncio
import inspect
import json
import sys
import traceback

BASE, MODEL, *REST = sys.argv[1:]
WHO = "Who are you?"
WEATHER = "What is the weather in Oslo?"
SCHEMA = {
    "type": "object",
    "properties": {"open": {"type": "boolean"}, "room": {"type": "string", "enum": ["bar", "hall"]}},
    "required": ["open", "room"],
    "additionalProperties": False,
}
asked = []  # the cities that the tool was called with


def get_weather(city: str) -> str:
    """The weather in a city."""
    asked.append(city)
    return f"Sunny in {city}"


def expect(condition, *seen):
    if not condition:
        raise AssertionError(f"unexpected: {seen}")


def expect_self(text):
    """The embedded checkpoint's own answer to "Who are you?"."""
    expect("tiny test model" in text, text)


def expect_weather(text):
    """An answer after one call of the tool."""
    expect(asked == ["Oslo"], asked)
    expect(bool(text and text.strip()), text)
    asked.clear()


def expect_shop(value):
    expect(type(value["open"]) is bool and value["room"] in ("bar", "hall") and len(value) == 2, value)


def run(**features):
    """Print a line of JSON for each feature: its name, and its error."""
    for name, function in features.items():
        asked.clear()
        error = None
        try:
            if inspect.iscoroutinefunction(function):
                asyncio.run(function())
            else:
                function()
        except Exception as exc:  # noqa: BLE001
            error = f"{type(exc).__name__}: {exc}"[:2000]
            traceback.print_exc()
        print(json.dumps({"feature": name, "error": error}), flush=True)
