"""The fields of OpenAI's APIs alone."""

from ..errors import ApiError
from ..generation.fields import RequestModel

_UNSUPPORTED = (
    ("functions", "it is not supported; send them as tools"),
    ("suffix", "it is not supported: a completion goes at the end of the prompt"),
)


class StreamOptions(RequestModel):
    """With `include_usage`, the last chunk before [DONE] has the usage."""

    include_usage: bool | None = None


def reject_unsupported(body: RequestModel) -> None:
    """Raise ApiError for a field that would change the reply and is not supported."""
    for name, cure in _UNSUPPORTED:
        if getattr(body, name, None):
            raise ApiError(400, f"{name}: {cure}", param=name, code="unsupported_parameter")
