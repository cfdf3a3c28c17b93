"""A speech recognition model: a recording in, its text out."""

import os
from pathlib import Path
from types import TracebackType

from ..cancellation import Cancellation
from ..errors import ModelFolderError, RequestError
from ..folder.model_folder import ModelFolder
from ..system.files import expand_user, read_bounded
from .audio import MAX_BYTES
from .requests import Transcript, TranscriptionRequest
from .speech_process import SpeechProcess


class Transcriber:
    """A loaded speech recognition model, Whisper, in a process of its own. `device` is the CPU or a GPU.

    Raises ModelFolderError for a folder of another kind, BackendError if it cannot be loaded.

    Example:
        with edge.Transcriber("./whisper") as transcriber:
            print(transcriber.transcribe("question.wav", language="en").text)
    """

    def __init__(self, folder: str | os.PathLike[str] | ModelFolder, *, device: str = "CPU") -> None:
        opened = folder if isinstance(folder, ModelFolder) else ModelFolder.open(folder)
        if opened.manifest.task != "transcription":
            raise ModelFolderError(
                f"{opened.path} is not a speech recognition model", hint="`edge adopt` makes one of an export"
            )
        self._process = SpeechProcess(opened, device)

    def transcribe(
        self,
        audio: str | os.PathLike[str] | bytes,
        *,
        language: str | None = None,
        prompt: str = "",
        translate: bool = False,
        temperature: float = 0.0,
        cancellation: Cancellation | None = None,
    ) -> Transcript:
        """Return the text of a recording: a file (WAV, FLAC, Ogg, MP3) of at most 25 MB and 30 minutes, or its content.
        `language` is a code such as "en"; without it, the model detects it. `prompt` has names and spellings that the
        text is to follow. Raises RequestError, also if it is cancelled."""
        if not 0 <= temperature <= 1:
            raise RequestError(f"the temperature is {temperature}", hint="use 0 to 1")
        content = audio if isinstance(audio, bytes) else _read(audio)
        request = TranscriptionRequest(content, language, prompt, translate, temperature)
        for part in self._process.run(request, cancellation):
            if isinstance(part, Transcript):
                return part
        raise RequestError("the transcription was cancelled", hint="send the recording again")

    def close(self) -> None:
        """Unload the model. Requests that run fail."""
        self._process.close()

    def __enter__(self) -> "Transcriber":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _read(path: str | os.PathLike[str]) -> bytes:
    place: Path = expand_user(path)
    try:
        return read_bounded(place, MAX_BYTES)
    except OSError as exc:
        raise RequestError(
            f"{place} cannot be read: {(exc.strerror or str(exc)).lower()}",
            hint="pass a recording of at most 25 MB: WAV, FLAC, Ogg or MP3",
        ) from exc
