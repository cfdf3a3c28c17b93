"""A text-to-speech model: a text in, speech out."""

import os
from types import TracebackType

from ..cancellation import Cancellation
from ..errors import ModelFolderError, RequestError
from ..folder.model_folder import ModelFolder
from .audio import AUDIO_FORMATS, encode
from .requests import Speech, SpeechRequest
from .speech_process import SpeechProcess
from .voices import DEFAULT_VOICE, list_voices


class Synthesizer:
    """A loaded text-to-speech model, SpeechT5, in a process of its own. `device` is the CPU or a GPU.

    Raises ModelFolderError for a folder of another kind, BackendError if it cannot be loaded.

    Example:
        from pathlib import Path

        with edge.Synthesizer("./speecht5") as synthesizer:
            Path("answer.wav").write_bytes(synthesizer.speak("The museum opens at ten."))
    """

    def __init__(self, folder: str | os.PathLike[str] | ModelFolder, *, device: str = "CPU") -> None:
        opened = folder if isinstance(folder, ModelFolder) else ModelFolder.open(folder)
        if opened.manifest.task != "speech":
            raise ModelFolderError(
                f"{opened.path} is not a text-to-speech model", hint="`edge adopt` makes one of an export"
            )
        self.voices = tuple(list_voices(opened.path))
        self._process = SpeechProcess(opened, device)

    def speak(
        self,
        text: str,
        *,
        voice: str = DEFAULT_VOICE,
        audio_format: str = "wav",
        cancellation: Cancellation | None = None,
    ) -> bytes:
        """Return a text of at most 4,096 characters as speech: the content of a file. `audio_format` is wav, flac, mp3,
        opus (in Ogg), or pcm (16 bits, 24 kHz, without a header). Raises RequestError, also if it is cancelled."""
        if audio_format not in AUDIO_FORMATS:
            raise RequestError(
                f"the format {audio_format[:80]!r} is not written", hint=f"use {', '.join(AUDIO_FORMATS)}"
            )
        pieces: list[Speech] = list(self._process.run(SpeechRequest(text, voice), cancellation))
        if cancellation is not None and cancellation.cancelled:
            raise RequestError("the speech was cancelled", hint="send the text again")
        return encode(pieces, audio_format)

    def close(self) -> None:
        """Unload the model. Requests that run fail."""
        self._process.close()

    def __enter__(self) -> "Synthesizer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
