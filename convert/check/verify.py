"""Does the converted model still speak as its checkpoint does? Both read the same prompts, and their logits meet."""

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt

from runtime.backends.openvino.genai import error_line
from runtime.checkpoint.architecture import Architecture
from runtime.checkpoint.tokenizer import CheckpointTokenizer
from runtime.errors import VerificationError
from runtime.messages import Message, ToolCall
from runtime.prompt.families import Family
from runtime.prompt.template import ChatTemplate, Prompt
from runtime.system.files import read_model_properties

from ..recipe import Recipe
from .divergence import divergence, log_softmax

TokenIds = Sequence[npt.NDArray[np.int64]]  # for each prompt: (tokens)
Logits = Sequence[npt.NDArray[np.float32]]  # for each prompt: (tokens, vocabulary)

_DAMAGED = "download the checkpoint again; if that does not help, its weights were damaged before it was published"
_GENERATED = 8  # tokens
_READ = 32  # tokens of a prompt that both models read: damage shows at once, and a token costs each as much as the next
# Random weights magnify every difference: in int4, twelve layers of them stray by 2.5 nats, six trained ones by 0.02.
# Who tries a conversion with such a checkpoint is not to be refused.
_UNTRAINED = 6
_SPREAD = 1e-3  # between the least and the most likely token, in logits: random weights have more

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
_AWKWARD = (
    "  tabs\t\tand\r\n\r\n lines \n\n  12345678 it's IT'S café e\u0301 "
    "👩\u200d🚀🇨🇳 한국어 العربية \u3000《》…\x00\ufffd 研究 好 zehn\nしない"
)


@dataclass(frozen=True, slots=True)
class Figures:
    """How the converted model differs from the checkpoint, over all tokens of all prompts.

    Kullback-Leibler divergence in nats; `top1` is the share of tokens on whose most likely successor both agree.
    """

    tokens: int
    mean_kl: float
    max_kl: float
    top1: float
    max_logit_difference: float


def prompts(family: Family, template: ChatTemplate | None) -> list[Prompt]:
    """English, Chinese, code, and a tool call where the prompt format has them. Raises TemplateError."""
    texts = (_ENGLISH, _CHINESE, _CODE)
    if template is None:
        return [(family.prefix + text,) for text in texts]
    found = [template.render([Message("user", text)]) for text in texts]
    return [*found, template.render(_TOOL_CALL, [_WEATHER])] if family.tools else found


def token_ids(prompts: Iterable[Prompt], tokenizer: CheckpointTokenizer) -> TokenIds:
    """What both models read: the beginning of each prompt."""
    return [np.array([i for piece in prompt for i in tokenizer.encode(piece)][:_READ]) for prompt in prompts]


def check_tokenizer(folder: Path, source: CheckpointTokenizer, texts: Iterable[str]) -> None:
    """Holds the IR in `folder` against the checkpoint's tokenizer, there and back. Raises VerificationError."""
    import openvino_genai as genai

    tokenizer = None
    special = "".join(f"{name} x" for name in source.special_tokens)
    for text in (*texts, _AWKWARD, special):
        wanted = source.encode(text)
        try:
            tokenizer = tokenizer or genai.Tokenizer(str(folder), **_reads(folder))
            found = tokenizer.encode(text, add_special_tokens=False).input_ids.data[0].tolist()
            back = tokenizer.decode(wanted, skip_special_tokens=False)
        except RuntimeError as exc:
            raise _unusable("the converted tokenizer does not run", exc) from exc
        if found != wanted or back != source.tokenizer.decode(wanted, skip_special_tokens=False):
            raise VerificationError(
                f"the converted tokenizer splits or joins {json.dumps(text, ensure_ascii=False)[:60]} differently",
                hint="is tokenizer.json GLM-4's own? Download the checkpoint's tokenizer files again",
            )


def converted_logits(folder: Path, architecture: Architecture, token_ids: TokenIds, *, whole: bool = False) -> Logits:
    """The logits of the model in `folder`, computed in f32; a large one is loaded `whole` where its weights do not have
    our names. Raises VerificationError where it does not run."""
    from . import layerwise as saved

    try:
        return saved.logits(folder, architecture, token_ids, whole=whole)
    except RuntimeError as exc:
        raise _unusable("the converted model does not run", exc) from exc
    except KeyError as exc:
        raise VerificationError(f"the converted model has lost {exc}", hint="convert it again") from exc


def compare(token_ids: TokenIds, reference: Logits, converted: Logits, recipe: Recipe) -> Figures:
    """The figures. Raises VerificationError where the converted model is not fit for use."""
    if not all(np.isfinite(logits).all() for logits in reference):
        raise VerificationError("the checkpoint itself answers NaN: its weights are damaged", hint=_DAMAGED)
    if all(np.ptp(logits, axis=-1).max() < _SPREAD for logits in reference):
        raise VerificationError(
            "to the checkpoint all tokens are equally likely: its weights are damaged", hint=_DAMAGED
        )
    if not all(np.isfinite(logits).all() for logits in converted):
        raise VerificationError(f"with the recipe {recipe.name}, the model answers NaN", hint=_other_recipe(recipe))
    wanted = np.concatenate([logits.argmax(-1) for logits in reference])
    found = np.concatenate([logits.argmax(-1) for logits in converted])
    if len(set(found)) == 1 < len(set(wanted)):
        raise VerificationError(
            f"with the recipe {recipe.name}, the model says one token for ever", hint=_other_recipe(recipe)
        )
    pairs = list(zip(reference, converted, strict=True))
    divergences = np.concatenate([divergence(log_softmax(a), log_softmax(b)) for a, b in pairs])
    figures = Figures(
        tokens=len(wanted),
        mean_kl=float(divergences.mean()),
        max_kl=float(divergences.max()),
        top1=float((wanted == found).mean()),
        max_logit_difference=max(float(np.abs(a - b).max()) for a, b in pairs),
    )
    allowed = recipe.max_kl if _has_learned(token_ids, reference) else recipe.max_kl * _UNTRAINED
    if figures.mean_kl > allowed:
        raise VerificationError(
            f"with the recipe {recipe.name}, the model's answers are not the checkpoint's: a KL divergence of "
            f"{figures.mean_kl:.2g} nats a token, of which {allowed:g} are allowed",
            hint=_other_recipe(recipe),
        )
    return figures


def check_generation(folder: Path, excerpt: str | None, ids: npt.NDArray[np.int64], **properties: str) -> None:
    """Lets OpenVINO GenAI's own pipeline open the folder and say a few tokens; of a large model, which it would load
    whole, the `excerpt` of one layer, if there is one. Raises VerificationError."""
    import openvino as ov
    import openvino_genai as genai

    config = genai.GenerationConfig(max_new_tokens=_GENERATED, ignore_eos=True, apply_chat_template=False)
    try:
        with _opened(folder, excerpt) as opened:
            tokenizer = genai.Tokenizer(str(folder), **_reads(folder))
            pipeline = genai.LLMPipeline(str(opened), tokenizer, "CPU", **properties, **_reads(folder))
            generated = pipeline.generate(ov.Tensor(ids[np.newaxis]), config).tokens[0]
            del pipeline
    except RuntimeError as exc:
        raise _unusable("OpenVINO GenAI cannot use the converted model", exc) from exc
    if len(generated) != _GENERATED:
        raise VerificationError(f"the converted model says {len(generated)} tokens when asked for {_GENERATED}")


def _reads(folder: Path) -> dict[str, bool]:
    return read_model_properties(folder / "openvino_tokenizer.bin")


@contextmanager
def _opened(folder: Path, excerpt: str | None) -> Iterator[Path]:
    """The folder, or, where it is large, one among its files with the excerpt as its graph and the same weights."""
    from .layerwise import fits_whole

    weights = folder / "openvino_model.bin"
    if excerpt is None or fits_whole(weights.stat().st_size):
        yield folder
        return
    with TemporaryDirectory(dir=folder) as name:
        part = Path(name)
        (part / "openvino_model.xml").write_text(excerpt, encoding="utf-8")
        try:  # not as a tensor, which GenAI would copy
            os.link(weights, part / weights.name)
        except OSError:  # a file system without links
            shutil.copyfile(weights, part / weights.name)
        for text in ("config.json", "generation_config.json"):
            shutil.copyfile(folder / text, part / text)
        yield part


def _has_learned(token_ids: TokenIds, reference: Logits) -> bool:
    """Whether the checkpoint foretells the prompts better than a guess among its vocabulary would."""
    chances = [
        log_softmax(logits[:-1])[np.arange(len(ids) - 1), ids[1:]]
        for ids, logits in zip(token_ids, reference, strict=True)
    ]
    return bool(np.concatenate(chances).mean() > -np.log(reference[0].shape[-1]))


def _other_recipe(recipe: Recipe) -> str:
    better = {"int8": "bf16", "bf16": ""}.get(recipe.name, "int8")
    return f"try the recipe {better}; if that fails too: {_DAMAGED}" if better else _DAMAGED


def _unusable(what: str, exc: RuntimeError) -> VerificationError:
    return VerificationError(f"{what}: {error_line(exc)}", hint="convert it again; if it stays so, please report it")
