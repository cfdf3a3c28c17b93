"""Write the held-out dialogues as the JSONL files that `edge eval` reads for a folder of the embedded checkpoint.

    python -m edge.demo.training.test_set

`texts.jsonl` has whole dialogues as rendered prompts, `calls.jsonl` tool-call tasks. The folder is named by the
fingerprint of the checkpoint's weights: run it again when the checkpoint changes, and remove the former folder.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from runtime.checkpoint.checkpoint import Checkpoint

from ...evaluation.test_sets import folder_of
from .. import CHECKPOINT
from .dialogues import CALL, KIOSK, NO_FIT, RESULT, TWO_CALLS, Dialogue, TemplateMessage, held_out
from .prompt import render

ROWS = {
    CALL: "exact calls",
    TWO_CALLS: "two calls",
    RESULT: "answers from results",
    NO_FIT: "words when nothing fits",
    KIOSK: "kiosk answers",
}
TEXTS, TASKS = 24, 100


def texts(count: int = TEXTS) -> list[dict[str, Any]]:
    """Return whole dialogues, as lines that `edge eval --texts` reads."""
    return [{"rendered": render(dialogue) + dialogue.reply} for dialogue in held_out(count=count)]


def tasks(count: int = TASKS) -> list[dict[str, Any]]:
    """Return tool-call tasks in the order of ROWS, as lines that `edge eval --calls` reads."""
    kinds = list(ROWS)
    return [task(dialogue) for dialogue in sorted(held_out(count=count), key=lambda one: kinds.index(one.kind))]


def task(dialogue: Dialogue) -> dict[str, Any]:
    """Return a dialogue as a tool-call task."""
    body, _, _ = dialogue.reply.rpartition("<|")
    text, calls = "", []
    if dialogue.reply.endswith("<|user|>"):
        text = body.strip()
    else:
        named = (call.split("\n", 1) for call in body.split("<|assistant|>"))
        calls = [{"name": name, "arguments": json.loads(arguments)} for name, arguments in named]
    return {
        "kind": ROWS[dialogue.kind],
        "messages": list(map(_message, dialogue.messages)),
        "tools": list(dialogue.tools),
        "expected": calls,
        "text": text,
    }


def _message(message: TemplateMessage) -> dict[str, Any]:
    """Return a message of the chat template in OpenAI's format."""
    if "metadata" in message:
        call = {"name": message["metadata"], "arguments": message["content"]}
        return {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": call}]}
    role = "tool" if message["role"] == "observation" else message["role"]
    return {"role": role, "content": message["content"]}


def files() -> Iterator[tuple[Path, str]]:
    """Yield each file's path and contents."""
    with Checkpoint.open(CHECKPOINT).weights() as weights:
        folder = folder_of(weights.fingerprint())
    for name, lines in (("texts.jsonl", texts()), ("calls.jsonl", tasks())):
        yield folder / name, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def main() -> None:
    """Write the files."""
    for path, contents in files():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(contents, encoding="utf-8", newline="\n")
        print(path)


if __name__ == "__main__":
    main()
