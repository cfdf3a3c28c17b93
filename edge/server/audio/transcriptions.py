"""POST /v1/audio/transcriptions and /v1/audio/translations: the text of a recording, and its translation to English."""

from collections.abc import Callable
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from runtime.speech.requests import TextDelta, Transcript, TranscriptionRequest

from ..endpoint import Endpoint
from ..errors import ApiError
from ..logs.request_record import CLIENT, record_first_token
from ..pool.auxiliary.speech import SpeechParts
from ..pool.dispatcher import Dispatcher, cancel_on_disconnect
from ..pool.event_stream import SSE, SSE_COMMENT, EventStream, sse
from .transcript_formats import TranscriptReply, transcript_response
from .transcription_request import TranscriptionFields, read_transcription


class TranscriptStream:
    """The text of a recording as OpenAI's stream of events: a delta for each part, and the whole text at the end."""

    media_type = SSE
    heartbeat = SSE_COMMENT

    def __init__(self, observe: Callable[[Transcript], None]) -> None:
        self._observe = observe
        self._begun = False

    def opening(self) -> str:
        """Encode nothing."""
        return ""

    def encode(self, index: int, event: Any) -> str:
        """Encode a part of the text, or the whole transcript."""
        if isinstance(event, Transcript):
            self._observe(event)
            return sse({"type": "transcript.text.done", "text": event.text})
        assert isinstance(event, TextDelta)
        text = event.text if self._begun else event.text.lstrip()
        self._begun = self._begun or bool(text)
        return sse({"type": "transcript.text.delta", "delta": text}) if text else ""

    def ending(self) -> str:
        """Encode nothing."""
        return ""

    def failure(self, error: ApiError) -> str:
        """Encode an error."""
        return sse(error.body())


async def transcribe(translate: bool, dispatcher: Dispatcher, request: Request) -> Response:
    """Return the text of a recording, or stream it."""
    fields, audio = await read_transcription(request)
    wanted = fields.to_request(audio, translate=translate)
    if not fields.stream:
        found = await find_transcript(dispatcher, request, fields.model, wanted)
        return transcript_response(found, fields, translate=translate)
    entry = dispatcher.pool.find_speech(fields.model, "transcription")
    arriving = SpeechParts(dispatcher.pool.speech, entry, wanted, request.scope.get(CLIENT, ""))
    try:
        await cancel_on_disconnect(request, arriving.wait(dispatcher.limits.grace_seconds))
    except BaseException:
        arriving.close()
        raise
    record_first_token(request.scope)
    return EventStream(arriving, TranscriptStream(partial(dispatcher.metrics.observe_transcript, entry.name)))


async def find_transcript(
    dispatcher: Dispatcher, request: Request, model: str | None, wanted: TranscriptionRequest
) -> Transcript:
    """Return the transcript of a recording by a model; by the first one for None. Raises ApiError and EdgeError."""
    entry = dispatcher.pool.find_speech(model, "transcription")
    work = dispatcher.pool.speech.collect(entry, wanted, request.scope.get(CLIENT, ""))
    found: Transcript = (await cancel_on_disconnect(request, work))[-1]
    dispatcher.metrics.observe_transcript(entry.name, found)
    return found


_TYPES = ("text/plain",)
ENDPOINTS = (
    Endpoint(
        "POST", "/v1/audio/transcriptions", partial(transcribe, False), TranscriptionFields, TranscriptReply,
        upload=True, audio=True, stream=True, other_types=_TYPES,
    ),
    Endpoint(
        "POST", "/v1/audio/translations", partial(transcribe, True), TranscriptionFields, TranscriptReply,
        upload=True, audio=True, stream=True, other_types=_TYPES,
    ),
)  # fmt: skip
