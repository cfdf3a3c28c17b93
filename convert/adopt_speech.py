"""`adopt` of a speech model: Whisper or SpeechT5, as optimum-cli exports them. It is run once, on a second of noise or
a sentence; whether it hears and speaks well cannot be checked here."""

import io
import wave
from hashlib import sha256
from pathlib import Path

import numpy as np

from runtime.errors import BackendError, ConversionError, VerificationError
from runtime.folder.manifest import CheckpointRecord, FileRecord, Manifest, ModelSizes, Task
from runtime.folder.model_folder import ModelFolder, file_sha256
from runtime.progress import Progress
from runtime.retrieval.encoder_graph import read_config
from runtime.speech.audio import require_libraries
from runtime.speech.requests import SAMPLE_RATE
from runtime.speech.synthesizer import Synthesizer
from runtime.speech.transcriber import Transcriber
from runtime.version import VERSION

from .adopt_encoder import ADOPTED, seal
from .job import Steps
from .output.linked_copy import link_export
from .output.scratch import ScratchFolder

_ENCODER = "openvino_encoder_model.xml"
_TASKS: dict[str, Task] = {"WhisperForConditionalGeneration": "transcription", "SpeechT5ForTextToSpeech": "speech"}
_GRAPHS: dict[Task, tuple[str, ...]] = {
    "transcription": ("encoder_model", "decoder_model", "tokenizer", "detokenizer"),
    "speech": ("encoder_model", "decoder_model", "postnet", "vocoder", "tokenizer"),
}
_SETTINGS: dict[Task, tuple[str, ...]] = {
    "transcription": ("generation_config.json", "preprocessor_config.json"),
    "speech": (),
}
_COPIED = ("*.json", "openvino_*.xml", "openvino_*.bin", "voice_*.bin", "*.txt", "*.model", "README.md", "LICENSE*")
_CONTEXT = {"transcription": "max_target_positions", "speech": "max_text_positions"}
_AGAIN = "export the checkpoint again, with optimum-cli and openvino-tokenizers installed"


def speech_task(folder: Path) -> Task | None:
    """Return what the exported speech model of a folder does, None for a folder of another kind. Raises ConversionError
    for a model of several graphs that is neither Whisper nor SpeechT5."""
    if not (folder / _ENCODER).is_file():
        return None
    names = read_config(folder).get("architectures")
    name = str(names[0]) if isinstance(names, list) and names else "no architecture"
    if name not in _TASKS:
        raise ConversionError(
            f"{folder} has {name[:80]} in its config.json", hint=f"speech models that run here are {', '.join(_TASKS)}"
        )
    return _TASKS[name]


def adopt_speech(folder: Path, scratch: ScratchFolder | None, task: Task) -> Steps:
    """Check the folder of a speech model, and make it a model folder, step by step. Raises ConversionError or
    VerificationError."""
    yield Progress("check", "graphs and config.json")
    require_libraries()
    files = [f"openvino_{name}.{end}" for name in _GRAPHS[task] for end in ("xml", "bin")]
    for name in (*files, *_SETTINGS[task]):
        if not (folder / name).is_file():
            raise ConversionError(f"{folder} has no {name}", hint=_AGAIN)
    config = read_config(folder)
    context = config.get(_CONTEXT[task])
    weights = {path.name: FileRecord(path.stat().st_size, file_sha256(path)) for path in folder.glob("openvino_*.bin")}
    listed = "".join(f"{name} {weights[name].sha256}\n" for name in sorted(weights))
    manifest = Manifest(
        family="base",
        recipe=ADOPTED,
        source=CheckpointRecord(
            folder.resolve().name, str(config["architectures"][0]), sha256(listed.encode()).hexdigest()
        ),
        context_length=context if isinstance(context, int) and context > 0 else 448,
        kv_bytes_per_token=0,
        special_tokens={},
        versions={"glm4-edge": VERSION},
        sizes=ModelSizes(weights=sum(record.size for record in weights.values())),
        paged=False,
        task=task,
    )
    yield Progress("check", done=1, total=1)
    if scratch is not None:
        link_export(folder, _COPIED, scratch.path)
    opened = ModelFolder(folder if scratch is None else scratch.path, manifest)
    yield Progress("verify", "a second of noise" if task == "transcription" else "a sentence", 0, 1)
    try:
        _verify(opened)
    except BackendError as exc:
        raise VerificationError(f"{folder} does not run: {exc}", hint=_AGAIN) from exc
    yield Progress("verify", done=1, total=1)
    yield Progress("seal", "hashes")
    yield from seal(folder, scratch, manifest, weights)


def _verify(folder: ModelFolder) -> None:
    """Raise EdgeError unless the model hears a recording, or speaks a sentence in each of its voices."""
    if folder.manifest.task == "transcription":
        with Transcriber(folder) as transcriber:
            transcriber.transcribe(_noise())
        return
    with Synthesizer(folder) as synthesizer:
        for voice in synthesizer.voices:
            synthesizer.speak("The ships lie in the harbour.", voice=voice)


def _noise() -> bytes:
    """Return the content of a WAV file with a second of noise."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(np.random.default_rng(1).integers(-3000, 3000, SAMPLE_RATE).astype("<i2").tobytes())
    return out.getvalue()
