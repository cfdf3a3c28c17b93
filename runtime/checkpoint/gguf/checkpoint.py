"""A GLM-4 GGUF as a checkpoint: llama.cpp's metadata in the terms of a Hugging Face folder's files.

Two of llama.cpp's architectures are GLM-4: `glm4` (0414, Z1, Rumination) and `chatglm` (2024, GLM-Edge). Keys:
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md; what its converter makes of GLM-4: llama.cpp's
conversion/glm.py and conversion/chatglm.py.
"""

import re
import reprlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...chat_templates import DEFAULT, ChatTemplates, is_template_name
from ...errors import CheckpointError, Notice
from ..architecture import Architecture
from ..files.small_files import DOWNLOAD_AGAIN
from ..tensor_names import TensorNaming, gguf_fused_names, gguf_names
from ..tokenizer import CheckpointTokenizer, build_tokenizer, byte_level_bpe, require_tokenizers
from .header import GgufHeader

if TYPE_CHECKING:
    from .file import GgufFile

_ARCHITECTURES = {"glm4": ("Glm4ForCausalLM", "glm4"), "chatglm": ("GlmForCausalLM", "glm")}  # architecture, model type
_SHARD_NAME = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf")
_PRETOKENIZERS = ("glm4", "chatglm-bpe")  # llama.cpp's names of GLM-4's pre-tokenizer
_NORMAL, _CONTROL, _USER_DEFINED = 1, 3, 4  # types of tokens
_TOKEN_KEYS = {f"{name}_token": name for name in ("bos", "eos", "unk", "sep", "cls", "mask")} | {"pad_token": "padding"}
_SAMPLING_KEYS = {
    "general.sampling.temp": "temperature",
    "general.sampling.top_p": "top_p",
    "general.sampling.top_k": "top_k",
    "general.sampling.min_p": "min_p",
    "general.sampling.penalty_repeat": "repetition_penalty",
}
_TEXT_ONLY = "only plain GLM-4 text models are supported"


@dataclass(frozen=True, slots=True)
class GgufCheckpoint:
    """The headers of a GGUF file, or of all files of a split one. The metadata are those of the first."""

    path: Path
    headers: Sequence[GgufHeader]

    @classmethod
    def accepts(cls, path: Path) -> bool:
        """Return whether `path` is a file."""
        return path.is_file()

    @classmethod
    def open(cls, path: Path) -> "GgufCheckpoint":
        """Read the headers of a GGUF file, or of all parts if `path` is one of them. Raises CheckpointError,
        OSError."""
        paths = [path]
        if part := _SHARD_NAME.fullmatch(path.name):
            count = int(part[3])
            paths = [path.with_name(f"{part[1]}-{number:05}-of-{part[3]}.gguf") for number in range(1, count + 1)]
            if missing := [file.name for file in paths if not file.is_file()]:
                raise CheckpointError(
                    f"{missing[0]} is missing ({len(missing)} of {count} parts)", hint=f"download it into {path.parent}"
                )
        found = cls(paths[0], [GgufHeader.read(file) for file in paths])
        parts = found.metadata.get("split.count")
        if type(parts) is int and parts > len(paths):
            raise CheckpointError(
                f"{path.name} is one of {parts} parts of a model, but its name does not say which",
                hint=f"give all of them the names they had: NAME-00001-of-{parts:05}.gguf and so on, in one folder",
            )
        found._require_supported()
        return found

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What llama.cpp recorded about the model."""
        return self.headers[0].metadata

    def name(self) -> str:
        """Return the file's name without its ending."""
        part = _SHARD_NAME.fullmatch(self.path.name)
        return part[1] if part else self.path.stem

    def config(self) -> dict[str, Any]:
        """Return the config.json of transformers' GlmConfig or Glm4Config. Raises CheckpointError."""
        architecture, model_type = _ARCHITECTURES[self.metadata["general.architecture"]]
        heads, hidden = self._integer("attention.head_count"), self._integer("embedding_length")
        head_dim = self._integer("attention.key_length", hidden // heads)
        return {
            "architectures": [architecture],
            "model_type": model_type,
            "eos_token_id": self._end_token_ids(),
            "attention_bias": any(name.endswith(("attn_q.bias", "attn_qkv.bias")) for name in self._shapes()),
            "head_dim": head_dim,
            "hidden_act": "silu",
            "hidden_size": hidden,
            "intermediate_size": self._integer("feed_forward_length"),
            "max_position_embeddings": self._integer("context_length"),
            "num_attention_heads": heads,
            "num_hidden_layers": self._integer("block_count"),
            "num_key_value_heads": self._integer("attention.head_count_kv", heads),
            "rms_norm_eps": self._number("attention.layer_norm_rms_epsilon"),
            "rope_parameters": self._rope_scaling()
            | {
                "rope_theta": self._number("rope.freq_base", 1e4),
                "partial_rotary_factor": self._rotary_dim(head_dim) / head_dim,
            },
            "tie_word_embeddings": "output.weight" not in self._shapes(),
            "vocab_size": self._vocabulary_size(),
        }

    def templates(self) -> ChatTemplates | None:
        """Return the chat templates and the special tokens that they refer to; None for a base model."""
        default = self.metadata.get("tokenizer.chat_template")
        if not isinstance(default, str):
            return None
        prefix = "tokenizer.chat_template."
        keys = (key for key in self.metadata if key.startswith(prefix) and is_template_name(key.removeprefix(prefix)))
        named = {key.removeprefix(prefix): self.metadata[key] for key in keys}
        others = {name: template for name, template in named.items() if isinstance(template, str)}
        return ChatTemplates(others | {DEFAULT: default}, dict(self._named_tokens()))

    def _named_tokens(self) -> Iterator[tuple[str, str]]:
        tokens = self.metadata.get("tokenizer.ggml.tokens")
        for name, key in _TOKEN_KEYS.items():
            token_id = self.metadata.get(f"tokenizer.ggml.{key}_token_id")
            if isinstance(tokens, list) and type(token_id) is int and 0 <= token_id < len(tokens):
                yield name, str(tokens[token_id])

    def tokenizer(self, vocabulary: int, end_ids: Sequence[int] = ()) -> CheckpointTokenizer:
        """Build the tokenizer of the file's vocabulary, for a model with `vocabulary` ids. Raises CheckpointError."""
        require_tokenizers()
        kind, pattern = self.metadata.get("tokenizer.ggml.model"), self.metadata.get("tokenizer.ggml.pre")
        if kind != "gpt2" or pattern not in _PRETOKENIZERS:
            raise CheckpointError(
                f"{self.path.name}: its tokenizer is {reprlib.repr(kind)}, {reprlib.repr(pattern)}, not GLM-4's",
                hint="convert the original checkpoint, or a GGUF made by a newer llama.cpp",
            )
        tokens, types = self._strings("tokenizer.ggml.tokens"), self.metadata.get("tokenizer.ggml.token_type")
        if not isinstance(types, list) or len(types) != len(tokens):
            raise self._invalid("tokenizer.ggml.token_type", "a type for each token")
        listed = list(enumerate(zip(tokens, types, strict=True)))
        normal = {token: token_id for token_id, (token, kind) in listed if kind == _NORMAL}
        config: dict[str, Any] = {
            "added_tokens_decoder": {
                str(token_id): {"content": token, "special": kind == _CONTROL}
                for token_id, (token, kind) in listed
                if kind in (_CONTROL, _USER_DEFINED) and token != f"[PAD{token_id}]"  # fills ids without a token
            }
        }
        config |= {name: token for name, token in self._named_tokens() if name in ("eos_token", "pad_token")}
        return build_tokenizer(byte_level_bpe(normal, self._merges(normal)), vocabulary, config, end_ids)

    def generation(self) -> dict[str, Any]:
        """Return the sampling that newer files recommend, as a generation_config.json."""
        found = {ours: self.metadata[key] for key, ours in _SAMPLING_KEYS.items() if key in self.metadata}
        return {"do_sample": True} | found if "temperature" in found else found

    def image_processor(self) -> dict[str, Any]:
        """Return {}: vision models are not read from a GGUF."""
        return {}

    def licence(self) -> str:
        """Return the licence's name, "" if the file has none."""
        return str(self.metadata.get("general.license") or "")[:200]

    def weight_files(self, config: Mapping[str, Any], *, mapped: bool) -> "Sequence[GgufFile]":
        """Open the files. Raises CheckpointError if one has changed, OSError."""
        from .file import GgufFile

        return [GgufFile.open(header, mapped=mapped) for header in self.headers]

    def naming(self, architecture: Architecture) -> TensorNaming:
        """Return llama.cpp's names, with q, k and v in one matrix if the file has them so."""
        return gguf_fused_names if "blk.0.attn_qkv.weight" in self._shapes() else gguf_names

    def _require_supported(self) -> None:
        """Raise CheckpointError for another model, and for variants of GLM-4 that are not supported."""
        name = self.metadata.get("general.architecture")
        if name not in _ARCHITECTURES:
            raise CheckpointError(
                f"{self.path.name} is of the architecture {reprlib.repr(name)}, which is not supported",
                hint=f"supported in a GGUF: {', '.join(_ARCHITECTURES)}",
            )
        if any(self.metadata.get(f"{name}.rope.dimension_sections") or ()):
            raise CheckpointError(f"{self.path.name} is the text part of a vision model", hint=_TEXT_ONLY)
        if self.metadata.get(f"{name}.nextn_predict_layers"):
            raise CheckpointError(f"{self.path.name} has layers for multi-token prediction", hint=_TEXT_ONLY)

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: entry.shape for header in self.headers for name, entry in header.entries.items()}

    def _vocabulary_size(self) -> int:
        shape = self._shapes().get("token_embd.weight", ())
        if not shape:
            raise CheckpointError(
                f"{self.path.name} has no token_embd.weight", hint="pass the file of the whole model, not a part of it"
            )
        return shape[0]

    def _rotary_dim(self, head_dim: int) -> int:
        """Return how many dimensions of a head RoPE rotates: half of them in GLM-4, whatever the file states, and what
        it states in GLM-Edge. Early files state nothing, or the whole head (llama.cpp#12946)."""
        half = head_dim // 2
        found = self._get("rope.dimension_count")
        if self._is_glm_edge():
            return self._integer("rope.dimension_count", head_dim)
        if found != half:
            stated = (
                "does not say how many" if found is None else f"says that RoPE rotates {reprlib.repr(found)} of the"
            )
            warnings.warn(
                f"{self.path.name} {stated} {head_dim} dimensions of a head{' RoPE rotates' if found is None else ''}: "
                f"{half} are rotated, as in every GLM-4 (rope.dimension_count)",
                Notice,
                stacklevel=1,  # one place, so that it is shown once
            )
        return half

    def _is_glm_edge(self) -> bool:
        """Return whether this is GLM-Edge: of its architecture, the model with tied embeddings and no biases."""
        names = self._shapes().keys()
        return (
            self.metadata["general.architecture"] == "chatglm"
            and "output.weight" not in names
            and not any(name.endswith(".bias") for name in names)
        )

    def _rope_scaling(self) -> dict[str, Any]:
        """Return the `rope_parameters` that describe RoPE's type and YaRN's numbers."""
        kind = self._get("rope.scaling.type")
        if kind in (None, "none"):
            return {"rope_type": "default"}
        if kind == "linear":
            return {"rope_type": kind, "factor": self._number("rope.scaling.factor")}
        if kind != "yarn":  # rejected by its name
            return {"rope_type": kind}
        found = {
            "rope_type": kind,
            "factor": self._number("rope.scaling.factor"),
            "original_max_position_embeddings": self._integer("rope.scaling.original_context_length"),
        }
        for ours, key in (("attention_factor", "attn_factor"), ("beta_fast", "beta_fast"), ("beta_slow", "beta_slow")):
            if self._get(f"rope.scaling.yarn_{key}") is not None:
                found[ours] = self._number(f"rope.scaling.yarn_{key}")
        return found

    def _end_token_ids(self) -> list[int]:
        """Return the ids that end a reply: of a text, of a turn, and of a message with a call."""
        found = (self.metadata.get(f"tokenizer.ggml.{kind}_token_id") for kind in ("eos", "eot", "eom"))
        return list(dict.fromkeys(token_id for token_id in found if type(token_id) is int))

    def _merges(self, vocabulary: Mapping[str, int]) -> list[tuple[str, str]]:
        """Return the merges. Older files list some of three and more tokens, which neither llama.cpp nor others can
        use."""
        pairs = [merge.split(" ") for merge in self._strings("tokenizer.ggml.merges")]
        return [(p[0], p[1]) for p in pairs if len(p) == 2 and {*p, p[0] + p[1]} <= vocabulary.keys()]

    def _strings(self, key: str) -> list[str]:
        found = self.metadata.get(key)
        if not isinstance(found, list) or not found or not all(isinstance(item, str) for item in found):
            raise self._invalid(key, "a list of texts")
        return found

    def _get(self, key: str) -> Any:
        return self.metadata.get(f"{self.metadata['general.architecture']}.{key}")

    def _integer(self, key: str, default: int | None = None) -> int:
        value = default if self._get(key) is None else self._get(key)
        if type(value) is not int or not 1 <= value < 2**31:
            raise self._invalid(key, "a positive integer")
        return value

    def _number(self, key: str, default: float | None = None) -> float:
        """Return the shortest decimal of the file's f32: 1e-05 instead of 9.999999747378752e-06."""
        import numpy as np

        value = default if self._get(key) is None else self._get(key)
        if type(value) not in (int, float):
            raise self._invalid(key, "a number")
        return float(str(np.float32(value)))

    def _invalid(self, key: str, wanted: str) -> CheckpointError:
        found = self.metadata.get(key, self._get(key))
        what = "is missing" if found is None else f"is {reprlib.repr(found)}"
        return CheckpointError(f"{self.path.name}: {key} {what}; it must be {wanted}", hint=DOWNLOAD_AGAIN)
