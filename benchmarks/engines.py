"""Replies of every text model of the family on every local engine, with the same weights.

    python -m benchmarks.engines [--models NAME...] [--templates FOLDER] [--new-tokens 24]

Each model is a tiny checkpoint of its published format with random weights, the template of its family and the embedded
checkpoint's tokenizer; the embedded checkpoint itself is the last row. It is converted with the recipe `bf16`, and
every engine computes in f32, so that greedy replies and a forced call have to be equal to the last character. An NPU
takes int4 alone: there the CPU's replies of the same folder are what they are compared with. The embedded checkpoint is
trained: it has to call a tool and to answer of its own accord.

`--templates` has the templates that the models' makers published, by the names of `TEMPLATES`; without it those of the
tests serve, which lay a prompt out in the same way.
"""

import argparse
import contextlib
import json
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from benchmarks.make_checkpoint import DEMO, write
from benchmarks.peers_report import markdown_table
from convert.pipeline import convert
from edge.catalogue import CatalogueEntry, models
from runtime.backends.backend import Backend, Options
from runtime.backends.openvino.paged.batched import OpenVINO
from runtime.backends.openvino.single_request.npu import EMULATED, NPU
from runtime.backends.openvino.single_request.stateful import Stateful
from runtime.backends.torch.engine import Torch
from runtime.checkpoint.checkpoint import Checkpoint
from runtime.events import Reasoning, Text, ToolCall
from runtime.folder.model_folder import ModelFolder
from runtime.model import Model
from runtime.source import ModelSource

OWN_TEMPLATES = Path(__file__).resolve().parents[1] / "tests" / "templates"
TEMPLATES = {
    "glm4_0414": "glm4-0414.jinja",
    "z1": "z1-0414.community.jinja",
    "rumination": "rumination-32b-0414.jinja",
    "glm4_2024": "glm4-chat.jinja",
    "glm_edge": "glm-edge-chat.jinja",
}
ENGINES = ("CPU, paged", "CPU, stateful", "PyTorch", "NPU, emulated")
_PLANNED = Options(context=2048, reply_tokens=128)
_OPTIONS = replace(_PLANNED, precision="f32", kv_precision="f32")
_NPU = replace(_PLANNED, precision="f32")
_LIKE_AN_NPU = replace(_NPU, kv_precision="f16", activation_group=0)  # its cache is in f16; it rounds no activations
_WEATHER = {
    "name": "get_weather",
    "description": "The weather of a city",
    "parameters": {
        "type": "object",
        "properties": {"city": {"enum": ["Bergen", "Oslo"]}, "days": {"type": "integer", "maximum": 99}},
        "required": ["city", "days"],
    },
}
_QUESTION = "What is the weather in Oslo?"


@dataclass(frozen=True, slots=True)
class Replies:
    """What an engine wrote: a greedy reply, a forced call as JSON, and a reply to a question with tools offered."""

    reply: str
    forced_call: str
    tools_offered: str


def make(folder: Path, entry: CatalogueEntry, templates: Path | None) -> None:
    """Write a tiny checkpoint of a model's format and template, with random weights."""
    vocab = json.loads((DEMO / "config.json").read_text())["vocab_size"]
    shape = replace(
        entry.architecture, layers=2, hidden=256, heads=4, kv_heads=2, head_dim=64, rotary_dim=32, ffn=512, vocab=vocab
    )
    with contextlib.redirect_stderr(None):
        write(folder, shape, "bf16", seed=1)
    template = folder / "chat_template.jinja"
    if entry.family not in TEMPLATES:
        template.unlink()
    elif templates:
        template.write_bytes((templates / TEMPLATES[entry.family]).read_bytes())
    elif (own := OWN_TEMPLATES / f"{entry.family}.jinja").is_file():
        template.write_bytes(own.read_bytes())


def ask(model: Model, new_tokens: int) -> Replies:
    """Return the replies of a model."""
    settings: dict[str, Any] = {"temperature": 0.0, "max_new_tokens": new_tokens}
    if model.family.name not in TEMPLATES:
        return Replies("".join(_texts(model.complete("The weather in Oslo", **settings))), "", "")
    forced = free = ""
    if model.family.tools:
        events = [*model.reply(_QUESTION, [_WEATHER], tool_choice="get_weather", strict=True, **settings)]
        forced = "".join(_texts(events))
        for call in (event for event in events if isinstance(event, ToolCall) and event.complete):
            json.loads(call.arguments)
        free = "".join(_texts(model.reply(_QUESTION, [_WEATHER], **settings)))
    return Replies("".join(_texts(model.reply(_QUESTION, **settings))), forced, free)


def _texts(events: Iterable[Any]) -> Iterator[str]:
    for event in events:
        match event:
            case Text() | Reasoning():
                yield event.text
            case ToolCall():
                yield f"{event.name}({event.arguments})"


def compare(name: str, checkpoint: Path, scratch: Path, new_tokens: int) -> list[str]:
    """Return a model's row: how each engine's replies compare with those of the paged engine on the CPU."""
    exact = _converted(checkpoint, scratch / f"{name}-bf16", "bf16")
    small = _converted(checkpoint, scratch / f"{name}-npu", "int4-npu")
    engines: list[tuple[ModelSource, Callable[[], Backend]]] = [
        (exact, lambda: OpenVINO.load(exact, "CPU", _OPTIONS)),
        (exact, lambda: Stateful.load(exact, "CPU", _OPTIONS)),
        (exact, lambda: Torch.load(Checkpoint.open(checkpoint), "torch:cpu", _OPTIONS)),
        (small, lambda: OpenVINO.load(small, "CPU", _LIKE_AN_NPU)),
        (small, lambda: NPU.load(small, EMULATED, _NPU)),
    ]
    found = []
    for source, load in engines:
        with closing(load()) as backend:
            found.append(ask(Model(source, backend=backend), new_tokens))
    verdicts = [_verdict(found[0], found[0]), *(_verdict(one, found[0]) for one in found[1:3])]
    return [name, *verdicts, _verdict(found[4], found[3])]


def _converted(checkpoint: Path, folder: Path, recipe: str) -> ModelFolder:
    *_, last = convert(checkpoint, folder, recipe)
    return last.result


def _verdict(found: Replies, expected: Replies) -> str:
    written = {field.name: getattr(found, field.name) for field in fields(found)}
    wrong = [name for name, text in written.items() if text != getattr(expected, name)]
    if wrong:
        print(f"{found}\n  instead of\n{expected}", file=sys.stderr)
    return f"differs: {', '.join(wrong)}" if wrong else ", ".join(name for name, text in written.items() if text)


def main() -> None:
    """Run the benchmark that the command line describes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", help="some of `edge models`; all, if it is left out")
    parser.add_argument("--templates", type=Path)
    parser.add_argument("--new-tokens", type=int, default=24)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        scratch = Path(place)
        rows = []
        for entry in models():
            if args.models is None or entry.name in args.models:
                make(scratch / entry.name, entry, args.templates)
                rows.append(compare(entry.name, scratch / entry.name, scratch, args.new_tokens))
        rows.append(compare("the embedded checkpoint", DEMO, scratch, 4 * args.new_tokens))
    print(markdown_table(("model", *ENGINES), rows))


if __name__ == "__main__":
    main()
