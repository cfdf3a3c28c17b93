"""`edge export-template`: let vLLM and `transformers serve` parse GLM-4's tool calls."""

import argparse

from .output import print_text


def add(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the arguments of `edge export-template`."""
    verb = verbs.add_parser(
        "export-template",
        help="let vLLM and `transformers serve` parse a checkpoint's tool calls",
        description="Add the `response_template` of GLM-4's tool calls to a checkpoint's tokenizer_config.json, so "
        "that vLLM and `transformers serve` can parse them. The original file is kept beside it.",
        epilog="Example:\n\n    edge export-template ./GLM-4-32B-0414",
    )
    verb.add_argument("checkpoint", help="a checkpoint folder")
    verb.add_argument("--force", action="store_true", help="replace an existing response_template")
    verb.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run `edge export-template`; return the exit code."""
    from ..export import export_template

    print_text(str(export_template(args.checkpoint, force=args.force)))
    return 0
