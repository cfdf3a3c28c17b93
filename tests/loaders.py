"""Small files of every kind that is read, and what reads each: for damage done to them in a process of its own.

`python -m tests.loaders SEEDS` reads the name of a kind and a number from each line of its input, loads the mutant of
that number, and answers a line of JSON: what was raised that is no error in a line, seconds, and bytes of memory.
"""

import contextlib
import io
import json
import os
import shutil
import sys
import time
import traceback
import unicodedata
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from edge.demo import CHECKPOINT
from runtime.checkpoint.checkpoint import Checkpoint
from runtime.checkpoint.tensors import CheckpointTensors
from runtime.errors import EdgeError, Notice
from runtime.folder.model_folder import MANIFEST, ModelFolder

from . import mutants

LONGEST = 500  # characters of an error
_LIMIT = 8 << 30  # bytes that the process may have: what would take more ends there, and not the machine


@dataclass(frozen=True)
class Kind:
    """A file `name` of the folder `seed`, damaged as `form` (tests/mutants.py) says, and read by `load`."""

    seed: str
    name: str
    form: str
    load: Callable[[Path], object]
    pieces: tuple[str, ...] = ()


def _checkpoint(folder: Path) -> None:
    """All that a conversion reads before its weights, and then those."""
    from convert.job import copy_text_files
    from convert.source.damage import DamageCheck
    from runtime.checkpoint.role_tokens import require_special_stop_tokens
    from runtime.prompt.template import ChatTemplate

    described = Checkpoint.open(folder)
    described.sampling()
    require_special_stop_tokens(described.generation["eos_token_id"], described.tokenizer)
    if described.templates is not None:
        ChatTemplate(described.templates, described.family, described.manifest.special_tokens)
    with described.weights() as opened:
        damage = DamageCheck(opened, described.tokenizer)
        for name in opened.names:
            damage.check(opened.tensor(name))
        opened.fingerprint()
    (folder / "out").mkdir()
    copy_text_files(described, folder / "out")


def _gguf(folder: Path) -> None:
    """As a conversion reads it: in the words of a folder."""
    (path,) = folder.glob("*.gguf")
    Checkpoint.open(path).sampling()
    _weights(path)


def _weights(path: Path) -> None:
    with CheckpointTensors.open(path) as opened:
        for name in opened.names:
            opened.tensor(name).f32()
        opened.fingerprint()


def _tokenizer(folder: Path) -> None:
    from convert.output.tokenizer import write_tokenizer
    from runtime.vocabulary import Vocabulary

    described = Checkpoint.open(folder)
    described.tokenizer.encode("Hello, 你好 <|user|> 123\n")
    (folder / "out").mkdir()
    write_tokenizer(described.tokenizer, folder / "out")
    Vocabulary.read(folder / "out" / "tokenizer.json")


def _described(folder: Path) -> None:
    from runtime.messages import Message
    from runtime.prompt.template import ChatTemplate

    described = Checkpoint.open(folder)
    template = ChatTemplate(described.chat_templates(), described.family, described.manifest.special_tokens)
    template.render([Message("system", "s"), Message("user", "u <|user|>")])


def _onnx(folder: Path) -> None:
    from convert.source.onnx_decoder import OnnxDecoder

    described = Checkpoint.open(folder)
    decoder = OnnxDecoder.open(folder / "model.onnx", described.architecture)
    for norm in decoder.norms():
        norm.f32()
    for name in decoder.names:
        decoder.tensor(name).f32()
    decoder.logits([np.array([1, 2, 3])])
    decoder.stateful()
    decoder.fingerprint()


def _model(folder: Path) -> None:
    """What reads a manifest: `edge inspect`, `edge doctor`, and a chat with no engine."""
    from edge.cli import parser
    from runtime.backends.backend import Options
    from runtime.backends.choose import assess_devices, choose_automatically
    from runtime.backends.echo import Echo
    from runtime.messages import Message
    from runtime.model import Model

    opened = ModelFolder.open(folder)
    with contextlib.suppress(EdgeError):
        choose_automatically(_machine(), opened.manifest, Options())
    assess_devices(_machine(), opened.manifest, Options())
    with contextlib.suppress(EdgeError):
        Model(opened, backend=Echo(["hi"])).prompt([Message("user", "hi")])
    _run(parser().parse_args(["inspect", str(folder)]))
    _run(parser().parse_args(["inspect", str(folder), "--json"]))


def _run(args: Any) -> None:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        args.run(args)
    if any(unicodedata.category(char) == "Cc" for char in out.getvalue() if char not in "\n\t"):
        raise AssertionError("control characters reach the terminal")


@cache
def _machine() -> Any:
    from runtime.device.machine import detect

    return detect()


def _unsealed(folder: Path) -> None:
    """A manifest of an early version, without a hash of itself."""
    path = folder / MANIFEST
    with contextlib.suppress(ValueError, RecursionError):
        data = json.loads(path.read_bytes())
        if isinstance(data, dict):
            data.pop("sha256", None)
            path.write_text(json.dumps(data), encoding="utf-8", errors="surrogatepass")
    _model(folder)


def _sampling(folder: Path) -> None:
    """generation_config.json of a checkpoint, and of a model folder that is loaded unchecked."""
    for opened in (Checkpoint.open(folder), ModelFolder(folder, _manifest())):
        opened.sampling()


@cache
def _manifest() -> Any:
    return Checkpoint.open(CHECKPOINT).manifest


def _ir(folder: Path) -> None:
    from runtime.folder.ir import IR

    IR.read(ModelFolder(folder, _manifest())).npu_obstacles()


def _saved(folder: Path) -> None:
    from runtime.backends.echo import Echo
    from runtime.chat import Chat
    from runtime.model import Model

    with Chat(Model(Checkpoint.open(CHECKPOINT), backend=Echo(["hi"]))) as chat:
        chat.load(folder / "chat.json")
        chat.save(folder / "again.json")


def _kiosk(folder: Path) -> None:
    from edge.server.page.kiosk import Kiosk

    Kiosk.load(str(folder / "kiosk.toml"))


def _calibration(folder: Path) -> None:
    from convert.weights.calibration import read_calibration_samples, token_ids
    from runtime.prompt.template import ChatTemplate

    described = Checkpoint.open(CHECKPOINT)
    samples = read_calibration_samples(folder / "texts.jsonl")
    template = ChatTemplate(described.chat_templates(), described.family, described.manifest.special_tokens)
    token_ids(samples, described.family, template, described.tokenizer)


def _evaluation(folder: Path) -> None:

    from convert.samples import read_samples

    read_samples(folder / "texts.jsonl")


def _calls(folder: Path) -> None:
    from edge.evaluation.tool_calls import read_tasks

    read_tasks(folder / "calls.jsonl")


def _journal(folder: Path) -> None:
    from convert.output.journal import Journal

    assert Journal.open(folder / "openvino_model.bin", {"recipe": "int4"}).end <= 64


def _record(folder: Path) -> None:
    """What the user's cache has on a checked folder, and on a compiled model."""
    from runtime.folder import compile_cache as compiled
    from runtime.folder import integrity as folder_check

    os.environ["EDGE_CACHE"] = str(folder / "cache")
    opened = ModelFolder.open(folder)
    places = [
        folder_check.record_path(folder / "openvino_model.bin"),
        compiled.compiled_root() / ("0" * 32) / compiled.HASHES_FILE,
    ]
    for place in places:
        place.parent.mkdir(parents=True)
        shutil.copy(folder / "record.json", place)
    assert not folder_check.is_recorded(opened, "openvino_model.bin")
    assert not compiled.is_intact(places[1].parent)
    compiled.clear()


def _documents(folder: Path) -> None:
    from edge.documents import DocumentIndex

    found = DocumentIndex(folder)
    found.search("tide")


KINDS = {
    "safetensors": Kind("weights", "model.safetensors", "bytes", _weights),
    "GGUF": Kind("gguf", "F16.gguf", "bytes", _gguf),
    "GGUF, quantised": Kind("gguf", "Q8_0.gguf", "bytes", _gguf),
    "ONNX": Kind("onnx", "model.onnx", "bytes", _onnx),
    "config.json": Kind("demo", "config.json", "json", _checkpoint),
    "config.json of a vision model": Kind("vision", "config.json", "json", _checkpoint),
    "generation_config.json": Kind("one", "generation_config.json", "json", _sampling),
    "tokenizer.json": Kind("one", "tokenizer.json", "json", _tokenizer),
    "tokenizer_config.json": Kind("ranks", "tokenizer_config.json", "json", _tokenizer),
    "model.safetensors.index.json": Kind("demo", "model.safetensors.index.json", "json", _checkpoint),
    "openvino_model.jsonl": Kind("texts", "openvino_model.jsonl", "lines", _journal),
    "records": Kind("model", "record.json", "json", _record),
    "tokenizer.model": Kind("ranks", "tokenizer.model", "text", _tokenizer, mutants.RANKS),
    "chat_template.jinja": Kind("one", "chat_template.jinja", "text", _described, mutants.JINJA),
    "template in tokenizer_config.json": Kind("templates", "tokenizer_config.json", "json", _described),
    "README.md": Kind("one", "README.md", "text", _described, mutants.CARD),
    "edge.json": Kind("model", MANIFEST, "json", _model),
    "edge.json without its hash": Kind("model", MANIFEST, "json", _unsealed),
    "openvino_model.xml": Kind("model", "openvino_model.xml", "text", _ir, mutants.XML),
    "saved chats": Kind("texts", "chat.json", "json", _saved),
    "kiosk.toml": Kind("texts", "kiosk.toml", "text", _kiosk, mutants.TOML),
    "calibration texts": Kind("texts", "texts.jsonl", "lines", _calibration),
    "evaluation texts": Kind("texts", "texts.jsonl", "lines", _evaluation),
    "tool calls to evaluate": Kind("texts", "calls.jsonl", "lines", _calls),
    "documents: HTML": Kind("documents", "page.html", "text", _documents, mutants.HTML),
    "documents: Markdown": Kind("documents", "notes.md", "text", _documents, mutants.HTML),
    "documents: PDF": Kind("documents", "paper.pdf", "bytes", _documents, mutants.PDF),
}


def damaged(seeds: Path, name: str, number: int) -> bytes:
    """The file of that kind's mutant; mutant 0 is the file itself."""
    kind = KINDS[name]
    data = (seeds / kind.seed / kind.name).read_bytes()
    return mutants.mutant(data, kind.form, Random(f"{name} {number}"), kind.pieces) if number else data


def load(seeds: Path, name: str, number: int, scratch: Path) -> tuple[bool, str]:
    """Load that mutant in the folder `scratch`. Whether it was loaded, and what was said that is no line."""
    kind = KINDS[name]
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    for path in (seeds / kind.seed).iterdir():
        if path.name != kind.name and kind.seed not in ("gguf", "documents"):
            shutil.copy(path, scratch)
    (scratch / kind.name).write_bytes(damaged(seeds, name, number))
    loaded, lines = False, []
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            kind.load(scratch)
            loaded = True
        except EdgeError as exc:
            lines = [str(exc), exc.hint]
        except BaseException:  # noqa: BLE001
            return False, traceback.format_exc()[-3000:]
    lines += [str(warning.message) for warning in said if isinstance(warning.message, Notice)]
    return loaded, next(
        (f"no line: {line[:1000]!r}" for line in lines if len(line) > LONGEST or not line.isprintable()), ""
    )


def _peak() -> int:
    """Bytes of memory that the process had at most; 0 where the system does not say."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


def _answers(seeds: Path, requests: Iterator[str]) -> Iterator[dict[str, Any]]:
    for request in requests:
        name, number = json.loads(request)
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        start = time.monotonic()
        loaded, what = load(seeds, name, number, seeds / "scratch")
        yield {"loaded": loaded, "what": what, "seconds": time.monotonic() - start, "peak": _peak()}


def main() -> None:
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (_LIMIT, _LIMIT))
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what a loader prints
    for answer in _answers(Path(sys.argv[1]), iter(sys.stdin.readline, "")):
        print(json.dumps(answer), file=out, flush=True)


if __name__ == "__main__":
    main()
