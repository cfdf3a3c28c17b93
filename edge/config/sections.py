"""The sections of `edge.toml`: each is a frozen dataclass, and each of its fields a key.

docs/config.md and the flags of `edge serve` and `edge chat` are made of the same fields: a new setting is one of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Annotated, Literal

from runtime.backends.backend import Options
from runtime.checkpoint.adapters.reference import AdapterReference
from runtime.sampling import Sampling

from .limits_section import LimitsSection
from .setting import Setting, SettingKey, list_keys
from .tool_sections import McpSection, ToolsSection

_LARGE = 2**31 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSection:
    """How the server is reached, by whom, and what its page offers."""

    host: Annotated[str, Setting("the address to bind; any other needs an API key", "HOST")] = "127.0.0.1"
    port: Annotated[int, Setting("the port to bind; 0 picks a free one", least=0, most=65535)] = 8000
    api_key_file: Annotated[
        str | None,
        Setting(
            "a file with the API key that clients must send",
            "FILE",
            "the variable EDGE_API_KEY, or no key",
            path=True,
        ),
    ] = None
    allow_host: Annotated[
        tuple[str, ...],
        Setting("a further name of the server, such as chat.example or *.lan", "NAME", "the machine's own names"),
    ] = ()
    allow_origin: Annotated[
        tuple[str, ...],
        Setting("the origin of a web page that may send requests", "URL", "the server's own"),
    ] = ()
    tools: Annotated[
        tuple[str, ...],
        Setting("a tool that the chat page's model may call: python, clock … or a function", "NAME|MODULE:FUNCTION"),
    ] = ()
    docs: Annotated[
        str | None,
        Setting("a folder of documents that the chat page's model may search and cite", "FOLDER", path=True),
    ] = None
    docs_embedding_model: Annotated[
        str | None,
        Setting(
            "the folder of an embedding model, to search them by meaning as well",
            "FOLDER",
            "a search by words alone",
            path=True,
        ),
    ] = None
    kiosk: Annotated[
        str | None,
        Setting(
            "serve the page for a public screen alone, set up by a TOML file",
            "FILE",
            "the chat page and the API",
            path=True,
            bare=True,
        ),
    ] = None
    models_file: Annotated[
        str | None,
        Setting(
            "a JSON file of the models' folders by name; a model whose folder changes in it is replaced without a gap",
            "FILE",
            path=True,
        ),
    ] = None
    root_path: Annotated[str, Setting("the path below which a proxy serves this server", "PATH")] = ""
    ssl_cert: Annotated[
        str | None, Setting("a PEM file with the certificate and its chain, for HTTPS", "FILE", path=True)
    ] = None
    ssl_key: Annotated[
        str | None,
        Setting("a PEM file with the certificate's private key", "FILE", "the certificate's file", path=True),
    ] = None
    uds: Annotated[
        str | None,
        Setting("a Unix domain socket to bind, instead of host and port", "PATH", path=True),
    ] = None
    keep_alive: Annotated[
        float, Setting("seconds for which a connection without a request is kept open", "SECONDS", least=1, most=3600)
    ] = 125.0
    log_format: Annotated[Literal["text", "json"], Setting("the format of the log's lines", "FORMAT")] = "text"
    log_file: Annotated[
        str | None,
        Setting(
            "a file for the log, or server.log in the folder of logs", "FILE", "standard error", path=True, bare=True
        ),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelsSection:
    """The models that the server offers: every key that is not listed here is a model's name, and its value the path of
    its folder. The first is loaded when the server starts."""

    folders: dict[str, str] = field(default_factory=dict)
    alias: Annotated[
        dict[str, str],
        Setting("another name of a model; without =NAME of the first one", "ALIAS=NAME", bare=True),
    ] = field(default_factory=dict)
    adapter: Annotated[
        dict[str, str | tuple[str, ...]],
        Setting(
            "serve the model with a LoRA adapter under a NAME of its own, too; adapters of one NAME add up",
            "NAME=DIR[@WEIGHT]",
            path=True,
        ),
    ] = field(default_factory=dict)
    idle: Annotated[
        float | None,
        Setting(
            "minutes without a request after which a model is unloaded; its next request loads it again",
            "MINUTES",
            "never",
            least=0.01,
        ),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionsSection:
    """How a model is loaded: those of `edge.Options`, and the device."""

    device: Annotated[str, Setting("auto, a device such as CPU or GPU, or an engine such as torch", "DEVICE")] = "auto"
    fallback: Annotated[tuple[str, ...], Setting("a device to try if the first cannot load the model", "DEVICE")] = ()
    context: Annotated[
        int | None,
        Setting(
            "tokens of prompt and reply to plan memory for, on an NPU also the limit",
            default="8192, on an NPU 4096",
            least=1,
            most=_LARGE,
        ),
    ] = None
    reply_tokens: Annotated[
        int | None,
        Setting("tokens of the context that are the reply's, on an NPU", default="1024", least=1, most=_LARGE),
    ] = None
    threads: Annotated[
        int | None, Setting("CPU threads of the engine", default="the engine's choice", least=1, most=_LARGE)
    ] = None
    kv_precision: Annotated[
        str | None, Setting("type of the KV cache's elements: u4, u8, f16 or f32", "TYPE", "the engine's choice")
    ] = None
    precision: Annotated[
        str | None, Setting("type that the engine computes in: bf16, f16 or f32", "TYPE", "the device's own")
    ] = None
    activation_scale: Annotated[
        float | None, Setting("what activations are divided by in f16", "X", "the model folder's", least=0)
    ] = None
    activation_group: Annotated[
        int | None,
        Setting(
            "activations that share a scale where a CPU rounds them to int8; 0 disables the rounding",
            default="the model folder's",
            least=0,
            most=_LARGE,
        ),
    ] = None
    pinning: Annotated[bool | None, Setting("bind CPU threads to cores", default="the engine's choice")] = None
    cores: Annotated[
        str | None, Setting("CPU cores of the engine: all or performance", "KIND", "the engine's choice")
    ] = None
    tuned: Annotated[bool, Setting("use what `edge bench FOLDER --tune` has found, for what is not set")] = True
    lookup: Annotated[
        int,
        Setting("most tokens that prompt lookup drafts in a step; 0 disables it", least=0, most=_LARGE),
    ] = 0
    int4_kernel: Annotated[
        bool | None,
        Setting(
            "multiply int4 matrices by the kernel of `edge kernel`; false leaves it to OpenVINO",
            default="where it is built",
        ),
    ] = None
    grammar_memory: Annotated[
        int | None,
        Setting("MB of compiled grammars above which the engine's process is restarted", default="512", least=1),
    ] = None
    cache: Annotated[bool, Setting("keep the compiled model for the next load")] = True
    verify: Annotated[bool, Setting("check the hashes of the folder's files before it is loaded")] = True
    adapters: Annotated[
        tuple[str, ...],
        Setting("a LoRA adapter to load with the model; the updates add up", "DIR[@WEIGHT]", path=True),
    ] = ()

    def options(self) -> Options:
        """Return the engine's options. Raises RequestError."""
        given = {one.name: getattr(self, one.name) for one in fields(Options) if one.name != "running"}
        return Options(**given | {"adapters": tuple(map(AdapterReference.parse, self.adapters))})


_OWN = "the checkpoint's"


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingSection:
    """The sampling of replies, where a request sets none; they override the checkpoint's own."""

    temperature: Annotated[float | None, Setting("0 (greedy) to 5", "T", _OWN, least=0, most=5)] = None
    top_p: Annotated[
        float | None,
        Setting("sample from the most probable tokens that add up to P; 0 (greedy) to 1", "P", _OWN, least=0, most=1),
    ] = None
    top_k: Annotated[
        int | None,
        Setting("sample from so many of the most probable tokens; 0: all", default=_OWN, least=0, most=_LARGE),
    ] = None
    min_p: Annotated[
        float | None,
        Setting("sample from tokens at least so probable, as a share of the most probable", "P", _OWN, least=0, most=1),
    ] = None
    repetition_penalty: Annotated[
        float | None, Setting("divides the logits of tokens seen before", "X", _OWN, least=0.01, most=10)
    ] = None
    presence_penalty: Annotated[
        float | None, Setting("subtracted from the logit of each token of the reply", "X", "0", least=-2, most=2)
    ] = None
    frequency_penalty: Annotated[
        float | None, Setting("subtracted for every time a token is in the reply", "X", "0", least=-2, most=2)
    ] = None
    seed: Annotated[
        int | None,
        Setting("make sampled replies reproducible", default="a different one each time", least=0, most=2**63 - 1),
    ] = None
    max_new_tokens: Annotated[
        int | None,
        Setting("most tokens of a reply, reasoning and calls included", default="what fits in the context", least=1),
    ] = None
    stop: Annotated[tuple[str, ...], Setting("a text before which the answer ends", "TEXT")] = ()

    def sampling(self) -> Sampling:
        """Return the settings; those that are not set are None. Raises RequestError."""
        given = {one.name: getattr(self, one.name) for one in fields(self)}
        return Sampling(**given | {"stop": self.stop or None})


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponsesSection:
    """The store of the Responses API: the least recently used responses and conversations are dropped."""

    store: Annotated[
        str | None, Setting("a SQLite file for the store", "FILE", "memory, until the server ends", path=True)
    ] = None
    store_count: Annotated[int, Setting("responses and conversations that are stored", least=0)] = 1_000
    store_bytes: Annotated[int, Setting("bytes of what is stored, all clients together", least=0)] = 64 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatSection:
    """The chat in the terminal."""

    system: Annotated[str, Setting("the system message", "TEXT")] = ""
    tool: Annotated[
        tuple[str, ...],
        Setting("a tool that the model may call: python, clock … or a function", "NAME|MODULE:FUNCTION"),
    ] = ()
    embedding_model: Annotated[
        str | None,
        Setting(
            "the folder of an embedding model, for documents that are too long for the context",
            "FOLDER",
            "a search by words alone",
            path=True,
        ),
    ] = None
    overflow: Annotated[
        Literal["drop", "refuse"],
        Setting(
            "what to do with a chat that outgrows the context: drop its oldest turns from the prompt, or refuse", "WHAT"
        ),
    ] = "drop"
    keep_attachments: Annotated[bool, Setting("drop turns with pictures or documents last")] = False
    plain: Annotated[bool, Setting("print replies as they are, without formatting their Markdown")] = False
    keep_history: Annotated[bool, Setting("keep the messages that were typed, for the arrow keys of later chats")] = (
        True
    )


SECTIONS: Mapping[str, type] = {
    "server": ServerSection,
    "models": ModelsSection,
    "options": OptionsSection,
    "limits": LimitsSection,
    "sampling": SamplingSection,
    "responses": ResponsesSection,
    "chat": ChatSection,
    "tools": ToolsSection,
    "mcp": McpSection,
}


@cache
def section_keys(section: str) -> tuple[SettingKey, ...]:
    """Return the keys of a section."""
    return list_keys(section, SECTIONS[section])
