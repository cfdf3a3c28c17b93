"""The model folder under evaluation: its token ids, its checkpoint, and its use of memory."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from itertools import cycle
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convert.samples import Sample, read_samples
from runtime.checkpoint.architecture import Architecture, read_architecture, read_config
from runtime.checkpoint.checkpoint import Checkpoint
from runtime.device.memory import estimate, format_bytes
from runtime.errors import BackendError, ModelFolderError, RequestError, VerificationError
from runtime.folder.model_folder import CONVERT_AGAIN, ModelFolder
from runtime.messages import Message
from runtime.prompt.families import Family
from runtime.prompt.template import ChatTemplate, TextPrompt
from runtime.source import read_family, stop_tokens
from runtime.system.files import read_model_properties

from . import corpus, test_sets

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Ids = npt.NDArray[np.int64]

_DEFAULT_CONTEXT = 2048  # tokens
_OPENING = 200  # characters of a text that a base model continues


@dataclass(frozen=True)
class EvaluationTarget:
    """A model folder under evaluation. Texts are cut at `context` tokens."""

    folder: ModelFolder
    architecture: Architecture
    family: Family
    context: int

    @classmethod
    def open(cls, path: str | os.PathLike[str], context: int | None = None) -> "EvaluationTarget":
        """Open a model folder. Raises ModelFolderError, and RequestError for a vision model and for a context that the
        model lacks."""
        folder = ModelFolder.open(path)
        if folder.manifest.vision is not None:
            raise RequestError(
                "vision models are not evaluated", hint="`edge inspect` shows what the conversion measured"
            )
        longest = folder.manifest.context_length
        if context is not None and not 2 <= context <= longest:
            raise RequestError(
                f"a context of {context:,} tokens is too long or too short: the model has {longest:,}",
                hint=f"--context may be 2 to {longest:,}",
            )
        architecture = read_architecture(read_config(folder.path))
        return cls(folder, architecture, read_family(folder), context or min(_DEFAULT_CONTEXT, longest))

    def open_checkpoint(self, path: Path) -> Checkpoint:
        """Open the checkpoint that the folder was converted from.

        Raises CheckpointError, and VerificationError where it was converted from another one, or with adapters.
        """
        if adapters := self.folder.manifest.adapters:
            raise VerificationError(
                f"{self.folder.path} was converted with the adapter {adapters[0].name}, and {path} is without it",
                hint="merge the adapter with PEFT, convert the result, and compare with that",
            )
        found = Checkpoint.open(path)
        if found.architecture.context < self.architecture.context:  # the conversion extended it
            found = Checkpoint.open(path, context=self.architecture.context)
        with found.weights(mapped=False) as checkpoint:
            fingerprint = checkpoint.fingerprint()
        record = self.folder.manifest.source
        if fingerprint != record.fingerprint:
            raise VerificationError(
                f"{self.folder.path} was not converted from the checkpoint in {found.path}: their fingerprints differ",
                hint=f"pass the unchanged checkpoint {record.name} ({record.fingerprint[:12]}…)",
            )
        return found

    def token_ids(self, samples: Sequence[Sample] | None, source: Checkpoint | None = None) -> "dict[str, Ids]":
        """Return the samples' token ids by name, cut at the context.

        None selects the built-in samples and, where the context is longer than all of them, one that fills it.
        Raises RequestError where no sample has two tokens, and VerificationError where the checkpoint's tokenizer
        disagrees with the folder's.
        """
        import numpy as np

        filling = samples is None
        prompts = self._built_in_prompts() if samples is None else {s.name: self._render(s) for s in samples}
        encoded = {name: self._encode(prompt, source) for name, prompt in prompts.items()}
        found = {name: np.array(ids[: self.context]) for name, ids in encoded.items() if len(ids) > 1}
        if not found:
            raise RequestError("no text has two or more tokens", hint="use longer texts")
        if filling and max(map(len, found.values())) < self.context:
            ids = self._encode(self._filler(), source)
            found["all in a row"] = np.array(ids[: self.context])
        return found

    def reply_prompts(self) -> "dict[str, Ids]":
        """Return the token ids of prompts for greedy replies, by name; for a base model, of texts to continue."""
        import numpy as np

        if self.template is None:
            openings = {
                text.name: self._plain_prompt(text.text[:_OPENING]) for text in corpus.built_in_samples(chats=False)
            }
        else:
            questions = [q for q in corpus.questions() if not q.tools or self.family.tools]
            openings = {q.name: self.template.render_text(q.messages, q.tools) for q in questions}
        return {name: np.array(self._encode(prompt, None)) for name, prompt in openings.items()}

    @cached_property
    def template(self) -> ChatTemplate | None:
        """The chat template; None for a base model."""
        if not (self.folder.path / "chat_template.jinja").is_file():
            return None
        return ChatTemplate(self.folder.chat_templates(), self.family, self.folder.manifest.special_tokens)

    @cached_property
    def stop_ids(self) -> set[int]:
        """The token ids that end a reply."""
        special = self.folder.manifest.special_tokens
        return {special[name] for name in stop_tokens(self.folder) if name in special}

    def require_memory(self, texts: "Sequence[Ids]") -> str:
        """Raise BackendError if there is too little memory for a layer-wise evaluation.

        Return why there is too little to load the whole model, as measuring the engine requires; "" where it fits.
        """
        import psutil  # type: ignore[import-untyped]

        free = psutil.virtual_memory().available
        needed = self.layerwise_memory(texts)
        if free < needed:
            raise BackendError(
                f"the evaluation needs about {format_bytes(needed)} of memory, but {format_bytes(free)} is free",
                hint="use a shorter --context or fewer --texts, or close other programs",
            )
        from convert.estimate import PROGRAM_BYTES

        loaded = estimate(self.folder.manifest, "CPU", max(map(len, texts)), "f32").running
        whole = PROGRAM_BYTES + self.states_memory(texts) + loaded + self.logits_memory
        return f"they need {format_bytes(whole)} of memory, {format_bytes(free)} is free" if free < whole else ""

    def layerwise_memory(self, texts: "Sequence[Ids]") -> int:
        """Return the bytes of memory that a layer-wise evaluation needs."""
        from convert.check.reference import CHUNK, SCORES, VOCABULARY_ROWS
        from convert.estimate import LAYER_BYTES, PROGRAM_BYTES

        a, longest = self.architecture, max(map(len, texts))
        chunk = min(CHUNK, longest)
        layer = LAYER_BYTES * sum(prod(shape) for _, shape in a.layer_shapes(0))
        # Scores and masks; keys and values of every head, in f32; and the widest activations.
        attention = min(SCORES, 4 * a.heads * chunk * longest) + 16 * chunk * longest
        attention += 8 * longest * (a.heads + 2 * a.kv_heads) * a.head_dim + 4 * chunk * (3 * a.ffn + 4 * a.hidden)
        head = 2 * a.vocab * a.hidden + LAYER_BYTES * min(VOCABULARY_ROWS, a.vocab) * a.hidden
        return PROGRAM_BYTES + self.states_memory(texts) + max(layer + attention, head + self.logits_memory)

    @property
    def logits_memory(self) -> int:
        """Bytes of one block of both models' logits, and of the arrays computed from them."""
        from convert.check.reference import POSITIONS

        return 3 * 4 * POSITIONS * self.architecture.vocab

    def states_memory(self, texts: "Sequence[Ids]") -> int:
        """Return the bytes of the hidden states kept for the texts: the folder's, the checkpoint's, and a setting's."""
        return 3 * 4 * self.architecture.hidden * sum(map(len, texts))

    def describe(self, source: Checkpoint | None) -> dict[str, Any]:
        """Return the fields of `Report` that describe the target."""
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

    def _render(self, sample: Sample) -> TextPrompt:
        if sample.rendered:
            return (sample.rendered,)
        if not sample.messages:
            return self._plain_prompt(sample.text)
        if self.template is None:
            raise RequestError(
                f"{sample.name} is a chat, and a base model has no format for chats", hint="use texts instead"
            )
        return self.template.render_text(sample.messages, sample.tools, add_generation_prompt=False)

    def _plain_prompt(self, text: str) -> TextPrompt:
        """Return a text as the prompt of a completion: special tokens spelled in it stay text."""
        plain = ChatTemplate(
            self.family.prefix + "{{ messages[0].content }}", self.family, self.folder.manifest.special_tokens
        )
        return plain.render_text([Message("user", text)])

    @cached_property
    def _own_prompts(self) -> Mapping[str, TextPrompt]:
        """The texts of the checkpoint's own test set; empty where it has none."""
        path = test_sets.find(self.folder.manifest.source.fingerprint, "texts.jsonl")
        samples = read_samples(path) if path else ()
        return {f"dialogues: {number}": self._render(sample) for number, sample in enumerate(samples)}

    def _built_in_prompts(self) -> Mapping[str, TextPrompt]:
        if self._own_prompts:
            return self._own_prompts
        chats = self.template is not None and self.family.tools
        return {sample.name: self._render(sample) for sample in corpus.built_in_samples(bool(chats))}

    def _filler(self) -> TextPrompt:
        """Return a prompt of at least as many tokens as the context has."""
        own = self._own_prompts.values()
        pieces = ("".join(prompt) for prompt in cycle(own)) if own else corpus.filler_paragraphs()
        text, tokens = "", 0
        while tokens < self.context:
            piece = next(pieces)
            text += piece
            tokens += len(self._encode((piece,), None))
        return (text,) if own else self._plain_prompt(text)

    def _encode(self, prompt: TextPrompt, source: Checkpoint | None) -> list[int]:
        ids: list[int] = []
        for piece in prompt:
            found = self._tokenizer.encode(piece, add_special_tokens=False).input_ids.data[0].tolist()
            if source is not None and found != source.tokenizer.encode(piece):
                raise VerificationError(
                    f"the tokenizers of the folder and of {source.path} disagree at {piece[:40]!r}", hint=CONVERT_AGAIN
                )
            ids += found
        return ids

    @cached_property
    def _tokenizer(self) -> Any:
        import openvino_genai as genai

        try:
            return genai.Tokenizer(
                str(self.folder.path), **read_model_properties(self.folder.path / "openvino_tokenizer.bin")
            )
        except RuntimeError as exc:
            raise ModelFolderError(f"the tokenizer of {self.folder.path} cannot be loaded", hint=CONVERT_AGAIN) from exc
