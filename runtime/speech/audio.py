"""Audio files: what a recording says in its header is checked before it is decoded, and no more is decoded than that.

Decoders are written in C, and recordings come from anyone: call `decode` in a process that may crash.
"""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from ..errors import BackendError, RequestError
from ..system.installation import install_hint
from .requests import SAMPLE_RATE, Speech

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

MAX_BYTES = 25 * 10**6  # of a file: OpenAI's limit
MAX_SECONDS = 1800
_MIN_SECONDS = 0.1
_MAX_CHANNELS = 8
_RATES = (4_000, 384_000)  # Hz
_BLOCK = 1 << 16  # frames that are decoded at once
_FORMATS = {"WAV": "WAV", "WAVEX": "WAV", "FLAC": "FLAC", "OGG": "Ogg", "MP3": "MP3", "MPEG": "MP3"}
_SEND = "send a recording as WAV, FLAC, Ogg (Vorbis or Opus) or MP3"
# libsndfile's names of what is written: the file's format, that of its samples, and the rate if it is not the model's.
_WRITTEN = {
    "wav": ("WAV", "PCM_16", None),
    "flac": ("FLAC", "PCM_16", None),
    "mp3": ("MP3", "MPEG_LAYER_III", None),
    "opus": ("OGG", "OPUS", None),
    "pcm": ("RAW", "PCM_16", 24_000),  # without a header: OpenAI's clients take it for 24 kHz
}


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """A format in which speech is sent: its name and media type."""

    name: str
    media_type: str


AUDIO_FORMATS = {
    "mp3": AudioFormat("mp3", "audio/mpeg"),
    "opus": AudioFormat("opus", "audio/ogg"),
    "flac": AudioFormat("flac", "audio/flac"),
    "wav": AudioFormat("wav", "audio/wav"),
    "pcm": AudioFormat("pcm", "audio/pcm"),
}


def require_libraries() -> None:
    """Raise BackendError if the libraries of audio files are not installed."""
    if missing := [name for name in ("soundfile", "soxr") if find_spec(name) is None]:
        raise BackendError(f"speech needs {', '.join(missing)}, which is not installed", hint=install_hint("speech"))


def decode(content: bytes) -> "npt.NDArray[np.float32]":
    """Return a recording as samples of one channel at 16 kHz. Raises RequestError for anything that is no recording, or
    a longer one than MAX_SECONDS."""
    import numpy as np
    import soundfile
    import soxr

    require_size(len(content))
    if not _is_audio(content):
        raise RequestError("the file is no recording that is read here", hint=_SEND)
    try:
        with soundfile.SoundFile(io.BytesIO(content)) as file:
            _require_header(file)
            stream = soxr.ResampleStream(file.samplerate, SAMPLE_RATE, 1, dtype="float32")
            parts = [stream.resample_chunk(block) for block in _mono_blocks(file)]
            parts.append(stream.resample_chunk(np.zeros(0, np.float32), last=True))
    except soundfile.LibsndfileError as exc:
        raise RequestError(f"the recording is damaged: {exc.error_string}", hint=_SEND) from exc
    samples = np.concatenate(parts)
    if len(samples) < _MIN_SECONDS * SAMPLE_RATE:
        raise RequestError(
            f"the recording has {len(samples) / SAMPLE_RATE:.2f} seconds, and needs {_MIN_SECONDS}", hint="record more"
        )
    if not np.isfinite(samples).all():
        raise RequestError("the recording has samples that are no numbers (NaN or infinity)", hint="record it again")
    return np.asarray(np.clip(samples, -1, 1), np.float32)


def require_size(nbytes: int) -> None:
    """Raise RequestError for a file that is empty or too large."""
    if not nbytes:
        raise RequestError("the file is empty", hint=_SEND)
    if nbytes > MAX_BYTES:
        raise RequestError(
            f"the file has {nbytes:,} bytes, and may have {MAX_BYTES:,}", hint="compress it, or send it in parts"
        )


def encode(pieces: Sequence[Speech], name: str) -> bytes:
    """Return pieces of speech as the content of a file of the format `name` of AUDIO_FORMATS."""
    import numpy as np
    import soundfile
    import soxr

    container, subtype, wanted = _WRITTEN[name]
    samples, rate = np.clip(np.concatenate([piece.samples for piece in pieces]), -1, 1), pieces[0].sample_rate
    if wanted is not None and wanted != rate:
        samples, rate = np.clip(soxr.resample(samples, rate, wanted), -1, 1), wanted
    out = io.BytesIO()
    endian = "LITTLE" if container == "RAW" else None
    soundfile.write(out, samples, rate, format=container, subtype=subtype, endian=endian)
    return out.getvalue()


def _is_audio(content: bytes) -> bool:
    """Return whether the first bytes are those of a format that we read: libsndfile knows many more."""
    wav = content[:4] == b"RIFF" and content[8:12] == b"WAVE"
    mp3 = content[:3] == b"ID3" or (content[0] == 0xFF and content[1:2] >= b"\xe0")
    return wav or mp3 or content[:4] in (b"fLaC", b"OggS")


def _require_header(file: Any) -> None:
    """Raise RequestError for a format, a number of channels, a rate or a duration that is not read."""
    if file.format not in _FORMATS:
        raise RequestError(f"recordings of the format {file.format} are not read", hint=_SEND)
    if not 1 <= file.channels <= _MAX_CHANNELS:
        raise RequestError(f"the recording has {file.channels} channels", hint=f"send 1 to {_MAX_CHANNELS}")
    if not _RATES[0] <= file.samplerate <= _RATES[1]:
        raise RequestError(f"the recording has a sample rate of {file.samplerate:,} Hz", hint="send one of 16,000 Hz")
    if file.frames <= 0:
        raise RequestError("the recording has no sound", hint=_SEND)
    _require_duration(file.frames, file.samplerate)


def _require_duration(frames: int, rate: int) -> None:
    if frames > MAX_SECONDS * rate:
        raise RequestError(
            f"the recording is longer than {MAX_SECONDS // 60} minutes",
            hint="send it in parts",
        )


def _mono_blocks(file: Any) -> "Iterator[npt.NDArray[np.float32]]":
    """Yield the average of all channels; what the header promised is checked once more."""
    count = 0
    for block in file.blocks(_BLOCK, dtype="float32", always_2d=True):
        count += len(block)
        _require_duration(count, file.samplerate)
        yield block.mean(-1)
