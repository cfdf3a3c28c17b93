"""The requests to speech models, and what these return."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

SAMPLE_RATE = 16_000  # Hz, of what the models hear


@dataclass(frozen=True, slots=True)
class TranscriptionRequest:
    """A recording, as the content of an audio file, and how it is transcribed. `language` is a code such as "en", None
    for the model to detect; `prompt` has the names and the spelling that the text continues. `translate` is to
    English."""

    audio: bytes
    language: str | None = None
    prompt: str = ""
    translate: bool = False
    temperature: float = 0.0


@dataclass(frozen=True, slots=True)
class TextDelta:
    """The next part of a transcript."""

    text: str


@dataclass(frozen=True, slots=True)
class Segment:
    """A passage of a transcript, from `start` to `end` in seconds. `tokens` are those of its text.

    Example:
        with edge.Transcriber("./whisper") as transcriber:
            for segment in transcriber.transcribe("question.wav").segments:
                print(f"{segment.start:.1f} s: {segment.text}")
    """

    start: float
    end: float
    text: str
    tokens: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Transcript:
    """The text of a recording, its segments, the recording's duration in seconds, and the code of its language: the
    one that was set, or that the model detected.

    Example:
        with edge.Transcriber("./whisper") as transcriber:
            transcript = transcriber.transcribe("question.wav")
        print(transcript.text, f"({transcript.duration:.1f} s)")
    """

    text: str
    segments: tuple[Segment, ...]
    duration: float
    language: str = "en"


@dataclass(frozen=True, slots=True)
class SpeechRequest:
    """A text to speak, and the name of a voice."""

    text: str
    voice: str = "default"


@dataclass(frozen=True, slots=True)
class Speech:
    """A piece of speech: samples from -1 to 1, and their rate in Hz."""

    samples: "npt.NDArray[np.float32]"
    sample_rate: int
