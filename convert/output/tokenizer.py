"""A checkpoint's tokenizer becomes `tokenizer.json` and tokenizer IR, which add no special token by themselves."""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING

from runtime.checkpoint.tokenizer import CheckpointTokenizer, first_error_line
from runtime.errors import CheckpointError, ConversionError
from runtime.system.native_effects import quiet_logging
from runtime.vocabulary import byte_alphabet

from .scratch import save_ir

if TYPE_CHECKING:
    from openvino import Model
    from tokenizers import Tokenizer


def write_tokenizer(source: CheckpointTokenizer, folder: Path) -> None:
    """Writes tokenizer.json and the IR of tokenizer and detokenizer. Raises CheckpointError for an unsupported kind."""
    (folder / "tokenizer.json").write_text(source.tokenizer.to_str(), encoding="utf-8")
    tokenizer, detokenizer = _convert(source)
    save_ir(tokenizer, folder / "openvino_tokenizer.xml")
    save_ir(detokenizer, folder / "openvino_detokenizer.xml")


def _convert(source: CheckpointTokenizer) -> tuple["Model", "Model"]:
    with quiet_logging():  # transformers warns at import that it found no torch
        from openvino.exceptions import OVTypeError
        from openvino_tokenizers import convert_tokenizer
        from transformers import PreTrainedTokenizerFast
    words = _unmergeable(source.tokenizer)
    tokenizer = _marking(source.tokenizer, words) if words else source.tokenizer
    carrier = PreTrainedTokenizerFast(  # only carries the tokenizer in: convert_tokenizer takes nothing else
        tokenizer_object=tokenizer,
        eos_token=source.eos_token,
        pad_token=source.pad_token,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
    try:
        # The detokenizer must be able to skip special tokens, or GenAI, which switches it off, does not load it.
        splitter, joiner = convert_tokenizer(carrier, with_detokenizer=True, add_special_tokens=False)
    except (OVTypeError, KeyError, RuntimeError) as exc:
        raise CheckpointError(
            f"this kind of tokenizer cannot be converted: {first_error_line(exc)}",
            hint="GLM-4 has a byte-level BPE tokenizer; is this its own tokenizer.json?",
        ) from exc
    except Exception as exc:  # what tokenizers raises of a file that openvino_tokenizers writes for a moment
        if not (number := re.search(r"\(os error (\d+)\)", str(exc))):
            raise
        raise ConversionError(
            f"{gettempdir()!r} cannot be written: {os.strerror(int(number[1])).lower()}",
            hint="make room there, or set TMPDIR to a folder on another disk",
        ) from exc
    if words:
        marked = {_SPACE_MARK + word[1:] if word[0] == " " else _MARK + word: id for word, id in words.items()}
        _know(splitter, marked)
    return splitter, joiner


# GLM-4 looks a word up before it merges its bytes, and 893 of its tokens (" 研究", " 首先") can be had in no other way.
# OpenVINO's BPETokenizer only merges. So such a word, where it stands alone, gets a mark before it (and in place of its
# space), and the marked spelling becomes a token that merges do not know and that is therefore found as a whole. Marks
# are blanks that nobody types, so that the pre-tokenizer cuts as before.
_SPACE_MARK, _MARK = "\u1680", "\u205f"


def _unmergeable(tokenizer: "Tokenizer") -> dict[str, int]:
    """The words, with or without a space before, that merging their bytes does not lead to, with their ids."""
    bpe = tokenizer.model
    if not getattr(bpe, "ignore_merges", False):
        return {}
    byte = byte_alphabet()
    found = {}
    bpe.ignore_merges = False
    try:
        for spelled, id in tokenizer.get_vocab(with_added_tokens=False).items():
            if [token.id for token in bpe.tokenize(spelled)] != [id]:
                word = bytes(byte[character] for character in spelled).decode(errors="replace")
                if word.removeprefix(" ").isalpha():
                    found[word] = id
    finally:
        bpe.ignore_merges = True
    return found


def _marking(tokenizer: "Tokenizer", words: Iterable[str]) -> "Tokenizer":
    """The tokenizer with normalizers, for OpenVINO alone, that mark these words.

    Those without a space are marked where a line or a text begins, and after digits. After punctuation it would take a
    whole pre-tokenizer to tell whether they stand alone; they are parts of words and hardly do.
    """
    from tokenizers import Regex, Tokenizer, normalizers

    marking = Tokenizer.from_str(tokenizer.to_str())
    steps = [marking.normalizer] if marking.normalizer else []
    spaced = "|".join(word[1:] for word in words if word[0] == " ")
    bare = "|".join(word for word in words if word[0] != " ")
    if spaced:
        steps.append(normalizers.Replace(Regex(rf" (?=(?:{spaced})(?!\p{{L}}))"), _SPACE_MARK))
    if bare:
        steps.append(normalizers.Replace(Regex(rf"(?<![^\r\n\p{{N}}])(?=(?:{bare})(?!\p{{L}}))"), _MARK))
    marking.normalizer = normalizers.Sequence(steps)
    return marking


def _know(splitter: "Model", words: Mapping[str, int]) -> None:
    """Adds words to the tokens that the IR's BPETokenizer has beyond its vocabulary: its last four inputs, which are
    where each begins and ends in the third, their bytes, and their ids."""
    import numpy as np
    from openvino import opset13 as ops

    (bpe,) = (op for op in splitter.get_ops() if op.get_type_name() == "BPETokenizer")
    first = bpe.get_input_size() - 4
    begins, ends, text, ids = (np.array(bpe.input_value(first + i).get_node().data) for i in range(4))
    spelled = [word.encode() for word in words]
    lengths = np.array([len(word) for word in spelled], np.int32)
    new_ends = np.cumsum(lengths, dtype=np.int32) + np.int32(len(text))
    for i, value in enumerate(
        (
            np.concatenate([begins, new_ends - lengths]),
            np.concatenate([ends, new_ends]),
            np.concatenate([text, np.frombuffer(b"".join(spelled), np.uint8)]),
            np.concatenate([ids, np.array(list(words.values()), np.int32)]),
        )
    ):
        bpe.input(first + i).replace_source_output(ops.constant(value).output(0))
    splitter.validate_nodes_and_infer_types()
