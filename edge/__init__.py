"""GLM-4 on laptops, edge boxes and kiosks: the public API. Applications import only this package."""

from .import_path import prefer_own_packages, require_own_package

prefer_own_packages()
require_own_package("runtime")

from runtime.backends.child import run_if_frozen_child

run_if_frozen_child()

from runtime.async_chat import AsyncChat
from runtime.backends.backend import Options
from runtime.cancellation import Cancellable, Cancellation
from runtime.chat import Chat
from runtime.device.listing import Device
from runtime.device.listing import list_devices as devices
from runtime.documents.document import Document, Section
from runtime.documents.reader import DocumentLike, read_document
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
from runtime.events import (
    Citation,
    Documents,
    DroppedMessages,
    Event,
    Finish,
    Logprobs,
    PictureProgress,
    PromptLogprobs,
    Reasoning,
    Text,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
    ToolResult,
    Usage,
)
from runtime.folder.model_folder import ModelFolder
from runtime.grammar.grammar import AnswerLike, Choice, Ebnf, JsonObject, JsonSchema, Regex
from runtime.messages import Message, MessageLike
from runtime.model import Model
from runtime.pictures import Picture, PictureLike
from runtime.progress import Progress
from runtime.reply.constraint import Constraint
from runtime.reply.reply import Reply
from runtime.sampling import Sampling, SamplingSettings
from runtime.speech.requests import Segment, Transcript
from runtime.speech.synthesizer import Synthesizer
from runtime.speech.transcriber import Transcriber
from runtime.tool_output import ToolOutput
from runtime.toolbox import ToolSource
from runtime.tools import Tool, ToolLike
from runtime.version import VERSION as __version__

from .catalogue import CatalogueEntry, models
from .conversion import adopt, convert
from .inspection import inspect
from .mcp_client.servers import McpServers, McpTool, mcp
from .toolkit.builtin import builtin_tools

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
    "Citation",
    "Constraint",
    "ConversionCancelled",
    "ConversionError",
    "Device",
    "DeviceError",
    "DiskFull",
    "Document",
    "DocumentLike",
    "Documents",
    "DroppedMessages",
    "Ebnf",
    "EdgeError",
    "Event",
    "Finish",
    "JsonObject",
    "JsonSchema",
    "Logprobs",
    "McpServers",
    "McpTool",
    "Message",
    "MessageLike",
    "Model",
    "ModelFolder",
    "ModelFolderError",
    "Notice",
    "Options",
    "Picture",
    "PictureLike",
    "PictureProgress",
    "Progress",
    "PromptLogprobs",
    "PromptTooLong",
    "Reasoning",
    "Regex",
    "Reply",
    "RequestError",
    "Sampling",
    "SamplingSettings",
    "Section",
    "Segment",
    "Synthesizer",
    "TemplateError",
    "Text",
    "TokenLogprob",
    "Tool",
    "ToolCall",
    "ToolCallDelta",
    "ToolError",
    "ToolLike",
    "ToolOutput",
    "ToolResult",
    "ToolSource",
    "Transcriber",
    "Transcript",
    "UnsupportedGrammar",
    "UnsupportedSetting",
    "Usage",
    "VerificationError",
    "__version__",
    "adopt",
    "builtin_tools",
    "convert",
    "devices",
    "inspect",
    "mcp",
    "models",
    "read_document",
]
