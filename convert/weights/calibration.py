"""The texts that show a recipe which weights matter: the built-in ones, or the user's own.

A file has one sample a line (`convert/samples.py`). The built-in file was written for this purpose: English, Chinese,
code and tool calls.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from runtime.checkpoint.tokenizer import CheckpointTokenizer
from runtime.errors import ConversionError, RequestError
from runtime.prompt.families import Family
from runtime.prompt.template import Prompt, Template

from ..samples import Sample, read_samples

__all__ = ["BUILT_IN", "TOKENS", "Sample", "read", "token_ids"]

TOKENS = 512  # of a text, at most; what is longer is cut
BUILT_IN = Path(__file__).with_name("calibration.jsonl")


def read(path: str | os.PathLike[str]) -> tuple[Sample, ...]:
    """Read the samples of a file. Raises ConversionError, naming the line that is wrong."""
    try:
        return read_samples(path)
    except RequestError as exc:
        raise ConversionError(str(exc), hint=exc.hint) from exc


def token_ids(
    samples: Sequence[Sample], family: Family, template: Template | None, tokenizer: CheckpointTokenizer
) -> list[npt.NDArray[np.int64]]:
    """Each sample's tokens, in the family's own prompt format. Raises TemplateError where the template refuses one."""
    prompts = (_prompt(sample, family, template) for sample in samples)
    ids = ([id for piece in prompt for id in tokenizer.encode(piece)][:TOKENS] for prompt in prompts)
    return [np.array(each, dtype=np.int64) for each in ids if each]


def _prompt(sample: Sample, family: Family, template: Template | None) -> Prompt:
    if sample.rendered:
        return (sample.rendered,)
    if sample.text:
        return (family.prefix, sample.text) if family.prefix else (sample.text,)
    if template is None:  # a base model: the words alone
        return (family.prefix + "\n".join(message.content for message in sample.messages if message.content),)
    messages = sample.messages if family.system else tuple(m for m in sample.messages if m.role != "system")
    if not family.tools:
        messages = tuple(m for m in messages if m.role != "tool" and not m.tool_calls)
    finished = messages[-1].role == "assistant"
    return template.render(messages, sample.tools if family.tools else (), add_generation_prompt=not finished)
