"""The state of a user service, as its system reports it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServiceState:
    """Whether the service runs, and the system's words on it."""

    running: bool
    text: str
