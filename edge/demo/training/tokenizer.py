"""The embedded checkpoint's tokenizer: byte-level BPE with GLM-4's pre-tokenizer pattern and special tokens.

Merges never join a word to a space, a quote or an underscore, nor two digits, nor two Chinese characters, so that a
name has the same tokens at every place and can be copied. The frame of a tool's JSON has tokens of its own.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from runtime.checkpoint.tokenizer import PRETOKENIZER_PATTERN

SPECIAL_TOKENS = (
    "<|endoftext|>",
    "[MASK]",
    "[gMASK]",
    "[sMASK]",
    "<sop>",
    "<eop>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|observation|>",
    "<|begin_of_image|>",
    "<|end_of_image|>",
    "<|begin_of_video|>",
    "<|end_of_video|>",
)
# Each merge is "left right"; "␣" is a space and "↵" a newline. The frame of indented JSON, in the order of ranks.
FRAME = (
    '" , | ", ↵ | " : | " ↵ | { " | " } | { } | ␣ " | ␣ { | ␣{ ↵ | { ↵ | ␣ } | ␣} , | ␣}, ↵ | ␣} ↵ | } ↵ | } , | }, ↵ '
    "| ␣ [ | ␣[ ↵ | ␣ ] | ␣] ↵ | ␣] , | ␣], ↵ | ] , | ], ↵ | , ↵ | ␣ ↵ | ↵ ↵ | # # "
    "| ␣ ␣ | ␣␣ ␣␣ | ␣␣ ␣ | ␣␣␣␣ ␣␣␣␣ | ␣␣␣␣␣␣␣␣ ␣␣␣␣ | ␣␣␣␣␣␣␣␣ ␣␣␣␣␣␣␣␣ | ␣␣␣␣ ␣␣␣ | ␣␣␣␣␣␣␣␣ ␣␣␣ "
    "| ␣␣␣␣␣␣␣␣␣␣␣␣ ␣␣␣ | ␣␣␣␣␣␣␣␣␣␣␣␣␣␣␣␣ ␣␣␣ "
    # The sentence after every tool, from the middle outwards so that nothing else is caught.
    "| 述 函 | 上 述函 | 上述函 数 | 用 上述函数 | 调 用上述函数 | 在 调用上述函数 | 在调用上述函数 时 "
    "| 请 使 | 请使 用 | ， 请使用 | 式 表 | 格 式表 | 格式表 示 | 格式表示 调 | 格式表示调 用 | 格式表示调用 的 "
    "| 格式表示调用的 参 | 格式表示调用的参 数"
)


def train_tokenizer(texts: Iterable[str], words: int = 1500) -> Tokenizer:
    """Train a tokenizer with `words` merges from the Latin words of `texts`, and with their frequent characters."""
    counts: Counter[str] = Counter()
    characters: Counter[str] = Counter()
    for text in texts:
        counts.update(re.findall(r"[A-Z]?[a-z]+|[A-Z]+", text))
        characters.update(re.findall(r"[^\x00-\x7f]", text))
    latin = Tokenizer(models.BPE())
    latin.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=256 + words, initial_alphabet=alphabet, show_progress=False)
    latin.train_from_iterator((word for word, count in counts.items() for _ in range(count)), trainer)
    merges = [tuple(merge) for merge in json.loads(latin.to_str())["model"]["merges"]]
    for character in sorted(character for character, count in characters.items() if count >= 40):
        first, *rest = _bytes(character)
        for byte in rest:
            merges.append((first, byte))
            first += byte
    for merge in FRAME.split(" | "):
        left, right = (part.replace("␣", " ").replace("↵", "\n") for part in merge.split())
        merges.append(("".join(_bytes(left)), "".join(_bytes(right))))
    merges = list(dict.fromkeys(merges))
    tokens = list(dict.fromkeys([*alphabet, *(left + right for left, right in merges)]))
    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PRETOKENIZER_PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path, context: int) -> None:
    """Write tokenizer.json and tokenizer_config.json."""
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": context,
        "padding_side": "left",
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
        "additional_special_tokens": list(SPECIAL_TOKENS),
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _bytes(text: str) -> list[str]:
    """Return the byte-level alphabet's symbols for a text."""
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return list(level.pre_tokenize_str(text)[0][0])
