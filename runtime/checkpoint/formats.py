"""The formats that a checkpoint comes in, a class each: a folder of safetensors files, and GGUF.

A format is added as a module with such a class and a line of FORMATS.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, Self

from ..chat_templates import ChatTemplates
from .architecture import Architecture
from .files.weight_file import WeightFile
from .gguf.checkpoint import GgufCheckpoint
from .safetensors_folder import SafetensorsFolder
from .tensor_names import TensorNaming
from .tokenizer import CheckpointTokenizer


class CheckpointFiles(Protocol):
    """The files of a checkpoint, read in the terms of a Hugging Face folder. Its methods raise CheckpointError."""

    @classmethod
    def accepts(cls, path: Path) -> bool:
        """Return whether this format is tried for `path`."""
        ...

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the checkpoint without its weights. Raises OSError, too."""
        ...

    def name(self) -> str:
        """Return the model's name."""
        ...

    def config(self) -> dict[str, Any]:
        """Return config.json."""
        ...

    def templates(self) -> ChatTemplates | None:
        """Return the chat templates and the special tokens that they refer to; None for a base model."""
        ...

    def tokenizer(self, vocabulary: int, end_ids: Sequence[int] = ()) -> CheckpointTokenizer:
        """Return the tokenizer of a model with `vocabulary` ids and these end tokens."""
        ...

    def generation(self) -> dict[str, Any]:
        """Return generation_config.json, {} if there is none."""
        ...

    def image_processor(self) -> Mapping[str, Any]:
        """Return the settings of a vision model's image processor, {} if there are none."""
        ...

    def licence(self) -> str:
        """Return the licence's name, "" if it is unknown."""
        ...

    def weight_files(self, config: Mapping[str, Any], *, mapped: bool) -> Sequence[WeightFile]:
        """Open the files of weights: `mapped` into memory, or read on demand. Raises OSError, too."""
        ...

    def naming(self, architecture: Architecture) -> TensorNaming:
        """Return where each tensor of the architecture lies in the files."""
        ...


FORMATS: tuple[type[CheckpointFiles], ...] = (GgufCheckpoint, SafetensorsFolder)  # the first that accepts a path


def open_files(path: Path) -> CheckpointFiles:
    """Open the checkpoint at `path` in its format. Raises CheckpointError, OSError."""
    return next(kind for kind in FORMATS if kind.accepts(path)).open(path)
