"""POST /v1/audio/speech: a text as speech, in a file."""

import asyncio
from typing import Annotated, Literal

from pydantic import Field, model_validator
from starlette.requests import Request
from starlette.responses import Response

from runtime.speech.audio import AUDIO_FORMATS, encode
from runtime.speech.requests import SpeechRequest
from runtime.speech.speecht5 import MAX_CHARACTERS
from runtime.speech.voices import DEFAULT_VOICE

from ..endpoint import Endpoint
from ..errors import ApiError
from ..generation.fields import RequestModel
from ..guard.body import read_body
from ..logs.request_record import CLIENT
from ..pool.dispatcher import Dispatcher, cancel_on_disconnect

SpokenText = Annotated[str, Field(min_length=1, max_length=MAX_CHARACTERS)]


class VoiceId(RequestModel):
    """A voice by its id: here, its name."""

    id: str


class SpeechBody(RequestModel):
    """A text to speak, the name of a voice, and the format of the file. The model has one speed, and follows no
    instructions."""

    model: str | None = None
    input: SpokenText
    voice: str | VoiceId = DEFAULT_VOICE
    response_format: Literal["mp3", "opus", "flac", "wav", "pcm"] = "mp3"
    speed: Annotated[float, Field(ge=0.25, le=4)] = 1.0
    instructions: str | None = None
    stream_format: Literal["audio", "sse"] = "audio"

    @model_validator(mode="after")
    def _reject_unsupported(self) -> "SpeechBody":
        for name, unsupported, cure in (
            ("speed", self.speed != 1, "the model has one speed; leave it out"),
            ("instructions", bool(self.instructions), "the model follows none; leave them out"),
            ("stream_format", self.stream_format == "sse", "use audio"),
        ):
            if unsupported:
                raise ApiError(400, f"{name} is not supported: {cure}", param=name, code="unsupported_parameter")
        return self


async def speak(dispatcher: Dispatcher, request: Request) -> Response:
    """Return a text as speech."""
    body = await read_body(request, SpeechBody)
    voice = body.voice.id if isinstance(body.voice, VoiceId) else body.voice
    return await speech_response(
        dispatcher, request, body.model, SpeechRequest(body.input, voice), body.response_format
    )


async def speech_response(
    dispatcher: Dispatcher, request: Request, model: str | None, wanted: SpeechRequest, audio_format: str
) -> Response:
    """Return the speech of a model as a file. Raises ApiError and EdgeError."""
    entry = dispatcher.pool.find_speech(model, "speech")
    work = dispatcher.pool.speech.collect(entry, wanted, request.scope.get(CLIENT, ""))
    pieces = await cancel_on_disconnect(request, work)
    dispatcher.metrics.observe_speech(entry.name, pieces)
    content = await asyncio.to_thread(encode, pieces, audio_format)
    return Response(content, media_type=AUDIO_FORMATS[audio_format].media_type)


ENDPOINT = Endpoint(
    "POST",
    "/v1/audio/speech",
    speak,
    SpeechBody,
    other_types=tuple(one.media_type for one in AUDIO_FORMATS.values()),
)
