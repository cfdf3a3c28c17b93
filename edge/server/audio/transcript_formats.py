"""The formats of a transcript, as OpenAI's API has them: json, text, verbose_json, srt and vtt."""

import math
import zlib
from collections.abc import Callable, Iterator
from typing import Literal

from pydantic import BaseModel
from starlette.responses import JSONResponse, PlainTextResponse, Response

from runtime.speech.languages import LANGUAGE_NAMES
from runtime.speech.requests import Segment, Transcript

from .transcription_request import TranscriptFormat, TranscriptionFields


class DurationUsage(BaseModel):
    """What a transcription is billed by elsewhere: whole seconds of the recording."""

    type: Literal["duration"] = "duration"
    seconds: int


class TranscriptReply(BaseModel):
    """The text of a recording."""

    text: str
    usage: DurationUsage


class SegmentReply(BaseModel):
    """A passage of a transcript. Times are in seconds, `seek` in hundredths; `tokens` are those of the text. The engine
    does not report `avg_logprob` and `no_speech_prob`."""

    id: int
    seek: int
    start: float
    end: float
    text: str
    tokens: list[int]
    temperature: float
    avg_logprob: None = None
    compression_ratio: float
    no_speech_prob: None = None


class VerboseReply(BaseModel):
    """The text of a recording, its duration in seconds, the name of its language, and its segments."""

    task: Literal["transcribe", "translate"]
    language: str
    duration: float
    text: str
    segments: list[SegmentReply]
    usage: DurationUsage


def transcript_response(found: Transcript, fields: TranscriptionFields, *, translate: bool) -> Response:
    """Return a transcript in the format that a request asks for."""
    if fields.response_format in _TEXTS:
        return PlainTextResponse(_TEXTS[fields.response_format](found))
    usage = DurationUsage(seconds=math.ceil(found.duration))
    if fields.response_format == "json":
        return JSONResponse(TranscriptReply(text=found.text, usage=usage).model_dump())
    reply = VerboseReply(
        task="translate" if translate else "transcribe",
        language="english" if translate else LANGUAGE_NAMES.get(found.language, found.language),
        duration=found.duration,
        text=found.text,
        segments=[_segment(index, one, fields.temperature) for index, one in enumerate(found.segments)],
        usage=usage,
    )
    return JSONResponse(reply.model_dump())


def _segment(index: int, segment: Segment, temperature: float) -> SegmentReply:
    encoded = segment.text.encode()
    return SegmentReply(
        id=index,
        seek=round(segment.start * 100),
        start=segment.start,
        end=segment.end,
        text=segment.text,
        tokens=list(segment.tokens),
        temperature=temperature,
        compression_ratio=round(len(encoded) / len(zlib.compress(encoded)), 4),
    )


def _cues(found: Transcript, decimal: str) -> Iterator[str]:
    for one in found.segments:
        text = " ".join(one.text.split()).replace("-->", "->")  # an arrow would begin another cue
        yield f"{_time(one.start, decimal)} --> {_time(one.end, decimal)}\n{text}\n"


def _time(seconds: float, decimal: str) -> str:
    whole, milliseconds = divmod(round(seconds * 1000), 1000)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}{decimal}{milliseconds:03}"


def _srt(found: Transcript) -> str:
    return "".join(f"{number}\n{cue}\n" for number, cue in enumerate(_cues(found, ","), 1))


def _vtt(found: Transcript) -> str:
    return "WEBVTT\n\n" + "".join(f"{cue}\n" for cue in _cues(found, "."))


_TEXTS: dict[TranscriptFormat, Callable[[Transcript], str]] = {
    "text": lambda found: f"{found.text}\n",
    "srt": _srt,
    "vtt": _vtt,
}
