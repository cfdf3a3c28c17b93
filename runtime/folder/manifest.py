"""The manifest of a model folder: what `edge.json` says of the model, and of each file."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from ..picture_size import PictureSize
from ..text import replace_surrogates

Task = Literal["chat", "embedding", "rerank", "transcription", "speech"]
# Of the vectors of a text's tokens: the first one, their average, the last one; or the graph returns one vector.
Pooling = Literal["cls", "mean", "last", "graph"]

FORMAT_VERSION = 1
_SIZE_KEYS = {"embedding_bytes": "gathered"}  # fields of ModelSizes whose keys in the file differ


@dataclass(frozen=True, slots=True)
class FileRecord:
    """A file's size in bytes and its hash."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class CheckpointRecord:
    """The checkpoint that a model was converted from: its name, its architecture, and a hash of its content."""

    name: str
    architecture: str
    fingerprint: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", replace_surrogates(self.name))  # a folder's name, in any encoding


@dataclass(frozen=True, slots=True)
class AdapterRecord:
    """A LoRA adapter that was merged: its folder's name, a sha256 over its config and weights, and its weight."""

    name: str
    sha256: str
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class ModelSizes:
    """The sizes that the memory of a loaded model depends on.

    Bytes: `weights` of all constants, `embedding_bytes` of the embedding if the model only looks up its rows, `largest`
    of the largest constant. `groups` counts the scales of int4 weights; the rest are the decoder's dimensions.
    """

    weights: int
    embedding_bytes: int = 0
    largest: int = 0
    groups: int = 0
    layers: int = 0
    hidden: int = 0
    ffn: int = 0
    vocab: int = 0
    kv_heads: int = 0


@dataclass(frozen=True, slots=True)
class EmbeddingSettings:
    """How an embedding model makes one vector of a text: its `prompt` goes before the text, the vectors of the tokens
    are pooled, and the result has length 1 if the model says `normalize`. A `matryoshka` model was trained so that the
    first dimensions of a vector are a vector, too."""

    pooling: Pooling
    normalize: bool = True
    prompt: str = ""
    matryoshka: bool = False


@dataclass(frozen=True, slots=True)
class VisionRecord:
    """The image tower of a vision model: its kind, and the `nbytes` of its weights.

    A tower for pictures of one size has the side of these in pixels and the `tokens` that it makes of one; another has
    `picture_size`, the rule. `shifts` counts those of a token's position that an embedding begins with.
    """

    tower: str
    image_size: int = 0
    tokens: int = 0
    shifts: int = 1
    picture_size: PictureSize | None = None
    nbytes: int = 0


@dataclass(frozen=True, slots=True)
class Manifest:
    """The content of `edge.json`.

    `family` names the prompt format, `special_tokens` maps each special token to its id, `stop_tokens` are those that
    end a reply, and `sampling` has the settings that the checkpoint recommends. `kv_bytes_per_token` is for an f16
    cache, `devices` describes what each device needs, as computed from `sizes`, and `verification` has the figures
    measured after the conversion. `template_tokens` are the variables by which a chat template names special tokens,
    such as `eos_token`. If `paged`, the graph supports PagedAttention: requests are batched and share a cache.
    `adapters` were merged into the weights. `task` is what the model does: a reranking model scores documents for a
    query, one of "transcription" writes down recordings, one of "speech" speaks texts, and an embedding model has
    `embedding`. A model that reads pictures has `vision`. Folders written before stop tokens and sampling were recorded
    have `stop_tokens` () and `sampling` None.
    """

    family: str
    recipe: str
    source: CheckpointRecord
    context_length: int
    kv_bytes_per_token: int
    special_tokens: Mapping[str, int]
    stop_tokens: tuple[str, ...] = ()
    sampling: Mapping[str, int | float] | None = None
    licence: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    devices: Mapping[str, str] = field(default_factory=dict)
    sizes: ModelSizes | None = None
    verification: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    paged: bool = True
    adapters: tuple[AdapterRecord, ...] = ()
    template_tokens: Mapping[str, str] = field(default_factory=dict)
    task: Task = "chat"
    embedding: EmbeddingSettings | None = None
    vision: VisionRecord | None = None
    files: Mapping[str, FileRecord] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    def to_json(self) -> dict[str, Any]:
        """Return the manifest under the keys of `edge.json`."""
        data = asdict(self)
        if self.sizes is not None:
            data["sizes"] = {_SIZE_KEYS.get(name, name): value for name, value in data["sizes"].items()}
        return data


def with_field_names(data: Any) -> Any:
    """Return a manifest's JSON with the names of our fields in place of the file's keys."""
    if not isinstance(data, dict) or not isinstance(data.get("sizes"), dict):
        return data
    fields = {key: name for name, key in _SIZE_KEYS.items()}
    return data | {"sizes": {fields.get(key, key): value for key, value in data["sizes"].items()}}
