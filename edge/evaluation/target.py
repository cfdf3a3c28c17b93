"""What `edge eval` judges: a model folder, its prompt format and its tokenizer, and whether a checkpoint is its own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from itertools import cycle
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.checkpoint.architecture import Architecture, read_architecture, read_config
from runtime.checkpoint.checkpoint import Checkpoint
from runtime.device.memory import estimate, gigabytes
from runtime.errors import BackendError, ModelFolderError, RequestError, VerificationError
from runtime.folder.model_folder import CONVERT_AGAIN, ModelFolder
from runtime.messages import Message
from runtime.prompt import families
from runtime.prompt.families import Family
from runtime.prompt.template import Prompt, Template
from runtime.system.files import openvino_reads

from . import corpus as library
from .corpus import Sample

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Ids = npt.NDArray[np.int64]

_DEFAULT_CONTEXT = 2048  # tokens, where none are asked for
_OPENING = 200  # characters from which a base model goes on
_DEMO_DIALOGUES = 24
# Bytes, measured: the program with its engines; and for each weight of a layer or of the block of the head at hand.
_PROGRAM, _WEIGHT_BYTES = 500 * 2**20, 6


@dataclass(frozen=True)
class EvaluationTarget:
    """A model folder; texts of at most `context` tokens are read."""

    folder: ModelFolder
    architecture: Architecture
    family: Family
    context: int

    @classmethod
    def open(cls, path: Path, context: int | None = None) -> "EvaluationTarget":
        """Raises ModelFolderError, or RequestError where the context is not the model's."""
        folder = ModelFolder.open(path)
        longest = folder.manifest.context_length
        if context is not None and not 2 <= context <= longest:
            raise RequestError(
                f"a context of {context:,} tokens was asked for, the model has {longest:,}",
                hint=f"--context takes 2 to {longest:,}",
            )
        architecture = read_architecture(read_config(folder.path))
        family = families.get(folder.manifest.family)
        return cls(folder, architecture, family, context or min(_DEFAULT_CONTEXT, longest))

    def open_checkpoint(self, path: Path) -> Checkpoint:
        """The checkpoint in that folder. Raises CheckpointError, and VerificationError where the folder was not made of
        it."""
        found = Checkpoint.open(path)
        with found.weights(mapped=False) as checkpoint:
            fingerprint = checkpoint.fingerprint()
        made_of = self.folder.manifest.source
        if fingerprint != made_of.fingerprint:
            raise VerificationError(
                f"{self.folder.path} was not made of the checkpoint in {found.path}: their fingerprints differ",
                hint=f"it was made of {made_of.name} ({made_of.fingerprint[:12]}…), unchanged",
            )
        return found

    def token_ids(self, samples: Sequence[Sample] | None, source: Checkpoint | None = None) -> "dict[str, Ids]":
        """The token ids of the samples, by name, cut at the context; None takes the built-in ones and, where the
        context is longer than those, a text that fills it.

        Raises RequestError where nothing is left, and VerificationError where the checkpoint's tokenizer splits a text
        otherwise.
        """
        import numpy as np

        filling = samples is None
        prompts = self._built_in_prompts() if samples is None else {s.name: self._render(s) for s in samples}
        encoded = {name: self._encode(prompt, source) for name, prompt in prompts.items()}
        found = {name: np.array(ids[: self.context]) for name, ids in encoded.items() if len(ids) > 1}
        if not found:
            raise RequestError("no text has two tokens", hint="give longer texts")
        if filling and max(map(len, found.values())) < self.context:
            ids = self._encode(self._filler(prompts), source)
            found["all in a row"] = np.array(ids[: self.context])
        return found

    def reply_prompts(self) -> "dict[str, Ids]":
        """Prompts that ask for a reply, by name; the beginnings of texts for a base model."""
        import numpy as np

        if self.template is None:
            openings = {
                text.name: self._plain_prompt(text.text[:_OPENING]) for text in library.built_in(dialogues=False)
            }
        else:
            asked = [q for q in library.QUESTIONS if not q.tools or self.family.tools]
            openings = {q.name: self.template.render(q.messages, q.tools) for q in asked}
        return {name: np.array(self._encode(prompt, None)) for name, prompt in openings.items()}

    @cached_property
    def template(self) -> Template | None:
        """None for a base model."""
        if not (self.folder.path / "chat_template.jinja").is_file():
            return None
        return Template(self.folder.chat_template(), self.family, self.folder.manifest.special_tokens)

    @cached_property
    def stop_ids(self) -> set[int]:
        special = self.folder.manifest.special_tokens
        return {special[name] for name in self.family.stop_tokens if name in special}

    def require_memory(self, texts: "Sequence[Ids]") -> str:
        """Raises BackendError where memory is too little for the figures. Returns why the model cannot be loaded as a
        whole, which the engine's settings need; "" where it can."""
        import psutil  # type: ignore[import-untyped]

        free = psutil.virtual_memory().available
        needed = self.layerwise_memory(texts)
        if free < needed:
            raise BackendError(
                f"the evaluation needs about {gigabytes(needed)} of memory, but {gigabytes(free)} is free",
                hint="ask for less with --context or --texts, or close other programs",
            )
        loaded = estimate(self.folder.manifest, "CPU", max(map(len, texts)), "f32").running
        whole = _PROGRAM + self.states_memory(texts) + loaded + self.logits_memory
        return f"they need {gigabytes(whole)} of memory, {gigabytes(free)} is free" if free < whole else ""

    def layerwise_memory(self, texts: "Sequence[Ids]") -> int:
        """Bytes of memory that the figures take, the model a layer at a time."""
        from convert.check.reference import CHUNK, SCORES, VOCABULARY_ROWS

        a, longest = self.architecture, max(map(len, texts))
        chunk = min(CHUNK, longest)
        layer = _WEIGHT_BYTES * sum(prod(shape) for _, shape in a.layer_shapes(0))
        # Scores and masks; keys and values of every head, in f32; and the widest activations.
        attention = min(SCORES, 4 * a.heads * chunk * longest) + 16 * chunk * longest
        attention += 8 * longest * (a.heads + 2 * a.kv_heads) * a.head_dim + 4 * chunk * (3 * a.ffn + 4 * a.hidden)
        head = 2 * a.vocab * a.hidden + _WEIGHT_BYTES * min(VOCABULARY_ROWS, a.vocab) * a.hidden
        return _PROGRAM + self.states_memory(texts) + max(layer + attention, head + self.logits_memory)

    @property
    def logits_memory(self) -> int:
        """Bytes of both models' logits at a time, and of what is computed with them."""
        from convert.check.reference import POSITIONS

        return 3 * 4 * POSITIONS * self.architecture.vocab

    def states_memory(self, texts: "Sequence[Ids]") -> int:
        """Bytes of what is kept of each text: the converted model's states, the checkpoint's, and a setting's."""
        return 3 * 4 * self.architecture.hidden * sum(map(len, texts))

    @cached_property
    def is_the_demo(self) -> bool:
        """Whether the folder was made of the embedded checkpoint."""
        from ..demo import CHECKPOINT

        if self.folder.manifest.source.name != CHECKPOINT.name or not (CHECKPOINT / "model.safetensors").is_file():
            return False
        with Checkpoint.open(CHECKPOINT).weights() as checkpoint:
            return checkpoint.fingerprint() == self.folder.manifest.source.fingerprint

    def describe(self, source: Checkpoint | None) -> dict[str, Any]:
        """What a report says of it."""
        from runtime.device.machine import detect

        manifest, machine = self.folder.manifest, detect()
        weights = manifest.files["openvino_model.bin"].size
        parameters = sum(prod(shape) for _, shape in self.architecture.shapes())
        checkpoint_weights = 0
        if source:
            with source.weights() as checkpoint:
                checkpoint_weights = checkpoint.nbytes
        return {
            "folder": str(self.folder.path),
            "recipe": manifest.recipe,
            "checkpoint": manifest.source.name if source else "",
            "machine": f"{machine.cpu.name}, {machine.cpu.cores} cores, {', '.join(machine.cpu.isa)}",
            "context": self.context,
            "weights": weights,
            "bits_per_weight": 8 * weights / parameters,
            "checkpoint_weights": checkpoint_weights,
            "versions": {name: version(name) for name in ("openvino", "openvino-genai")},
        }

    def _render(self, sample: Sample) -> Prompt:
        if not sample.messages:
            return self._plain_prompt(sample.text)
        if self.template is None:
            raise RequestError(f"{sample.name} is a dialogue, for which a base model has no format", hint="give texts")
        return self.template.render(sample.messages, sample.tools, add_generation_prompt=False)

    def _plain_prompt(self, text: str) -> Prompt:
        """As a completion's prompt: special tokens spelled in the text stay text."""
        plain = Template(
            self.family.prefix + "{{ messages[0].content }}", self.family, self.folder.manifest.special_tokens
        )
        return plain.render([Message("user", text)])

    def _built_in_prompts(self) -> dict[str, Prompt]:
        """The embedded checkpoint knows nothing of the world, so it is judged by dialogues of its own kind."""
        if not self.is_the_demo:
            dialogues = self.template is not None and self.family.tools
            return {sample.name: self._render(sample) for sample in library.built_in(dialogues)}
        from ..demo.training.dialogues import held_out
        from ..demo.training.prompt import render

        said = held_out(count=_DEMO_DIALOGUES)
        return {f"dialogues: {number}": (render(one) + one.reply,) for number, one in enumerate(said)}

    def _filler(self, prompts: Mapping[str, Prompt]) -> Prompt:
        """A text of at least as many tokens as the context has."""
        text, tokens = "", 0
        pieces = (
            ("".join(prompt) for prompt in cycle(prompts.values())) if self.is_the_demo else library.filler_paragraphs()
        )
        while tokens < self.context:
            piece = next(pieces)
            text += piece
            tokens += len(self._encode((piece,), None))
        return (text,) if self.is_the_demo else self._plain_prompt(text)

    def _encode(self, prompt: Prompt, source: Checkpoint | None) -> list[int]:
        ids: list[int] = []
        for piece in prompt:
            found = self._tokenizer.encode(piece, add_special_tokens=False).input_ids.data[0].tolist()
            if source is not None and found != source.tokenizer.encode(piece):
                raise VerificationError(
                    f"the folder's tokenizer and that of {source.path} part at {piece[:40]!r}", hint=CONVERT_AGAIN
                )
            ids += found
        return ids

    @cached_property
    def _tokenizer(self) -> Any:
        import openvino_genai as genai

        try:
            return genai.Tokenizer(str(self.folder.path), **openvino_reads(self.folder.path / "openvino_tokenizer.bin"))
        except RuntimeError as exc:
            raise ModelFolderError(f"{self.folder.path} has no tokenizer that runs", hint=CONVERT_AGAIN) from exc
