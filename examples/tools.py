"""A model that calls Python functions, and asks before it writes: `python examples/tools.py ./glm4-int4`."""

import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated

from pydantic import Field

import edge


def current_time() -> str:
    """The current date and time."""
    return datetime.now().isoformat(timespec="minutes")


def write_note(
    title: Annotated[str, Field(description="a short title, which becomes the file's name")],
    text: Annotated[str, Field(description="the note itself")],
) -> str:
    """Save a note."""
    path = Path("notes") / f"{''.join(c for c in title if c.isalnum() or c in ' -_')}.txt"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return f"saved as {path}"


def approve(call: edge.ToolCall) -> bool:
    """Run harmless calls at once, and ask about the others."""
    if call.name == "current_time":
        return True
    return input(f"Run {call.name} with {call.arguments}? [y/n] ").strip().lower() == "y"


def main(folder: str) -> None:
    with edge.Chat(folder, tools=[current_time, write_note], approve=approve, strict=True) as chat:
        for text in ("What time is it?", "Save a note that I have to buy milk."):
            print(f"> {text}")
            for event in chat.stream(text):
                match event:
                    case edge.ToolCall(name, arguments):
                        print(f"[{name} {arguments}]")
                    case edge.ToolResult(content=content, error=error):
                        print(f"[{'failed: ' if error else ''}{content}]")
                    case edge.Text(piece):
                        print(piece, end="", flush=True)
            print()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "./glm4-int4")
