"""Verification of a converted model: its tokenizer, its logits against the checkpoint's, and generation by GenAI."""

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from runtime.backends.openvino.genai import error_line
from runtime.checkpoint.architecture import Architecture
from runtime.checkpoint.tokenizer import CheckpointTokenizer
from runtime.errors import VerificationError
from runtime.events import ToolCall
from runtime.folder.ir_files import DECODER, LANGUAGE, TABLE, TOWER
from runtime.messages import Message
from runtime.prompt.families import Family
from runtime.prompt.template import ChatTemplate, TextPrompt
from runtime.system.files import read_model_properties

from ..recipe import Recipe
from .divergence import kl_divergence, log_softmax

TokenIds = Sequence[npt.NDArray[np.int64]]  # for each prompt: (tokens)
Logits = Sequence[npt.NDArray[np.float32]]  # for each prompt: (tokens, vocabulary)

_DAMAGED = "download the checkpoint again; if that does not help, its weights were damaged before it was published"
_GENERATED_TOKENS = 8
_TOKENS_PER_PROMPT = 32  # of a prompt that both models read: damage shows at once, and each token costs the same
# Random weights magnify every difference: in int4, twelve layers of them diverge by 2.5 nats, six trained ones by 0.02.
# A conversion of such a checkpoint, as a trial, is not rejected.
_UNTRAINED_FACTOR = 6
_MIN_LOGIT_SPREAD = 1e-3  # of logits, between the least and the most likely token; random weights have more

_ENGLISH = "The lighthouse keeper climbed the stairs every evening, because the ships relied on the light."
_CHINESE = "春眠不觉晓，处处闻啼鸟。夜来风雨声，花落知多少。请问这首诗的作者是谁？"
_CODE = 'def mean(values: list[float]) -> float:\n    """The mean."""\n    return sum(values) / len(values)\n'
_WEATHER = {
    "name": "get_weather",
    "description": "Tells the weather in a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
_TOOL_CALL = (
    Message("user", "北京天气怎么样？ What is the weather like there?"),
    Message("assistant", "", tool_calls=(ToolCall("get_weather", '{"city": "北京"}', id="call_1"),)),
    Message("tool", '{"temperature": 21, "sky": "clear"}', tool_call_id="call_1", name="get_weather"),
)
_EDGE_CASES = (
    "  tabs\t\tand\r\n\r\n lines \n\n  12345678 it's IT'S café e\u0301 "
    "👩\u200d🚀🇨🇳 한국어 العربية \u3000《》…\x00\ufffd 研究 好 zehn\nしない"
)


@dataclass(frozen=True, slots=True)
class VerificationFigures:
    """The divergence of the converted model from the checkpoint, over all tokens of all prompts.

    Kullback-Leibler divergence in nats; `top1` is the share of tokens with the same most likely successor.
    """

    tokens: int
    mean_kl: float
    max_kl: float
    top1: float
    max_logit_difference: float


def verification_prompts(family: Family, template: ChatTemplate | None) -> list[TextPrompt]:
    """Return prompts in English and Chinese, of code, and with a tool call where the family has tools. Raises
    TemplateError."""
    texts = (_ENGLISH, _CHINESE, _CODE)
    if template is None:
        return [(family.prefix + text,) for text in texts]
    found = [template.render_text([Message("user", text)]) for text in texts]
    return [*found, template.render_text(_TOOL_CALL, [_WEATHER])] if family.tools else found


def token_ids(prompts: Iterable[TextPrompt], tokenizer: CheckpointTokenizer) -> TokenIds:
    """Return the token ids of the beginning of each prompt."""
    return [
        np.array([i for piece in prompt for i in tokenizer.encode(piece)][:_TOKENS_PER_PROMPT]) for prompt in prompts
    ]


def check_tokenizer(
    folder: Path, source: CheckpointTokenizer, texts: Iterable[str], *, edge_cases: bool = True
) -> None:
    """Compare the tokenizer IR in `folder` with the checkpoint's tokenizer: encoding and decoding of these texts, of
    special tokens and, with `edge_cases`, of rare words and characters. Raises VerificationError."""
    import openvino_genai as genai

    tokenizer = None
    special = "".join(f"{name} x" for name in source.special_tokens)
    for text in (*texts, special, *((_EDGE_CASES,) if edge_cases else ())):
        wanted = source.encode(text)
        try:
            tokenizer = tokenizer or genai.Tokenizer(str(folder), **_load_properties(folder))
            found = tokenizer.encode(text, add_special_tokens=False).input_ids.data[0].tolist()
            back = tokenizer.decode(wanted, skip_special_tokens=False)
        except RuntimeError as exc:
            raise _unusable_error("the tokenizer IR does not run", exc) from exc
        if found != wanted or back != source.tokenizer.decode(wanted, skip_special_tokens=False):
            raise VerificationError(
                f"the tokenizer IR encodes or decodes {json.dumps(text, ensure_ascii=False)[:60]} differently",
                hint="download the checkpoint's tokenizer files again: tokenizer.json may not be GLM-4's own",
            )


def converted_logits(folder: Path, architecture: Architecture, token_ids: TokenIds, *, whole: bool = False) -> Logits:
    """Return the logits of the model in `folder`, computed in f32. A large model whose weights do not have our names
    only runs `whole`. Raises VerificationError where it does not run."""
    from . import layerwise

    try:
        return layerwise.logits(folder, architecture, token_ids, whole=whole)
    except RuntimeError as exc:
        raise _unusable_error("the converted model does not run", exc) from exc
    except KeyError as exc:
        raise VerificationError(f"the converted model is missing {exc}", hint="convert it again") from exc


def compare(token_ids: TokenIds, reference: Logits, converted: Logits, recipe: Recipe) -> VerificationFigures:
    """Return the figures. Raises VerificationError where the converted model is not fit for use."""
    if not all(np.isfinite(logits).all() for logits in reference):
        raise VerificationError("the checkpoint's own logits are NaN: its weights are damaged", hint=_DAMAGED)
    if all(np.ptp(logits, axis=-1).max() < _MIN_LOGIT_SPREAD for logits in reference):
        raise VerificationError(
            "the checkpoint predicts all tokens with equal probability: its weights are damaged", hint=_DAMAGED
        )
    if not all(np.isfinite(logits).all() for logits in converted):
        raise VerificationError(f"with the recipe {recipe.name}, the model's logits are NaN", hint=_recipe_hint(recipe))
    expected = np.concatenate([logits.argmax(-1) for logits in reference])
    predicted = np.concatenate([logits.argmax(-1) for logits in converted])
    if len(set(predicted)) == 1 < len(set(expected)):
        raise VerificationError(
            f"with the recipe {recipe.name}, the model predicts one token everywhere", hint=_recipe_hint(recipe)
        )
    pairs = list(zip(reference, converted, strict=True))
    divergences = np.concatenate([kl_divergence(log_softmax(a), log_softmax(b)) for a, b in pairs])
    figures = VerificationFigures(
        tokens=len(expected),
        mean_kl=float(divergences.mean()),
        max_kl=float(divergences.max()),
        top1=float((expected == predicted).mean()),
        max_logit_difference=max(float(np.abs(a - b).max()) for a, b in pairs),
    )
    allowed = recipe.max_kl if _is_trained(token_ids, reference) else recipe.max_kl * _UNTRAINED_FACTOR
    if figures.mean_kl > allowed:
        raise VerificationError(
            f"with the recipe {recipe.name}, the model diverges from its checkpoint: a KL divergence of "
            f"{figures.mean_kl:.2g} nats a token, above the limit of {allowed:g}",
            hint=_recipe_hint(recipe),
        )
    return figures


def check_generation(folder: Path, excerpt: str | None, ids: npt.NDArray[np.int64], *, paged: bool = True) -> None:
    """Generate a few tokens with OpenVINO GenAI's own pipeline. It would load a large model whole; of that it runs the
    `excerpt` of one layer, if there is one. Raises VerificationError."""
    try:
        with _loadable_folder(folder, excerpt) as opened:
            generated = generate(opened, folder, ids, paged=paged)
    except RuntimeError as exc:
        raise _unusable_error("OpenVINO GenAI cannot use the converted model", exc) from exc
    if len(generated) != _GENERATED_TOKENS:
        raise VerificationError(f"the converted model generated {len(generated)} tokens instead of {_GENERATED_TOKENS}")


def generate(model: Path, tokenizer: Path, ids: npt.NDArray[np.int64], *, paged: bool) -> list[int]:
    """Return the first tokens of the greedy continuation of `ids`, by OpenVINO GenAI's own pipeline: with
    PagedAttention, or the stateful one. `tokenizer` is the folder of the tokenizer IR. Raises RuntimeError."""
    import openvino as ov
    import openvino_genai as genai

    if is_vision_folder(model):
        return _generate_from_embeddings(model, ids)
    config = genai.GenerationConfig(max_new_tokens=_GENERATED_TOKENS, ignore_eos=True, apply_chat_template=False)
    opened = genai.Tokenizer(str(tokenizer), **_load_properties(tokenizer))
    settings = _load_properties(tokenizer) | {"ATTENTION_BACKEND": "PA" if paged else "SDPA"}
    pipeline = genai.LLMPipeline(str(model), opened, "CPU", **settings)
    found: list[int] = list(pipeline.generate(ov.Tensor(ids[np.newaxis]), config).tokens[0])
    return found


def is_vision_folder(folder: Path) -> bool:
    """Return whether a converted model reads embeddings."""
    return (folder / f"{LANGUAGE}.xml").is_file()


def _generate_from_embeddings(model: Path, ids: npt.NDArray[np.int64]) -> list[int]:
    """Return what `generate` does of a vision model, whose prompts are embeddings. Raises RuntimeError."""
    import openvino as ov
    import openvino_genai as genai

    config = genai.GenerationConfig(max_new_tokens=_GENERATED_TOKENS, ignore_eos=True, apply_chat_template=False)
    pipeline = genai.ContinuousBatchingPipeline(str(model), genai.SchedulerConfig(), "CPU", _load_properties(model))
    table = ov.Core().compile_model(str(model / f"{TABLE}.xml"), "CPU")
    handle = pipeline.add_request(0, ov.Tensor(np.array(table([ids[np.newaxis]])[0])), config)
    found: list[int] = []
    while pipeline.has_non_finished_requests():
        pipeline.step()
        for output in handle.read().values() if handle.can_read() else ():
            found += output.generated_ids
    return found


def _load_properties(folder: Path) -> dict[str, Any]:
    return read_model_properties(folder / "openvino_tokenizer.bin")


@contextmanager
def _loadable_folder(folder: Path, excerpt: str | None) -> Iterator[Path]:
    """Yield the folder; of a large model, a folder within it that has the excerpt as its graph and the same weights."""
    from .layerwise import fits_whole

    decoder = LANGUAGE if is_vision_folder(folder) else DECODER
    if excerpt is None or fits_whole((folder / f"{decoder}.bin").stat().st_size):
        yield folder
        return
    with TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as name:
        part = Path(name)
        (part / f"{decoder}.xml").write_text(excerpt, encoding="utf-8")
        for file in folder.iterdir():
            if file.is_file() and not (part / file.name).exists() and not file.name.startswith(TOWER):
                _link(file, part / file.name)
        yield part


def _link(file: Path, to: Path) -> None:
    try:  # weights not as a tensor, which GenAI would copy
        os.link(file, to)
    except OSError:  # a file system without links
        shutil.copyfile(file, to)


def _is_trained(token_ids: TokenIds, reference: Logits) -> bool:
    """Return whether the checkpoint predicts the prompts better than a uniform guess."""
    chances = [
        log_softmax(logits[:-1])[np.arange(len(ids) - 1), ids[1:]]
        for ids, logits in zip(token_ids, reference, strict=True)
    ]
    return bool(np.concatenate(chances).mean() > -np.log(reference[0].shape[-1]))


def _recipe_hint(recipe: Recipe) -> str:
    better = {"int8": "bf16", "bf16": ""}.get(recipe.name, "int8")
    return f"try the recipe {better}; if that fails too: {_DAMAGED}" if better else _DAMAGED


def _unusable_error(what: str, exc: RuntimeError) -> VerificationError:
    return VerificationError(
        f"{what}: {error_line(exc)}", hint="convert it again; if it fails again, please report this"
    )
