"""Tool-call accuracy of the embedded checkpoint, recipe by recipe.

    python -m benchmarks.demo_checkpoint [--recipe int4] [--count 1000] [--strict]

Converts the checkpoint with each recipe, and generates the last reply of every held-out dialogue greedily. A call is
correct when its tool and arguments are the expected ones, a text when it equals the expected one.

`--strict` measures each recipe a second time, with the tools' schemas enforced, and a third time with a call required
wherever a dialogue offers tools: there, calls that are valid against their schemas are counted.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from jsonschema import Draft202012Validator

from convert.pipeline import convert
from edge.demo import CHECKPOINT
from edge.demo.training.dialogues import Dialogue, held_out
from edge.demo.training.test_set import ROWS, task
from edge.evaluation.tool_calls import RIGHT_TOOL, Scores, ToolCallTask, parse_arguments, parse_task, reply_to, score
from runtime.model import Model
from runtime.reply.constraint import Constraint

_EXACT_CALLS, *_OTHERS = ROWS.values()
_MAX_NEW_TOKENS = 200  # of a reply with a required call
COLUMNS = (_EXACT_CALLS, RIGHT_TOOL, *_OTHERS)


def to_task(dialogue: Dialogue) -> ToolCallTask:
    """Return a held-out dialogue as a tool-call task."""
    return parse_task(dialogue.kind, task(dialogue))


def count_valid_calls(model: Model, tasks: Sequence[ToolCallTask]) -> tuple[int, int, int]:
    """Require a call in every dialogue that offers tools.

    Return the calls that are valid against their schema, all the calls, and those besides that the token limit cut off:
    where no tool fits, a weak model may write a string without end.
    """
    valid = made = cut_off = 0
    for one in tasks:
        if not one.tools:
            continue
        schemas = {tool["name"]: tool["parameters"] for tool in one.tools}
        constraint = Constraint.for_tools(one.tools, "required", strict=True)
        calls = reply_to(model, one, constraint, _MAX_NEW_TOKENS).tool_calls
        complete = [call for call in calls if call.complete]
        cut_off += len(calls) - len(complete)
        made += max(len(complete), not calls)  # a reply without any call counts as one invalid call
        for call in complete:
            validator = Draft202012Validator(schemas[call.name])
            valid += not call.problem and validator.is_valid(parse_arguments(call.arguments))
    return valid, made, cut_off


def score_table(scores: dict[str, Scores]) -> str:
    """Return each recipe's scores as a Markdown table, in percent."""
    lines = ["| recipe | " + " | ".join(COLUMNS) + " |", "| --- |" + " --- |" * len(COLUMNS)]
    for recipe, row in scores.items():
        cells = (f"{100 * row[column][0] / row[column][1]:.1f} %" if column in row else "–" for column in COLUMNS)
        lines.append(f"| {recipe} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measure the recipes that the command line names, and print a table and a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", action="append", help="may be given several times (bf16, int8 and int4)")
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT, help="another checkpoint of the same kind")
    parser.add_argument("--count", type=int, default=1000, help="number of held-out dialogues (1000)")
    parser.add_argument("--strict", action="store_true", help="also measure strict and required calls")
    args = parser.parse_args()
    tasks = list(map(to_task, held_out(count=args.count)))
    scores: dict[str, Scores] = {}
    for recipe in args.recipe or ("bf16", "int8", "int4"):
        with tempfile.TemporaryDirectory(prefix="edge-measure-") as scratch:
            for _ in convert(args.checkpoint, Path(scratch) / recipe, recipe):
                pass
            with Model(Path(scratch) / recipe, device="CPU") as model:
                scores[recipe] = score(model, tasks)
                if args.strict:
                    scores[f"{recipe}, strict"] = score(model, tasks, strict=True)
                    valid, made, cut_off = count_valid_calls(model, tasks)
                    print(f"{recipe}: {valid} of {made} required calls are valid, {cut_off} more were cut off")
    print(score_table(scores))
    print(json.dumps(scores))


if __name__ == "__main__":
    main()
