"""Calibration texts for the data-aware recipes: built-in, or the user's, in the checkpoint's prompt format.

A file has one sample a line (`convert/samples.py`). The built-in file was written for this purpose: English, Chinese,
code and tool calls.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from runtime.checkpoint.tokenizer import CheckpointTokenizer
from runtime.errors import ConversionError, RequestError, TemplateError
from runtime.prompt.families import Family
from runtime.prompt.template import ChatTemplate, TextPrompt

from ..samples import Sample, read_samples

MAX_TOKENS = 512  # of a text; longer ones are truncated
BUILT_IN = Path(__file__).with_name("calibration.jsonl")


def read_calibration_samples(path: str | os.PathLike[str]) -> tuple[Sample, ...]:
    """Return the samples of a file. Raises ConversionError, naming the line that is wrong."""
    try:
        return read_samples(path)
    except RequestError as exc:
        raise ConversionError(str(exc), hint=exc.hint) from exc


def token_ids(
    samples: Sequence[Sample],
    family: Family,
    template: ChatTemplate | None,
    tokenizer: CheckpointTokenizer,
    *,
    built_in: bool = False,
) -> list[npt.NDArray[np.int64]]:
    """Return the token ids of each sample, rendered by the chat template.

    Some templates reject a system message, or several tool calls in a message. If the samples are `built_in`, the plain
    text of a rejected one is used instead; a rejected sample of the user's raises TemplateError.
    """
    prompts = (_prompt(sample, family, template, built_in=built_in) for sample in samples)
    ids = ([id for piece in prompt for id in tokenizer.encode(piece)][:MAX_TOKENS] for prompt in prompts)
    return [np.array(each, dtype=np.int64) for each in ids if each]


def at_most(texts: Sequence[npt.NDArray[np.int64]], tokens: int | None) -> list[npt.NDArray[np.int64]]:
    """Return texts, chosen at random, of at most `tokens` tokens in total; all texts if it is None."""
    found, left = {}, sum(map(len, texts)) if tokens is None else tokens
    for number in np.random.default_rng(0).permutation(len(texts)).tolist():
        if left > 0:
            found[number] = texts[number][:left]
            left -= len(texts[number])
    return [found[number] for number in sorted(found)]


def _prompt(sample: Sample, family: Family, template: ChatTemplate | None, *, built_in: bool) -> TextPrompt:
    if sample.rendered:
        return (sample.rendered,)
    if sample.text:
        return (family.prefix, sample.text) if family.prefix else (sample.text,)
    words = (family.prefix + "\n".join(message.content for message in sample.messages if message.content),)
    if template is None:  # a base model
        return words
    messages = sample.messages if family.system else tuple(m for m in sample.messages if m.role != "system")
    if not family.tools:
        messages = tuple(m for m in messages if m.role != "tool" and not m.tool_calls)
    finished = messages[-1].role == "assistant"
    try:
        return template.render_text(messages, sample.tools if family.tools else (), add_generation_prompt=not finished)
    except TemplateError:
        if not built_in:
            raise
        return words
