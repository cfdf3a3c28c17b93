"""The request of POST /v1/audio/transcriptions and /v1/audio/translations: a form with a recording."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from starlette.requests import Request

from runtime.speech.audio import require_size
from runtime.speech.requests import TranscriptionRequest

from ..errors import ApiError
from ..generation.fields import RequestModel
from ..guard.form import read_form

TranscriptFormat = Literal["json", "text", "srt", "verbose_json", "vtt"]
_MAX_FIELDS = 32
_FIELD_BYTES = 2**16  # of a prompt, which has tokens to spare
# Fields of OpenAI's other models. What they ask for would change the transcript.
_UNSUPPORTED = (
    "chunking_strategy", "include", "keywords", "known_speaker_names", "known_speaker_references", "languages",
)  # fmt: skip


class TranscriptionFields(RequestModel):
    """The fields beside the recording. `language` is a code such as "en"; without it, the model detects the language.
    `prompt` has names and spellings that the text is to follow. Segments have times; single words have none."""

    model: str | None = None
    language: Annotated[str, Field(max_length=40)] | None = None
    prompt: str | None = None
    response_format: TranscriptFormat = "json"
    temperature: Annotated[float, Field(ge=0, le=1)] = 0.0
    timestamp_granularities: list[Literal["segment", "word"]] | None = None
    stream: bool = False

    @model_validator(mode="before")
    @classmethod
    def _reject_unsupported(cls, fields: Any) -> Any:
        for name in _UNSUPPORTED:
            if fields.get(name):
                raise ApiError(400, f"{name} is not supported", param=name, code="unsupported_parameter")
        if isinstance(one := fields.get("timestamp_granularities"), str):
            fields["timestamp_granularities"] = [one]
        return fields

    @model_validator(mode="after")
    def _reject_combinations(self) -> "TranscriptionFields":
        if "word" in (self.timestamp_granularities or ()):
            message = "timestamp_granularities: single words have no times here; leave out word"
            raise ApiError(400, message, param="timestamp_granularities", code="unsupported_parameter")
        if self.timestamp_granularities and self.response_format != "verbose_json":
            message = "timestamp_granularities needs response_format verbose_json"
            raise ApiError(400, message, param="timestamp_granularities", code="invalid_value")
        if self.stream and self.response_format not in ("json", "text"):
            message = (
                f"stream has no {self.response_format}: the segments are known at the end; use response_format json"
            )
            raise ApiError(400, message, param="stream", code="unsupported_parameter")
        return self

    def to_request(self, audio: bytes, *, translate: bool) -> TranscriptionRequest:
        """Return the request to a speech recognition model."""
        return TranscriptionRequest(audio, self.language or None, self.prompt or "", translate, self.temperature)


async def read_transcription(request: Request) -> tuple[TranscriptionFields, bytes]:
    """Read the form: its fields, and the recording. Raises ApiError and ValidationError."""
    _, content, form = await read_form(request, max_fields=_MAX_FIELDS, field_bytes=_FIELD_BYTES)
    fields = TranscriptionFields.model_validate({name: value for name, value in form.items() if value != ""})
    require_size(len(content))
    return fields, content
