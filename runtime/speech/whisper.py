"""Whisper in OpenVINO GenAI: a recording in, its text and the times of its segments out."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..errors import RequestError
from ..system.native_effects import disable_alternate_signal_stack
from .audio import decode
from .requests import SAMPLE_RATE, Segment, TextDelta, Transcript, TranscriptionRequest

_MAX_PROMPT = 223  # tokens: half of what the decoder reads, without the one that begins a prompt


class WhisperEngine:
    """A loaded Whisper. It runs in the process that calls it."""

    def __init__(self, folder: Path, device: str) -> None:
        import openvino_genai as genai

        try:
            self._pipeline: Any = genai.WhisperPipeline(folder, device)
        finally:
            disable_alternate_signal_stack()
        self._genai = genai

    def run(self, request: TranscriptionRequest, send: Callable[[Any], None], cancelled: Callable[[], bool]) -> None:
        """Send the text as it is recognized, and last the transcript. Raises RequestError."""
        settings = self._settings(request)
        samples = decode(request.audio)
        if cancelled():
            return
        status = self._genai.StreamingStatus

        def stream(text: str) -> Any:
            if cancelled():
                return status.CANCEL
            send(TextDelta(text))
            return status.RUNNING

        found = self._pipeline.generate(samples, settings, stream)
        if cancelled():
            return
        duration = len(samples) / SAMPLE_RATE
        segments = tuple(self._segment(chunk, duration) for chunk in found.chunks or () if chunk.text)
        send(Transcript(found.texts[0].strip(), segments, duration, found.language or "en"))

    def _segment(self, chunk: Any, duration: float) -> Segment:
        """Return a segment within the recording: the model hears silence after its end, and has -1 for an end that it
        does not know."""
        start = min(max(chunk.start_ts, 0.0), duration)
        end = duration if chunk.end_ts < 0 else min(max(chunk.end_ts, start), duration)
        return Segment(round(start, 2), round(end, 2), chunk.text, tuple(self._tokens(chunk.text).flatten().tolist()))

    def _tokens(self, text: str) -> Any:
        return self._pipeline.get_tokenizer().encode(text, add_special_tokens=False).input_ids.data

    def _settings(self, request: TranscriptionRequest) -> Any:
        """Return the engine's settings. Raises RequestError for what this model cannot do."""
        settings = self._pipeline.get_generation_config()
        settings.return_timestamps = True
        if settings.is_multilingual:
            settings.task = "translate" if request.translate else "transcribe"
            settings.language = _language_token(settings.lang_to_id, request.language)
        elif request.translate:
            raise RequestError("this model does not translate: it hears English only", hint="use a multilingual one")
        elif request.language not in (None, "en"):
            raise RequestError("this model hears English only", hint='leave language out, or set "en"')
        if request.prompt:
            if (count := self._tokens(request.prompt).shape[-1]) > _MAX_PROMPT:
                raise RequestError(f"the prompt has {count:,} tokens, and may have {_MAX_PROMPT}", hint="shorten it")
            settings.initial_prompt = request.prompt
        if request.temperature > 0:
            settings.do_sample, settings.temperature = True, request.temperature
        return settings


def _language_token(tokens: Mapping[str, int], language: str | None) -> str | None:
    """Return the token of a language by its code, such as "en" or "zh"; None for None. Raises RequestError for one that
    the model does not know."""
    if language is None:
        return None
    codes = {token[2:-2]: token for token in tokens}
    found = codes.get(language.lower().split("-")[0])
    if found is None:
        first = sorted(codes)[:12]
        known = ", ".join(first) + (f" and {len(codes) - 12} more" if len(codes) > 12 else "")
        raise RequestError(f"this model does not know the language {language[:20]!r}", hint=f"use {known}")
    return found
