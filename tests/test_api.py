"""The public API: what `import edge` offers, documented with an example each, typed, and written down in docs/api.md.

`python -m tests.test_api` writes the page anew. Its examples run with those of the other pages, in tests/test_docs.py.
"""

import ast
import inspect
import re
import subprocess
import sys
import textwrap
import types
from itertools import pairwise
from pathlib import Path

import pytest

import edge
import edge.testing
from runtime import errors

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "api.md"
GROUPS = {
    "Chats and models": "Chat AsyncChat Model Reply",
    "Models and devices of this machine": "convert adopt inspect models devices ModelFolder CatalogueEntry Device "
    "Progress",
    "Messages": "Message MessageLike Picture PictureLike",
    "Documents": "read_document Document Section DocumentLike Citation",
    "Events of a reply": "Event Text Reasoning ToolCall ToolCallDelta ToolResult Documents DroppedMessages "
    "PictureProgress Logprobs PromptLogprobs TokenLogprob Finish Usage",
    "Tools": "Tool ToolLike ToolOutput builtin_tools mcp McpServers McpTool ToolSource",
    "Settings": "Sampling SamplingSettings Options",
    "Constrained answers": "AnswerLike Choice Regex Ebnf JsonSchema JsonObject Constraint",
    "Cancellation": "Cancellation Cancellable",
    "Errors": "EdgeError CheckpointError ConversionError ConversionCancelled DiskFull VerificationError "
    "ModelFolderError TemplateError ToolError RequestError PromptTooLong UnsupportedSetting UnsupportedGrammar "
    "BackendError DeviceError Notice",
}
HEAD = """# API reference

Everything that an application needs comes from `import edge`; it imports nothing else of the project but
`edge.testing`. Made from the docstrings by `python -m tests.test_api`. The examples go on from these lines:

```python
import edge

chat = edge.Chat("./glm4-int4", overflow="drop")
model = chat.model
```
"""
NAMES = [name for names in GROUPS.values() for name in names.split()]
ALIASES = [name for name in NAMES if not isinstance(getattr(edge, name), type | types.FunctionType)]
# Classes whose constructor is not for applications.
MADE_BY_US = {"Cancellable", "CatalogueEntry", "Device", "McpServers", "ModelFolder", "Progress", "Reply"}


def alias(name: str) -> tuple[str, str]:
    """The definition of a type alias, and the docstring below it."""
    for path in sorted((ROOT / "runtime").rglob("*.py")):
        body = ast.parse(path.read_text(encoding="utf-8")).body
        for node, following in pairwise(body):
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
                assert isinstance(following, ast.Expr)
                assert isinstance(following.value, ast.Constant)
                return ast.unparse(node), following.value.value.strip()
    raise LookupError(name)


def documentation(name: str) -> str:
    return alias(name)[1] if name in ALIASES else inspect.getdoc(getattr(edge, name)) or ""


def as_markdown(text: str) -> str:
    """A docstring, whose examples become fenced."""
    return re.sub(
        r"(?m)^Example:\n((?: {4}.*\n|\n(?= {4}))+)",
        lambda found: f"```python\n{textwrap.dedent(found[1]).strip()}\n```\n",
        f"{text}\n",
    ).strip()


def examples(text: str) -> list[str]:
    return re.findall(r"(?ms)^```python\n(.*?)^```", as_markdown(text) + "\n")


def signature(name: str, function: object) -> str:
    """The definition's head as it is written, without `self`."""
    node = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]  # type: ignore[arg-type]
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    arguments = [argument for argument in ast.unparse(node.args).split(", ") if argument not in ("self", "cls")]
    flat = ", ".join(arguments).replace("'", '"')
    word = "async " if isinstance(node, ast.AsyncFunctionDef) and not inspect.isasyncgenfunction(function) else ""
    returns = f" -> {ast.unparse(node.returns)}" if node.returns and not name.endswith("__init__") else ""
    head = f"{word}{name.removesuffix('.__init__')}({flat}){returns}"
    if len(head) > 100:
        split = re.split(r", (?=\*|[a-z_]+:)", flat)
        head = f"{word}{name.removesuffix('.__init__')}(\n    " + ",\n    ".join(split) + f",\n){returns}"
    return head


def entry(name: str) -> str:
    if name in ALIASES:
        definition, text = alias(name)
        return f"### edge.{name}\n\n```text\n{definition}\n```\n\n{as_markdown(text)}\n"
    value = getattr(edge, name)
    return describe(f"edge.{name}", name, value)


def describe(full: str, name: str, value: type | types.FunctionType) -> str:
    out = [f"### {full}\n"]
    if isinstance(value, types.FunctionType):
        return "\n".join(
            [*out, f"```text\n{signature(full, value)}\n```\n", f"{as_markdown(inspect.getdoc(value) or '')}\n"]
        )
    if not issubclass(value, Exception) and name not in MADE_BY_US:
        if "__init__" in vars(value) and "def __init__" in inspect.getsource(value):
            out.append(f"```text\n{signature(f'{full}.__init__', value.__init__)}\n```\n")
        elif fields := getattr(value, "__annotations__", {}):
            lines = ast.parse(textwrap.dedent(inspect.getsource(value))).body[0]
            assert isinstance(lines, ast.ClassDef)
            shown = [ast.unparse(line) for line in lines.body if isinstance(line, ast.AnnAssign)]
            assert len(shown) == len(fields)
            out.append(
                f"```text\n{full}({', '.join(shown)})\n```\n"
                if len(shown) < 4
                else f"```text\n{full}(\n    " + ",\n    ".join(shown) + ",\n)\n```\n"
            )
    if issubclass(value, Exception):
        base = value.__mro__[1].__name__
        out.append(f"```text\n{full}({base})\n```\n")
    out.append(f"{as_markdown(inspect.getdoc(value) or '')}\n")
    for method, member in public_members(value).items():
        target = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
        head = f"{name}.{method}" if isinstance(member, property) else signature(f"{name}.{method}", target)
        out.append(f"```text\n{head}\n```\n\n{as_markdown(inspect.getdoc(target) or '')}\n")
    return "\n".join(out)


def public_members(value: type) -> dict[str, object]:
    if issubclass(value, Exception):
        return {}
    own = {name: member for name, member in vars(value).items() if not name.startswith("_")}
    return {
        name: member
        for name, member in own.items()
        if isinstance(member, property | classmethod | types.FunctionType) and name not in ("throw",)
    }


def page() -> str:
    out = [HEAD]
    for title, names in GROUPS.items():
        out.append(f"## {title}\n")
        out += [entry(name) for name in names.split()]
    out.append(f"## edge.testing\n\n{as_markdown(inspect.getdoc(edge.testing) or '')}\n")
    out += [
        describe("edge.testing.Echo", "Echo", edge.testing.Echo).split("```text\nEcho.devices")[0].rstrip() + "\n",
        describe("edge.testing.echo_model", "echo_model", edge.testing.echo_model),
    ]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(out)).strip() + "\n"


def test_the_exported_names():
    assert sorted(edge.__all__) == edge.__all__
    assert set(edge.__all__) == {*NAMES, "__version__"}
    ours = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.EdgeError | errors.Notice)
    }
    assert ours <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_has_a_docstring_with_an_example(sources, name):
    text = documentation(name)
    assert text, f"edge.{name} has no docstring"
    assert examples(text), f"the docstring of edge.{name} has no example"
    for example in examples(text):
        compile(example, f"edge.{name}", "exec")


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ALIASES])
def test_a_public_class_documents_its_members(name):
    value = getattr(edge, name)
    if isinstance(value, type):
        for method, member in public_members(value).items():
            target = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
            assert inspect.getdoc(target), f"{name}.{method} has no docstring"


@pytest.mark.slow
def test_the_page_is_what_the_docstrings_say(sources):
    assert PAGE.read_text(encoding="utf-8") == page(), "run python -m tests.test_api"


PROGRAM = """
import asyncio
import edge
from edge.testing import Echo, echo_model
from pydantic import BaseModel

class Place(BaseModel):
    city: str

def add(a: int, b: int) -> int:
    return a + b

async def look_up(city: str) -> str:
    return city

def approve(call: edge.ToolCall) -> bool:
    return call.name == "add"

async def approve_later(call: edge.ToolCall) -> bool:
    return call.name == "add"

def show(progress: edge.Progress) -> None:
    print(progress.name, progress.done, progress.total)

folder = edge.convert("a", "b", recipe="int4", progress=show, cancellation=edge.Cancellation())
name: str = folder.name
names: list[str] = [model.name for model in edge.models()]
free: list[int] = [device.free for device in edge.devices()]
history = [{"role": "user", "content": "Hi"}]
definition = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
with edge.Chat(folder, tools=[add, definition], approve=approve, history=history, temperature=0.2) as chat:
    reply = chat.send("Hi", max_tokens=5, answer=Place)
    text: str = reply.text
    chat.send({"role": "user", "content": "Hi"}, answer=["yes", "no"])
    chat.send(history, answer={"type": "object"}, sampling=edge.Sampling(top_p=0.5))
    chat.history = chat.history[-2:]
    for event in chat.stream("Hi", stop="x"):
        match event:
            case edge.Text(piece):
                print(piece)
    for event in chat.model.reply(history, tools=[definition, add], tool_choice="required", seed=1):
        print(event)
    count: int = chat.model.count_tokens(history)

async def main() -> None:
    async with edge.AsyncChat("b", tools=[look_up], approve=approve_later, history=history, seed=3) as chat:
        reply = await chat.send("Hi", temperature=0.1)
        text: str = reply.text
        async for event in chat.stream("Hi"):
            if isinstance(event, edge.Text):
                print(event.text)
        await chat.cancel()

asyncio.run(main())
model = echo_model(Echo(["Hello."]))
chat.send("Hi", temprature=0.2)  # error: [call-arg]
chat.send(3)  # error: [arg-type]
"""


@pytest.mark.slow
def test_a_typed_program(sources, tmp_path):
    """mypy --strict finds nothing untyped in a user's program, and both mistakes in it."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    done = subprocess.run(  # with the settings, and so the cache, of the project's own check
        [sys.executable, "-m", "mypy", "--config-file", ROOT / "pyproject.toml", program],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    found = re.findall(r"program\.py:(\d+): error: .*(\[.*\])", done.stdout)
    expected = re.findall(r"(?m)^.*# error: (\[.*\])$", PROGRAM)
    lines = [str(number) for number, line in enumerate(PROGRAM.splitlines(), 1) if "# error:" in line]
    assert found == list(zip(lines, expected, strict=True)), done.stdout + done.stderr


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
