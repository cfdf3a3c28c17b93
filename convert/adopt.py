"""`adopt`: OpenVINO folder of another program -> checks -> manifest -> model folder.

The folder is one of optimum-cli, of the hub's converted models, or of GLM-4's own OpenVINO demo. There is no checkpoint
to compare it with: what is checked is that graph, config.json and tokenizer belong together, and that the model
generates text. Nothing of the folder is changed; a linked copy gets the files that are missing.
"""

import os
from collections.abc import Generator, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from hashlib import sha256
from importlib.util import find_spec
from math import exp
from pathlib import Path

import numpy as np
import numpy.typing as npt

from runtime.backends.openvino.genai import error_line
from runtime.chat_templates import file_name
from runtime.checkpoint.architecture import Architecture
from runtime.checkpoint.checkpoint import Checkpoint
from runtime.checkpoint.role_tokens import require_special_stop_tokens
from runtime.checkpoint.tokenizer import CheckpointTokenizer
from runtime.docstrings import require_docstrings
from runtime.errors import ConversionError, VerificationError
from runtime.folder.ir import IR_FILE
from runtime.folder.manifest import FileRecord, ModelSizes
from runtime.folder.model_folder import MANIFEST, file_sha256
from runtime.progress import Progress
from runtime.prompt.template import ChatTemplate, TextPrompt
from runtime.system.files import expand_user
from runtime.system.installation import install_hint
from runtime.system.out_of_memory import map_out_of_memory
from runtime.text import one_line

from .adopt_encoder import ADOPTED, adopt_encoder, encoder_task, seal
from .adopt_speech import adopt_speech, speech_task
from .check import verify
from .check.divergence import log_softmax
from .check.layerwise import whole_model_logits
from .estimate import OTHER_FILE_BYTES, ConversionEstimate, describe_devices, loaded_bytes, require_resources
from .job import Steps
from .output.linked_copy import link_export
from .output.scratch import ScratchFolder, refuse_existing, scratch_folder
from .output.tokenizer import write_tokenizer
from .recipe import RECIPES
from .source.exported_ir import ExportedIr

_WEIGHTS = "openvino_model.bin"
_TOKENIZER_FILES = (
    "openvino_tokenizer.xml",
    "openvino_tokenizer.bin",
    "openvino_detokenizer.xml",
    "openvino_detokenizer.bin",
    "tokenizer.json",
)
# The files of a linked copy: no code, no pickles.
_COPIED = ("*.json", "openvino_*.xml", "openvino_*.bin", "*.jinja", "tokenizer.model", "README.md", "LICENSE*")
_EXPORT_AGAIN = "export the checkpoint again, or convert it with `edge convert`"


def adopt(source: str | os.PathLike[str], target: str | os.PathLike[str] | None = None) -> Steps:
    """Check the OpenVINO folder `source`, and make it a model folder step by step: by a manifest in it, or as the
    linked copy `target`.

    Any error, and closing the generator, leaves nothing behind. Raises CheckpointError for its config.json, tokenizer
    and template; ModelFolderError for a damaged graph; ConversionError (DiskFull, VerificationError) or TemplateError.
    """
    if missing := [name for name in ("tokenizers", "transformers") if find_spec(name) is None]:
        raise ConversionError(
            f"adopting needs {', '.join(missing)}, which is not installed", hint=install_hint("convert")
        )
    require_docstrings(ConversionError)
    folder, place = expand_user(source), None if target is None else expand_user(target).absolute()
    if not folder.is_dir():
        raise ConversionError(f"there is no folder {str(folder)!r}", hint="pass the folder of openvino_model.xml")
    if (folder / MANIFEST).exists():
        raise ConversionError(f"{folder} is a model folder already: it has an {MANIFEST}", hint="`edge chat` runs it")
    if place is not None:
        refuse_existing(place)
    where = folder if place is None else place
    try:
        with map_out_of_memory(ConversionError), nullcontext() if place is None else scratch_folder(place) as scratch:
            yield from _steps(folder, scratch)
    except OSError as exc:
        raise ConversionError(
            f"{exc.filename or str(where)!r}: {(exc.strerror or str(exc)).lower()}",
            hint=f"check its permissions, or make a copy elsewhere: `edge adopt {folder} OUT`",
        ) from exc


def _steps(folder: Path, scratch: ScratchFolder | None) -> Steps:
    if (spoken := speech_task(folder)) is not None:
        return adopt_speech(folder, scratch, spoken)
    task = encoder_task(folder)
    return _run(folder, scratch) if task == "chat" else adopt_encoder(folder, scratch, task)


def _run(folder: Path, scratch: ScratchFolder | None) -> Steps:
    yield Progress("check", "graph and config.json")
    exported, checkpoint = ExportedIr.open(folder), Checkpoint.open(folder)
    architecture = checkpoint.architecture
    if (layers := exported.layers()) != architecture.layers:
        raise ConversionError(
            f"{folder / IR_FILE} has {layers} layers, but config.json has {architecture.layers}",
            hint="use the config.json of the exported model",
        )
    require_special_stop_tokens(checkpoint.generation["eos_token_id"], checkpoint.tokenizer)
    sizes = exported.sizes(architecture)
    needed = ConversionEstimate(sizes, OTHER_FILE_BYTES if scratch else 0, loaded_bytes(architecture, sizes))
    require_resources(needed, scratch.path if scratch else folder, "running the model once")
    template = None
    if checkpoint.templates is not None:
        template = ChatTemplate(checkpoint.templates, checkpoint.family, checkpoint.manifest.special_tokens)
    prompts = verify.verification_prompts(checkpoint.family, template)
    yield Progress("check", done=1, total=1)
    yield Progress("tokenizer")
    notes = [f"adopted: {exported.describe()}", *_prepare_tokenizer(folder, scratch, checkpoint, prompts)]
    yield Progress("tokenizer", done=1, total=1)
    opened = scratch.path if scratch else folder
    figures, paged = yield from _verify(exported, checkpoint, opened, verify.token_ids(prompts, checkpoint.tokenizer))
    if not exported.guards_activations():
        notes.append("without a scale of activations: on a GPU, f16 may overflow (Options.activation_scale=8.0)")
    yield Progress("seal", "hashes")
    record = FileRecord((opened / _WEIGHTS).stat().st_size, file_sha256(opened / _WEIGHTS))
    manifest = replace(
        checkpoint.manifest,
        recipe=ADOPTED,
        source=replace(checkpoint.manifest.source, fingerprint=_fingerprint(opened, record)),
        versions=exported.versions(),
        devices=_describe_devices(exported, architecture, sizes),
        sizes=sizes,
        verification=figures,
        notes=tuple(notes),
        paged=paged,
    )
    yield from seal(folder, scratch, manifest, {_WEIGHTS: record})


def _prepare_tokenizer(
    folder: Path, scratch: ScratchFolder | None, checkpoint: Checkpoint, prompts: Sequence[TextPrompt]
) -> list[str]:
    """Compare the tokenizer IR with the tokenizer's files, and return notes on how they differ.

    A linked copy gets a tokenizer IR and a chat template of ours where the folder has none, or another. Raises
    ConversionError if the folder itself needs them.
    """
    tokenizer, texts = checkpoint.tokenizer, {piece for prompt in prompts for piece in prompt}
    named = checkpoint.templates.named if checkpoint.templates else {}
    templates = {file: text for name, text in named.items() if not (folder / (file := file_name(name))).is_file()}
    missing = [name for name in _TOKENIZER_FILES if not (folder / name).is_file()]
    problem, rare = f"it has no {[*missing, *templates][0]}" if missing or templates else "", ""
    if not missing:
        problem = problem or _difference(folder, tokenizer, texts, edge_cases=False)
        rare = _difference(folder, tokenizer, (), edge_cases=True)
    if scratch is None:
        if problem:
            raise ConversionError(
                f"{folder} cannot be adopted as it is: {problem}",
                hint=f"`edge adopt {folder} OUT` makes a linked copy, with files of our own for what is missing",
            )
        return [f"{rare}: `edge adopt FOLDER OUT` makes a copy with a tokenizer that does not"] if rare else []
    link_export(folder, _COPIED, scratch.path)
    notes = []
    if missing or _difference(folder, tokenizer, texts, edge_cases=False) or rare:
        for name in _TOKENIZER_FILES:
            (scratch.path / name).unlink(missing_ok=True)  # a link to the folder's, which must not be written to
        write_tokenizer(tokenizer, scratch.path)
        verify.check_tokenizer(scratch.path, tokenizer, texts)
        notes.append("the tokenizer's IR is ours")
    for name, text in templates.items():
        (scratch.path / name).write_text(text, encoding="utf-8", newline="")
    return notes


def _difference(folder: Path, tokenizer: CheckpointTokenizer, texts: Iterable[str], *, edge_cases: bool) -> str:
    """Return how the tokenizer IR of a folder differs from the tokenizer's files, "" if it does not."""
    try:
        verify.check_tokenizer(folder, tokenizer, texts, edge_cases=edge_cases)
    except VerificationError as exc:
        return one_line(exc, 200)
    return ""


def _verify(
    exported: ExportedIr, checkpoint: Checkpoint, folder: Path, token_ids: verify.TokenIds
) -> Generator[Progress, None, tuple[dict[str, float], bool]]:
    """Run the model. Return figures of its logits, and whether it runs with PagedAttention. Raises
    VerificationError."""
    yield Progress("verify", "logits", 0, 2)
    try:
        logits = whole_model_logits(exported.model, token_ids)
    except RuntimeError as exc:
        raise VerificationError(f"{folder / IR_FILE} does not run: {error_line(exc)}", hint=_EXPORT_AGAIN) from exc
    figures = _check_logits(folder, checkpoint, token_ids, logits)
    yield Progress("verify", "generation with OpenVINO GenAI", 1, 2)
    paged, generated = _generate(folder, token_ids[0])
    if not checkpoint.tokenizer.tokenizer.decode(generated, skip_special_tokens=False):
        raise VerificationError(
            f"{folder} generates tokens that its tokenizer does not have: {generated}",
            hint="use the tokenizer of the exported model",
        )
    yield Progress("verify", done=2, total=2)
    return figures, paged


def _check_logits(
    folder: Path, checkpoint: Checkpoint, token_ids: verify.TokenIds, logits: verify.Logits
) -> dict[str, float]:
    """Return the number of tokens and their perplexity. Raises VerificationError for logits of a damaged model."""
    vocabulary = checkpoint.architecture.vocab
    if (found := logits[0].shape[-1]) != vocabulary:
        raise VerificationError(
            f"{folder / IR_FILE} has {found:,} logits, but config.json has {vocabulary:,} tokens",
            hint="use the config.json of the exported model",
        )
    if not all(np.isfinite(each).all() for each in logits):
        raise VerificationError(f"the logits of {folder} are NaN: its weights are damaged", hint=_EXPORT_AGAIN)
    if len(set(np.concatenate([each.argmax(-1) for each in logits]))) == 1:
        raise VerificationError(f"{folder} predicts one token everywhere: its weights are damaged", hint=_EXPORT_AGAIN)
    chances = [
        log_softmax(each[:-1])[np.arange(len(ids) - 1), ids[1:]] for ids, each in zip(token_ids, logits, strict=True)
    ]
    loss = -float(np.concatenate(chances).mean())
    return {"tokens": sum(map(len, token_ids)), "perplexity": exp(min(loss, 700.0))}


def _generate(folder: Path, ids: npt.NDArray[np.int64]) -> tuple[bool, list[int]]:
    """Return whether OpenVINO GenAI runs the folder with PagedAttention, and the tokens that it generates. Raises
    VerificationError if it does not run it at all."""
    try:
        return True, verify.generate(folder, folder, ids, paged=True)
    except RuntimeError:  # a graph whose attention it does not recognize
        pass
    try:
        return False, verify.generate(folder, folder, ids, paged=False)
    except RuntimeError as exc:
        raise VerificationError(f"OpenVINO GenAI cannot run {folder}: {error_line(exc)}", hint=_EXPORT_AGAIN) from exc


def _describe_devices(exported: ExportedIr, architecture: Architecture, sizes: ModelSizes) -> dict[str, str]:
    """Describe what each device needs to run the model."""
    obstacles = exported.facts.npu_obstacles()
    found = describe_devices(RECIPES["int4" if obstacles else "int4-npu"], architecture, sizes)
    if obstacles:
        return found | {"NPU": f"not suitable: {'; '.join(obstacles)}"}
    return found | {"NPU": f"{found['NPU']}; auto does not choose it"}


def _fingerprint(folder: Path, weights: FileRecord) -> str:
    """Return a sha256 over those of graph and weights."""
    return sha256(f"{file_sha256(folder / IR_FILE)} {weights.sha256}".encode()).hexdigest()
