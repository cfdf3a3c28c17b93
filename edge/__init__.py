"""GLM-4 on laptops, edge boxes and kiosks: the public API. Applications import only this package."""

from .import_path import prefer_own_packages, require_own_package

prefer_own_packages()
require_own_package("runtime")

from runtime.backends.child import run_if_frozen_child  # noqa: E402

run_if_frozen_child()

from runtime.backends.backend import Options  # noqa: E402
from runtime.chat import Chat  # noqa: E402
from runtime.errors import EdgeError  # noqa: E402
from runtime.folder.model_folder import ModelFolder  # noqa: E402
from runtime.grammar import Choice, JsonObject, JsonSchema, Regex  # noqa: E402
from runtime.messages import (  # noqa: E402
    Event,
    Finish,
    Logprobs,
    Message,
    Reasoning,
    Text,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
    ToolResult,
    Usage,
)
from runtime.model import Model  # noqa: E402
from runtime.reply.reply import Reply  # noqa: E402
from runtime.sampling import Sampling  # noqa: E402
from runtime.tools import Tool  # noqa: E402
from runtime.version import VERSION as __version__  # noqa: E402

__all__ = [
    "Chat",
    "Choice",
    "EdgeError",
    "Event",
    "Finish",
    "JsonObject",
    "JsonSchema",
    "Logprobs",
    "Message",
    "Model",
    "ModelFolder",
    "Options",
    "Reasoning",
    "Regex",
    "Reply",
    "Sampling",
    "Text",
    "TokenLogprob",
    "Tool",
    "ToolCall",
    "ToolCallDelta",
    "ToolResult",
    "Usage",
    "__version__",
]
