"""GLM-4 on laptops, edge boxes and kiosks: the public API. Applications import only this package."""

from importlib.util import find_spec
from pathlib import Path


def _check_packages() -> None:
    """Raise ImportError if another `runtime` or `convert`, both common names, precedes ours on the import path."""
    ours = Path(__file__).resolve().parent.parent
    for name in ("runtime", "convert"):
        spec = find_spec(name)
        found = Path(spec.origin).resolve() if spec and spec.origin else None
        if found != ours / name / "__init__.py":
            raise ImportError(
                f"glm4-edge needs its own package {name!r}, but {found} hides it: rename or remove that one"
            )


_check_packages()

from runtime.backends.child import run_if_frozen_child

run_if_frozen_child()

from runtime.async_chat import AsyncChat
from runtime.backends.backend import Options
from runtime.cancellation import Cancellable, Cancellation
from runtime.chat import Chat
from runtime.device.listing import Device
from runtime.device.listing import list_devices as devices
from runtime.errors import (
    BackendError,
    CheckpointError,
    ConversionCancelled,
    ConversionError,
    DeviceError,
    DiskFull,
    EdgeError,
    ModelFolderError,
    Notice,
    PromptTooLong,
    RequestError,
    TemplateError,
    ToolError,
    UnsupportedGrammar,
    UnsupportedSetting,
    VerificationError,
)
from runtime.folder.model_folder import ModelFolder
from runtime.grammar import AnswerLike, Choice, JsonObject, JsonSchema, Regex
from runtime.messages import (
    Event,
    Finish,
    Logprobs,
    Message,
    MessageLike,
    Reasoning,
    Text,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
    ToolResult,
    Usage,
)
from runtime.model import Model
from runtime.progress import Progress
from runtime.reply.generation import Constraint
from runtime.reply.reply import Reply
from runtime.sampling import Sampling, SamplingSettings
from runtime.tools import Tool, ToolLike
from runtime.version import VERSION as __version__

from .catalogue import CatalogueEntry, models
from .conversion import convert
from .inspection import inspect

__all__ = [
    "AnswerLike",
    "AsyncChat",
    "BackendError",
    "Cancellable",
    "Cancellation",
    "CatalogueEntry",
    "Chat",
    "CheckpointError",
    "Choice",
    "Constraint",
    "ConversionCancelled",
    "ConversionError",
    "Device",
    "DeviceError",
    "DiskFull",
    "EdgeError",
    "Event",
    "Finish",
    "JsonObject",
    "JsonSchema",
    "Logprobs",
    "Message",
    "MessageLike",
    "Model",
    "ModelFolder",
    "ModelFolderError",
    "Notice",
    "Options",
    "Progress",
    "PromptTooLong",
    "Reasoning",
    "Regex",
    "Reply",
    "RequestError",
    "Sampling",
    "SamplingSettings",
    "TemplateError",
    "Text",
    "TokenLogprob",
    "Tool",
    "ToolCall",
    "ToolCallDelta",
    "ToolError",
    "ToolLike",
    "ToolResult",
    "UnsupportedGrammar",
    "UnsupportedSetting",
    "Usage",
    "VerificationError",
    "__version__",
    "convert",
    "devices",
    "inspect",
    "models",
]
