"""Chat templates and vocabularies to test prompts with: our own in every clone, the real GLM-4's where they are.

Our own templates lay a prompt out as the real ones do, in other words (tests/templates; GLM-4-0414's is the demo's).
Our own vocabulary has the demo's tokens, GLM-4's special tokens, and words that no merge leads to.
"""

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.demo import CHECKPOINT
from runtime.vocabulary import byte_alphabet

REFERENCE = Path(__file__).resolve().parents[2] / "shared" / "glm4-reference"
OWN_TEMPLATES = Path(__file__).resolve().parent / "templates"
REAL_TEMPLATES = REFERENCE / "chat-templates"
SPECIAL_TOKENS = (
    *("<|endoftext|>", "[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>"),
    *("<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"),
    *("<|begin_of_image|>", "<|end_of_image|>", "<|begin_of_video|>", "<|end_of_video|>"),
)
WHOLE_WORDS = ("研究", "首先", "zehn", "しない", "Однако")  # in our own vocabulary, each also with a space before it


@dataclass(frozen=True)
class TemplateFile:
    """A chat template, its family, and the model_type in the config.json of its checkpoint."""

    path: Path
    family: str
    model_type: str

    @property
    def source(self) -> str:
        return self.path.read_text(encoding="utf-8")


OWN = {
    "own 0414": TemplateFile(CHECKPOINT / "chat_template.jinja", "glm4_0414", "glm4"),
    "own z1": TemplateFile(OWN_TEMPLATES / "z1.jinja", "z1", "glm4"),
    "own rumination": TemplateFile(OWN_TEMPLATES / "rumination.jinja", "rumination", "glm4"),
    "own 2024": TemplateFile(OWN_TEMPLATES / "glm4_2024.jinja", "glm4_2024", "chatglm"),
    "own edge": TemplateFile(OWN_TEMPLATES / "glm_edge.jinja", "glm_edge", "glm"),
}
VISION = {
    "own 4.1v": TemplateFile(OWN_TEMPLATES / "glm4_1v.jinja", "glm4_1v", "glm4v"),
    "own 4.6v": TemplateFile(OWN_TEMPLATES / "glm4_6v.jinja", "glm4_6v", "glm4v"),
}
_PUBLISHED = {
    "real 0414": TemplateFile(REAL_TEMPLATES / "glm4-0414.jinja", "glm4_0414", "glm4"),
    "real z1": TemplateFile(REAL_TEMPLATES / "z1-0414.community.jinja", "z1", "glm4"),
    "real rumination": TemplateFile(REAL_TEMPLATES / "rumination-32b-0414.jinja", "rumination", "glm4"),
    "real 2024": TemplateFile(REAL_TEMPLATES / "glm4-chat.jinja", "glm4_2024", "chatglm"),
    "real 2024, 1m": TemplateFile(REAL_TEMPLATES / "glm4-chat-1m.jinja", "glm4_2024", "glm"),
    "real edge": TemplateFile(REAL_TEMPLATES / "glm-edge-chat.jinja", "glm_edge", "glm"),
}
REAL = _PUBLISHED if REFERENCE.is_dir() else {}
TEMPLATES = OWN | REAL
VOCABULARIES = ("own", "real") if REAL else ("own",)


def own_ranks() -> list[bytes]:
    """The tokens of our own vocabulary, by rank."""
    vocabulary = json.loads((CHECKPOINT / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    byte = byte_alphabet()
    tokens = [bytes(byte[character] for character in token) for token in sorted(vocabulary, key=vocabulary.__getitem__)]
    words = (word.encode() for word in WHOLE_WORDS)
    return list(dict.fromkeys([*tokens, *(token for word in words for token in [*_tokens_of(word), b" " + word])]))


def _tokens_of(word: bytes) -> list[bytes]:
    """The word, which is its first byte and a token for the rest, and those by which its bytes are never merged to it:
    BPE joins the first two bytes before."""
    return [word[:2], *(word[1:end] for end in range(3, len(word) + 1)), word]


def write_tiktoken(folder: Path, ranks: list[bytes], special: tuple[str, ...] = SPECIAL_TOKENS) -> Path:
    """Write the tokenizer files of the original format."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = (b"%s %d\n" % (base64.b64encode(token), rank) for rank, token in enumerate(ranks))
    (folder / "tokenizer.model").write_bytes(b"".join(lines))
    decoder = {str(len(ranks) + i): {"content": name, "special": True} for i, name in enumerate(special)}
    config = {"added_tokens_decoder": decoder, "eos_token": special[0], "pad_token": special[0]}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


@dataclass(frozen=True)
class ReferenceVocabulary:
    """A vocabulary read from a checkpoint (`source`), converted (`folder`), and as tiktoken has it (`encoding`)."""

    name: str
    source: Any
    folder: Path
    encoding: Any

    @property
    def first_special(self) -> int:
        return int(self.encoding.encode_single_token(SPECIAL_TOKENS[0]))


def load_vocabulary(name: str, folder: Path) -> ReferenceVocabulary:
    """Read and convert the vocabulary `name`; `folder` takes the files."""
    import tiktoken

    from convert.output.tokenizer import write_tokenizer
    from runtime.checkpoint.tokenizer import PRETOKENIZER_PATTERN, read_tokenizer

    checkpoint = REFERENCE / "glm-4-9b-chat" if name == "real" else write_tiktoken(folder / "checkpoint", own_ranks())
    lines = (checkpoint / "tokenizer.model").read_bytes().splitlines()
    ranks = {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in lines)}
    special = {name: len(ranks) + i for i, name in enumerate(SPECIAL_TOKENS)}
    encoding = tiktoken.Encoding("glm4", pat_str=PRETOKENIZER_PATTERN, mergeable_ranks=ranks, special_tokens=special)
    source = read_tokenizer(checkpoint, 151552)
    converted = folder / "converted"
    converted.mkdir()
    write_tokenizer(source, converted)
    return ReferenceVocabulary(name, source, converted, encoding)
