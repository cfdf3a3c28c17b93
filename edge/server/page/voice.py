"""POST /chat/transcription and /chat/speech: speech for the server's own page, also where that is a kiosk.

The body of the first is a recording, and its response {text}. The body of the second is {text}, and its response a WAV
file.
"""

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from runtime.speech.audio import require_size
from runtime.speech.requests import SpeechRequest, TranscriptionRequest

from ..audio.speech import SpokenText, speech_response
from ..audio.transcriptions import find_transcript
from ..endpoint import Endpoint
from ..errors import ApiError
from ..generation.fields import RequestModel
from ..guard.body import read_body
from ..pool.dispatcher import Dispatcher
from ..pool.model_pool import ModelPool
from .kiosk import Kiosk


class VoiceFacts(BaseModel):
    """Whether the page can transcribe recordings, whether it can read replies aloud, and whether it does that unasked,
    as in a kiosk."""

    transcribes: bool
    speaks: bool
    read_aloud: bool


class PageTranscript(BaseModel):
    """The text of a recording."""

    text: str


class PageSpeech(RequestModel):
    """A text to speak."""

    text: SpokenText


class PageVoice:
    """The endpoints, and what the page has to know of them."""

    def __init__(self, kiosk: Kiosk | None) -> None:
        self._kiosk = kiosk
        self.endpoints = (
            Endpoint(
                "POST", "/chat/transcription", self.transcribe, None, PageTranscript, on_kiosk=True, documented=False
            ),
            Endpoint("POST", "/chat/speech", self.speak, PageSpeech, on_kiosk=True, documented=False),
        )

    def facts(self, pool: ModelPool) -> VoiceFacts:
        """Return what the server's models and settings allow."""
        kiosk = self._kiosk
        speaks = pool.speech.has("speech") and (kiosk is None or kiosk.read_aloud)
        return VoiceFacts(
            transcribes=pool.speech.has("transcription"), speaks=speaks, read_aloud=speaks and kiosk is not None
        )

    async def transcribe(self, dispatcher: Dispatcher, request: Request) -> Response:
        """Return the text of the recording in the body."""
        audio = await request.body()
        require_size(len(audio))
        found = await find_transcript(dispatcher, request, None, TranscriptionRequest(audio))
        return JSONResponse(PageTranscript(text=found.text).model_dump())

    async def speak(self, dispatcher: Dispatcher, request: Request) -> Response:
        """Return a text as speech. Raises ApiError (403) in a kiosk that does not read aloud."""
        if self._kiosk is not None and not self._kiosk.read_aloud:
            raise ApiError(403, "this is a kiosk that does not read aloud", code="kiosk")
        body = await read_body(request, PageSpeech)
        return await speech_response(dispatcher, request, None, SpeechRequest(body.text), "wav")
