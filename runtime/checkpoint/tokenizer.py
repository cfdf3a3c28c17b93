"""A checkpoint's tokenizer, from `tokenizer.json` or from the tiktoken file of ChatGLMModel.

It adds no special tokens, since a prompt contains its own, and recognizes those in a text. No code of a checkpoint is
executed. tiktoken itself is not used: it caches every file by its path, and reads the cached copy if the file changes.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import strict_json
from ..errors import CheckpointError
from ..system.installation import install_hint
from ..text import one_line, quoted
from ..vocabulary import byte_alphabet
from .files.small_files import read_file, read_json

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# GLM-4's pre-tokenizer; the tiktoken file contains only ranks.
PRETOKENIZER_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_FLAGS = ("special", "lstrip", "rstrip", "single_word")  # of an added token
_DOWNLOAD_HINT = "download the tokenizer files of the checkpoint again"


@dataclass(frozen=True, slots=True)
class CheckpointTokenizer:
    """A tokenizer and its special tokens: `special_tokens` maps every added token to its id."""

    tokenizer: "Tokenizer"
    special_tokens: Mapping[str, int]
    eos_token: str
    pad_token: str

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, without added special tokens."""
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)


def read_tokenizer(checkpoint: Path, vocabulary: int, end_ids: Sequence[int] = ()) -> CheckpointTokenizer:
    """Return the tokenizer of a checkpoint folder. The model has `vocabulary` ids; `end_ids` are its config's end
    tokens.

    Raises CheckpointError if files are missing, damaged, or do not belong to the model.
    """
    require_tokenizers()
    config = _read_config(checkpoint)
    if (text := read_file(checkpoint, "tokenizer.json")) is not None:
        tokenizer = _from_json("tokenizer.json", text)
    elif (text := read_file(checkpoint, "tokenizer.model")) is not None:
        tokenizer = _from_tiktoken("tokenizer.model", text)
    else:
        raise CheckpointError(
            f"{str(checkpoint)!r} has neither tokenizer.json nor tokenizer.model", hint=_DOWNLOAD_HINT
        )
    return build_tokenizer(tokenizer, vocabulary, config, end_ids)


def _read_config(checkpoint: Path) -> dict[str, Any]:
    """Return tokenizer_config.json. Where it does not list the added tokens, special_tokens_map.json and
    added_tokens.json count, as in transformers: earlier versions wrote them."""
    config = read_json(checkpoint / "tokenizer_config.json")
    if config.get("added_tokens_decoder") is not None:
        return config
    named = read_json(checkpoint / "special_tokens_map.json")
    listed = read_json(checkpoint / "added_tokens.json").items()
    decoder = {str(number): {"content": name} for name, number in listed}
    return (
        config
        | {key: named[key] for key in ("eos_token", "pad_token") if named.get(key)}
        | {"added_tokens_decoder": decoder}
    )


def build_tokenizer(
    tokenizer: "Tokenizer", vocabulary: int, config: Mapping[str, Any], end_ids: Sequence[int] = ()
) -> CheckpointTokenizer:
    """Add what a tokenizer_config.json adds to a tokenizer: more tokens, the end token, the padding token. Raises
    CheckpointError."""
    if not set().union(*tokenizer.get_vocab(with_added_tokens=False)) <= byte_alphabet().keys():
        raise CheckpointError(
            "the tokenizer is not a byte-level BPE like GLM-4's", hint="is this the checkpoint's own tokenizer.json?"
        )
    _add_tokens(tokenizer, config)
    special = {token.content: number for number, token in sorted(tokenizer.get_added_tokens_decoder().items())}
    if not special:
        raise CheckpointError("the tokenizer has no special tokens", hint=f"tokenizer_config.json: {_DOWNLOAD_HINT}")
    if (largest := max(tokenizer.get_vocab().values())) >= vocabulary:
        raise CheckpointError(
            f"the tokenizer has the id {largest}, but the model has only {vocabulary} ids",
            hint="the tokenizer belongs to another model",
        )
    names = {number: name for name, number in special.items()}
    end = _named_special_token(config, "eos_token", special) or next(
        (names[number] for number in end_ids if number in names), None
    )
    if end is None:
        raise CheckpointError("the tokenizer has no end token", hint="tokenizer_config.json must name its eos_token")
    return CheckpointTokenizer(tokenizer, special, end, _named_special_token(config, "pad_token", special) or end)


def require_tokenizers() -> None:
    """Raise CheckpointError if the library tokenizers is not installed."""
    if find_spec("tokenizers") is None:
        raise CheckpointError(
            "reading a checkpoint needs tokenizers, which is not installed",
            hint=f"{install_hint('convert')} to convert it; to run it as it is, [torch] or [remote]",
        )


def _from_json(name: str, text: bytes) -> "Tokenizer":
    from tokenizers import Tokenizer
    from tokenizers.processors import ByteLevel

    try:
        _require_unique_ids(strict_json.parse(text))
        tokenizer = Tokenizer.from_str(text.decode())
    except Exception as exc:  # tokenizers raises nothing more precise
        raise CheckpointError(f"{name} is damaged: {first_error_line(exc)}", hint=_DOWNLOAD_HINT) from exc
    # Here the -hf checkpoints add [gMASK]<sop> before every text.
    tokenizer.post_processor = ByteLevel(trim_offsets=False)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _require_unique_ids(data: Any) -> None:
    """Raise ValueError if two tokens of a tokenizer.json have the same id: the library would keep only one."""
    ids = {number: token for token, number in data["model"]["vocab"].items()}
    if len(ids) != len(data["model"]["vocab"]):
        raise ValueError("two tokens have the same id")
    for token in data.get("added_tokens") or ():
        if ids.setdefault(token["id"], token["content"]) != token["content"]:
            raise ValueError(f"two tokens have the id {token['id']!r:.40}")


def _from_tiktoken(name: str, text: bytes) -> "Tokenizer":
    ranks = _parse_tiktoken(name, text)
    character = {byte: character for character, byte in byte_alphabet().items()}
    spelled = {token: "".join(character[byte] for byte in token) for token in ranks}
    # tiktoken merges the neighbours that form the token of the lowest rank; BPE needs the pairs in that order.
    by_rank = sorted(ranks, key=ranks.__getitem__)
    merges = [(spelled[a], spelled[b]) for token in by_rank for a, b in _merges_into(token, ranks)]
    vocabulary = {spelled[token]: rank for token, rank in ranks.items()}
    return byte_level_bpe(vocabulary, merges)


def byte_level_bpe(vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> "Tokenizer":
    """Build a tokenizer like GLM-4's from the ids of tokens in the byte alphabet and the merges in their order. A word
    that is a token is looked up before its bytes are merged."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors

    tokenizer = Tokenizer(models.BPE(vocabulary, merges, fuse_unk=False, ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PRETOKENIZER_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer


def _parse_tiktoken(name: str, text: bytes) -> dict[bytes, int]:
    """Parse tiktoken's text format: each line is a token in base64 and its rank, which is its id."""
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line:
            continue
        try:
            token, rank = line.split()
            ranks[base64.b64decode(token, validate=True)] = int(rank)
        except (ValueError, binascii.Error) as exc:
            raise CheckpointError(
                f"{name}: line {number} is not a token and its rank",
                hint=f"it is not a tiktoken file: {_DOWNLOAD_HINT}",
            ) from exc
    if len(set(ranks.values())) != len(ranks) or any(not 0 <= rank < 2**31 for rank in ranks.values()):
        raise CheckpointError(f"{name}: a rank occurs twice, is negative or too large", hint=_DOWNLOAD_HINT)
    if missing := [byte for byte in range(256) if bytes([byte]) not in ranks]:
        raise CheckpointError(f"{name} is cut short: it has no token for the byte {missing[0]}", hint=_DOWNLOAD_HINT)
    return ranks


def _merges_into(token: bytes, ranks: Mapping[bytes, int]) -> list[tuple[bytes, bytes]]:
    """Return the pairs of tokens that form `token`, those of lower rank first."""
    cuts = ((token[:i], token[i:]) for i in range(1, len(token)))
    return sorted((c for c in cuts if c[0] in ranks and c[1] in ranks), key=lambda c: (ranks[c[0]], ranks[c[1]]))


def _add_tokens(tokenizer: "Tokenizer", config: Mapping[str, Any]) -> None:
    """Add the tokens that only tokenizer_config.json lists, each with its own id."""
    from tokenizers import AddedToken

    try:
        decoder = dict(config.get("added_tokens_decoder") or {})
        listed = sorted((int(number), dict(entry)) for number, entry in decoder.items())
        flags = {number: {key: bool(entry.get(key, key == "special")) for key in _FLAGS} for number, entry in listed}
        tokens = [(number, str(entry["content"])) for number, entry in listed]
    except (KeyError, TypeError, ValueError) as exc:
        raise CheckpointError("tokenizer_config.json: added_tokens_decoder is damaged", hint=_DOWNLOAD_HINT) from exc
    for number, name in tokens:
        if tokenizer.token_to_id(name) is None:
            tokenizer.add_tokens([AddedToken(name, normalized=False, **flags[number])])
        if tokenizer.token_to_id(name) != number:
            raise CheckpointError(
                f"tokenizer_config.json gives {quoted(name)} the id {quoted(number)}, the tokenizer "
                f"{tokenizer.token_to_id(name)}",
                hint="the tokenizer's files do not belong together: download them again",
            )


def _named_special_token(config: Mapping[str, Any], key: str, special: Mapping[str, int]) -> str | None:
    value = config.get(key)
    name = value.get("content") if isinstance(value, dict) else value
    return name if isinstance(name, str) and name in special else None


def first_error_line(exc: BaseException) -> str:
    """Return the first line of an error's message, shortened."""
    return one_line((str(exc).strip() or type(exc).__name__).splitlines()[0], 200)
