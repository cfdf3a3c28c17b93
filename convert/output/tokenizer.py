"""A checkpoint's tokenizer as `tokenizer.json` and tokenizer IR, which add no special tokens by themselves."""

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
    """Write tokenizer.json and the IR of tokenizer and detokenizer. Raise CheckpointError for an unsupported kind."""
    (folder / "tokenizer.json").write_text(source.tokenizer.to_str(), encoding="utf-8")
    tokenizer, detokenizer = _convert(source)
    save_ir(tokenizer, folder / "openvino_tokenizer.xml")
    save_ir(detokenizer, folder / "openvino_detokenizer.xml")


def _convert(source: CheckpointTokenizer) -> tuple["Model", "Model"]:
    with quiet_logging():  # transformers warns at import that it found no torch
        from openvino.exceptions import OVTypeError
        from openvino_tokenizers import convert_tokenizer
        from transformers import PreTrainedTokenizerFast
    words = unmergeable_words(source.tokenizer)
    tokenizer = _with_marks(source.tokenizer, words) if words else source.tokenizer
    carrier = PreTrainedTokenizerFast(  # a carrier: convert_tokenizer accepts nothing else
        tokenizer_object=tokenizer,
        eos_token=source.eos_token,
        pad_token=source.pad_token,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
    try:
        # GenAI only loads a detokenizer that can skip special tokens; it switches that off.
        tokenizer_ir, detokenizer_ir = convert_tokenizer(carrier, with_detokenizer=True, add_special_tokens=False)
    except (OVTypeError, KeyError, RuntimeError) as exc:
        raise CheckpointError(
            f"this kind of tokenizer cannot be converted: {first_error_line(exc)}",
            hint="GLM-4 has a byte-level BPE tokenizer; check that tokenizer.json is GLM-4's own",
        ) from exc
    except Exception as exc:  # raised by tokenizers for a temporary file of openvino_tokenizers
        if not (number := re.search(r"\(os error (\d+)\)", str(exc))):
            raise
        raise ConversionError(
            f"{gettempdir()!r} is not writable: {os.strerror(int(number[1])).lower()}",
            hint="make room there, or set TMPDIR to a folder on another disk",
        ) from exc
    if words:
        marked = {_SPACE_MARK + word[1:] if word[0] == " " else _MARK + word: token for word, token in words.items()}
        _add_words(tokenizer_ir, marked)
    return tokenizer_ir, detokenizer_ir


# GLM-4 looks a word up before it merges its bytes, and 893 of its tokens (" 研究", " 首先") result from no merge.
# OpenVINO's BPETokenizer only merges. So such a word, where it stands alone, gets a mark before it (and in place of its
# space), and the marked spelling becomes an added token, which is matched as a whole. Marks are rare blanks, so that
# the pre-tokenizer splits as before.
_SPACE_MARK, _MARK = "\u1680", "\u205f"


def unmergeable_words(tokenizer: "Tokenizer") -> dict[str, int]:
    """Return the words, with or without a leading space, that no merge of their bytes produces, with their ids."""
    from tokenizers import Tokenizer

    if not getattr(tokenizer.model, "ignore_merges", False):
        return {}
    byte = byte_alphabet()
    found = {}
    bpe = Tokenizer.from_str(tokenizer.to_str()).model  # a copy: other threads may use the tokenizer
    bpe.ignore_merges = False
    for spelled, token_id in tokenizer.get_vocab(with_added_tokens=False).items():
        if [token.id for token in bpe.tokenize(spelled)] != [token_id]:
            word = bytes(byte[character] for character in spelled).decode(errors="replace")
            if word.removeprefix(" ").isalpha():
                found[word] = token_id
    return found


def _with_marks(tokenizer: "Tokenizer", words: Iterable[str]) -> "Tokenizer":
    """Return the tokenizer with normalizers, for OpenVINO alone, that mark these words.

    Words without a space are marked at the start of a line or text, and after digits. After punctuation, only the
    pre-tokenizer could decide whether they stand alone; they are parts of words and rarely do.
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


def _add_words(tokenizer_ir: "Model", words: Mapping[str, int]) -> None:
    """Add words to the added tokens of the IR's BPETokenizer: its last four inputs, which are the begin and end of each
    token in the third, the bytes of all, and their ids."""
    import numpy as np
    from openvino import opset13 as ops

    (bpe,) = (op for op in tokenizer_ir.get_ops() if op.get_type_name() == "BPETokenizer")
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
    tokenizer_ir.validate_nodes_and_infer_types()
