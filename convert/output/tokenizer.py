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
    tokenizer = _with_marking(source.tokenizer, words) if words else source.tokenizer
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
    _exclude_mongolian_vowel_separator(tokenizer_ir)
    if words:
        _move_marking(tokenizer_ir)
        _add_words(tokenizer_ir, {_MARK + word: token_id for word, token_id in words.items()})
    return tokenizer_ir, detokenizer_ir


def _exclude_mongolian_vowel_separator(tokenizer_ir: "Model") -> None:
    r"""Replace `\s` in the IR's pre-tokenizers by what it means in tiktoken and tokenizers: Unicode's White_Space.

    OpenVINO's PCRE2 counts U+180E among blanks, which Unicode has not done since 6.3.
    """
    import numpy as np
    from openvino import opset13 as ops

    for op in tokenizer_ir.get_ops():
        if op.get_type_name() == "RegexSplit":
            last = op.get_input_size() - 1
            pattern = bytes(op.input_value(last).get_node().data).decode()
            spelled = np.frombuffer(spell_out_white_space(pattern).encode(), np.uint8)
            op.input(last).replace_source_output(ops.constant(spelled).output(0))


_WHITE_SPACE = r"\t-\r\x{85}\p{Z}"  # within a class of characters


def spell_out_white_space(pattern: str) -> str:
    r"""Return a regular expression with `\s` and `\S` as classes of Unicode's White_Space.

    A `\S` within a class stays as it is: it would need a class within a class.
    """
    spelled, in_class = "", False
    for part in re.findall(r"\\.|.", pattern, re.DOTALL):
        if part in ("[", "]"):
            in_class = part == "["
        outside = {r"\s": f"[{_WHITE_SPACE}]", r"\S": f"[^{_WHITE_SPACE}]"}
        spelled += ({r"\s": _WHITE_SPACE} if in_class else outside).get(part, part)
    return spelled


# GLM-4 looks a word up before it merges its bytes, and 893 of its tokens (" 研究", " 首先") result from no merge.
# OpenVINO's BPETokenizer only merges, but finds added tokens in a word before it does. So a word that is such a token
# gets a mark before it, and the marked spelling becomes an added token. The mark is set behind the pre-tokenizer, where
# a word is known as a whole; no word of the pre-tokenizer's has letters behind a line break.
_MARK = "\n"


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


def _with_marking(tokenizer: "Tokenizer", words: Iterable[str]) -> "Tokenizer":
    """Return the tokenizer with a normalizer, for OpenVINO alone, that marks a text that is one of these words."""
    from tokenizers import Regex, Tokenizer, normalizers

    marking = Tokenizer.from_str(tokenizer.to_str())
    steps = [marking.normalizer] if marking.normalizer else []
    whole = "|".join(re.escape(word) for word in words)
    marking.normalizer = normalizers.Sequence([*steps, normalizers.Replace(Regex(rf"\A(?=(?:{whole})\z)"), _MARK)])
    return marking


def _move_marking(tokenizer_ir: "Model") -> None:
    """Move the IR's last normalizer behind its pre-tokenizer, so that it is applied to each word."""
    (bpe,) = (op for op in tokenizer_ir.get_ops() if op.get_type_name() == "BPETokenizer")
    split = bpe.input_value(2).get_node()
    marking = split.input_value(2).get_node()
    if split.get_type_name() != "RegexSplit" or marking.get_type_name() != "RegexNormalization":
        raise RuntimeError(f"unexpected tokenizer IR: {marking.get_type_name()}, {split.get_type_name()}")
    texts = [marking.input_value(i) for i in range(4)]  # begins, ends, characters, and which are special tokens
    for i, source in enumerate(texts):
        split.input(2 + i).replace_source_output(source)
        marking.input(i).replace_source_output(split.output(2 + i))
    for i in range(3):
        bpe.input(2 + i).replace_source_output(marking.output(i))


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
