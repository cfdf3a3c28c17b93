"""Measure the embedded checkpoint: `python -m benchmarks.demo_checkpoint` converts it by each recipe, asks the runtime.

Every held-out dialogue's last reply is generated greedily through the model folder. A reply counts when it is right:
a call when its tools and arguments are those asked for, a text when it is the expected one to the letter.

With `--strict` each recipe is measured a second time, its calls held to their schemas while they are written, and a
third time with a call demanded in every dialogue that offers a tool: there a call counts when it is valid.
"""

import argparse
import json
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from convert.pipeline import convert
from edge.demo import CHECKPOINT
from edge.demo.training.dialogues import CALL, KIOSK, NO_FIT, RESULT, TWO_CALLS, Dialogue, held_out
from edge.evaluation.tool_calls import Calls, parse_arguments
from runtime.chat import Reply
from runtime.messages import Message, ToolCall
from runtime.model import Model
from runtime.reply.generation import Constraint
from runtime.sampling import Sampling

RIGHT_TOOL = "right tool"
COLUMNS = {
    CALL: "exact calls",
    RIGHT_TOOL: "right tool",
    TWO_CALLS: "two calls",
    RESULT: "answers from results",
    NO_FIT: "words when nothing fits",
    KIOSK: "kiosk answers",
}


def measure(model: Model, dialogues: Iterable[Dialogue], *, strict: bool = False) -> dict[str, tuple[int, int]]:
    """Right replies, of how many, by what is measured. `strict` holds the calls to their schemas."""
    right: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    for said in dialogues:
        tools = [_function(tool) for tool in said.tools]
        reply = _ask(model, said, Constraint.for_tools(tools, strict=strict))
        calls: Calls = [(call.name, parse_arguments(call.arguments)) for call in reply.tool_calls]
        wanted_text, wanted = _expected(said)
        asked[said.kind] += 1
        right[said.kind] += (reply.text.strip(), calls) == (wanted_text, wanted)
        if said.kind == CALL:
            asked[RIGHT_TOOL] += 1
            right[RIGHT_TOOL] += [name for name, _ in calls] == [name for name, _ in wanted]
    return {kind: (right[kind], asked[kind]) for kind in COLUMNS if asked[kind]}


def count_valid_calls(model: Model, dialogues: Iterable[Dialogue]) -> tuple[int, int, int]:
    """Calls that their tool's schema allows, of how many that a model made when it had to; and those that the token
    limit cut off: where no tool fits, a weak model may write a string without end."""
    from jsonschema import Draft202012Validator

    valid = made = cut_off = 0
    for said in dialogues:
        tools = [_function(tool) for tool in said.tools]
        if not tools:
            continue
        schemas = {tool["name"]: tool["parameters"] for tool in tools}
        calls = _ask(model, said, Constraint.for_tools(tools, "required", strict=True)).tool_calls
        complete = [call for call in calls if call.complete]
        cut_off += len(calls) - len(complete)
        made += max(len(complete), not calls)  # no call at all is a call that is not valid
        for call in complete:
            validator = Draft202012Validator(schemas[call.name])
            valid += not call.problem and validator.is_valid(parse_arguments(call.arguments))
    return valid, made, cut_off


def _ask(model: Model, said: Dialogue, constraint: Constraint) -> Reply:
    tools = [_function(tool) for tool in said.tools]
    return Reply.of(model.reply(list(_messages(said)), tools, Sampling(max_new_tokens=200), constraint))


def table(scores: dict[str, dict[str, tuple[int, int]]]) -> str:
    """The scores of each recipe as a Markdown table, in percent."""
    lines = ["| recipe | " + " | ".join(COLUMNS.values()) + " |", "| --- |" + " --- |" * len(COLUMNS)]
    for recipe, score in scores.items():
        cells = (f"{100 * score[kind][0] / score[kind][1]:.1f} %" if kind in score else "–" for kind in COLUMNS)
        lines.append(f"| {recipe} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _messages(said: Dialogue) -> Iterable[Message]:
    """The template's messages as the runtime's."""
    for message in said.messages:
        if "metadata" in message:
            yield Message("assistant", "", tool_calls=(ToolCall(message["metadata"], message["content"]),))
        elif message["role"] == "observation":
            yield Message("tool", message["content"])
        elif message["role"] == "system":
            yield Message("system", message["content"])
        else:
            yield Message("user" if message["role"] == "user" else "assistant", message["content"])


def _function(tool: dict[str, object]) -> dict[str, Any]:
    function = tool["function"]
    assert isinstance(function, dict)
    return function


def _expected(said: Dialogue) -> tuple[str, Calls]:
    """The reply as a text and calls."""
    body, _, _ = said.reply.rpartition("<|")
    if said.reply.endswith("<|user|>"):
        return body.strip(), []
    named = (call.split("\n", 1) for call in body.split("<|assistant|>"))
    return "", [(name, json.loads(arguments)) for name, arguments in named]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.demo_checkpoint", description=__doc__)
    parser.add_argument("--recipe", action="append", help="may be given several times (bf16, int8 and int4)")
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT, help="another checkpoint of the same kind")
    parser.add_argument("--count", type=int, default=1000, help="held-out dialogues (1000)")
    parser.add_argument("--strict", action="store_true", help="measure strict and required calls, too")
    chosen = parser.parse_args()
    dialogues = held_out(count=chosen.count)
    scores: dict[str, dict[str, tuple[int, int]]] = {}
    for recipe in chosen.recipe or ("bf16", "int8", "int4"):
        with tempfile.TemporaryDirectory(prefix="edge-measure-") as scratch:
            for _ in convert(chosen.checkpoint, Path(scratch) / recipe, recipe):
                pass
            with Model(Path(scratch) / recipe, device="CPU") as model:
                scores[recipe] = measure(model, dialogues)
                if chosen.strict:
                    scores[f"{recipe}, strict"] = measure(model, dialogues, strict=True)
                    valid, made, cut_off = count_valid_calls(model, dialogues)
                    print(f"{recipe}: {valid} of {made} demanded calls are valid, {cut_off} more were cut off")
    print(table(scores))
    print(json.dumps(scores))


if __name__ == "__main__":
    main()
