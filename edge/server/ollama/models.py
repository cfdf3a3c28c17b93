"""GET /api/tags, /api/ps and /api/version, POST /api/show: what Ollama's clients ask of a server before they chat."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from runtime.folder.manifest import Manifest, Task
from runtime.folder.model_folder import MANIFEST
from runtime.prompt import families
from runtime.prompt.families import BASE
from runtime.sampling import Sampling

from ..endpoint import Endpoint
from ..errors import ApiError
from ..generation.fields import RequestModel
from ..guard.body import read_body
from ..pool.auxiliary.encoders import EncoderEntry
from ..pool.dispatcher import Dispatcher
from ..pool.memory import size_of
from ..pool.model_pool import AnyAuxiliary, ModelPool
from ..pool.pool_entry import PoolEntry
from .api_error import OllamaError, error_body
from .reply import timestamp
from .request import ModelRequest

API_VERSION = "0.33.0"  # the version of Ollama whose API this is: clients ask for a lowest one
Entry = PoolEntry | AnyAuxiliary
TAG = ":latest"  # Ollama's names end in a tag, and clients add this one to a name without
_FOREVER = "2318-01-01T00:00:00.000000Z"  # when a model expires that stays loaded


class ModelDetails(RequestModel):
    """What a model is, in a few words. `quantization_level` is the recipe of the conversion."""

    parent_model: str
    format: str
    family: str
    families: list[str]
    parameter_size: str
    quantization_level: str
    context_length: int
    embedding_length: int


class ListedModel(RequestModel):
    """A model of the server. `size` is in bytes."""

    name: str
    model: str
    modified_at: str
    size: int
    digest: str
    details: ModelDetails
    capabilities: list[str]


class ModelTags(RequestModel):
    """All models of the server."""

    models: list[ListedModel]


class LoadedModel(RequestModel):
    """A model that is loaded. `size_vram` is `size` on a GPU, and 0 elsewhere."""

    name: str
    model: str
    size: int
    digest: str
    details: ModelDetails
    expires_at: str
    size_vram: int
    context_length: int


class LoadedModels(RequestModel):
    """The models that are loaded."""

    models: list[LoadedModel]


class ShownModel(RequestModel):
    """A model: its template, its settings as lines of Ollama's Modelfile, and its facts under GGUF's names."""

    license: str
    modelfile: str
    parameters: str
    template: str
    details: ModelDetails
    model_info: dict[str, Any]
    capabilities: list[str]
    modified_at: str


class ApiVersion(RequestModel):
    """The version of Ollama whose API the server has."""

    version: str


def find_model(pool: ModelPool, name: str | None) -> PoolEntry:
    """Return the entry of a model by its name, with or without the tag `latest`; the first one for None. Raises
    ApiError, for an unknown name (404) in Ollama's words, which clients look for."""
    with _ollamas_words(name):
        return pool.find(name and name.removesuffix(TAG))


def find_encoder(pool: ModelPool, name: str | None, task: Task) -> EncoderEntry:
    """Return the entry of an embedding or reranking model, as `find_model` does."""
    with _ollamas_words(name):
        return pool.find_encoder(name and name.removesuffix(TAG), task)


@contextmanager
def _ollamas_words(name: str | None) -> Iterator[None]:
    try:
        yield
    except ApiError as exc:
        if exc.status != 404 or name is None:
            raise
        message = f"model '{name}' not found; GET /api/tags lists the models of this server"
        raise ApiError(404, message, param="model", code="model_not_found") from exc


def _every_entry(pool: ModelPool) -> list[Entry]:
    return [*pool.entries.values(), *pool.auxiliary.values()]


def _every_name(pool: ModelPool) -> dict[str, Entry]:
    own = {entry.name: entry for entry in _every_entry(pool)}
    return own | {alias: own[name] for alias, name in pool.names.aliases.items()}


async def list_tags(dispatcher: Dispatcher, request: Request) -> Response:
    """Return every model, loaded or not, by its own name and by its aliases."""
    models = [
        ListedModel(
            name=tagged(name),
            model=tagged(name),
            modified_at=_modified_at(entry),
            size=size_of(entry.source),
            digest=_digest(entry.source.manifest),
            details=_details(entry),
            capabilities=_capabilities(entry.source.manifest),
        )
        for name, entry in _every_name(dispatcher.pool).items()
    ]
    return JSONResponse(ModelTags(models=models).model_dump())


async def list_loaded(dispatcher: Dispatcher, request: Request) -> Response:
    """Return the models that are loaded."""
    models = [
        LoadedModel(
            name=tagged(entry.name),
            model=tagged(entry.name),
            size=size_of(entry.source),
            digest=_digest(entry.source.manifest),
            details=_details(entry),
            expires_at=_expires_at(entry),
            size_vram=size_of(entry.source) if _device(dispatcher.pool, entry).startswith("GPU") else 0,
            context_length=entry.source.manifest.context_length,
        )
        for entry in _every_entry(dispatcher.pool)
        if entry.loaded
    ]
    return JSONResponse(LoadedModels(models=models).model_dump())


async def show_model(dispatcher: Dispatcher, request: Request) -> Response:
    """Return the facts of a model."""
    body = await read_body(request, ModelRequest)
    name = body.model_name
    with _ollamas_words(name):
        entry = dispatcher.pool.find_any(name and name.removesuffix(TAG))
    manifest = entry.source.manifest
    shown = ShownModel(
        license=manifest.licence,
        modelfile=f"# {tagged(entry.name)} is served by glm4-edge: it has no Modelfile\nFROM {tagged(entry.name)}\n",
        parameters=_parameters(entry.source.sampling(), manifest),
        template="" if manifest.family == BASE.name else entry.source.chat_template(),
        details=_details(entry),
        model_info=_model_info(manifest),
        capabilities=_capabilities(manifest),
        modified_at=_modified_at(entry),
    )
    return JSONResponse(shown.model_dump())


async def get_version(dispatcher: Dispatcher, request: Request) -> Response:
    """Return the version of Ollama whose API the server has."""
    return JSONResponse(ApiVersion(version=API_VERSION).model_dump())


def tagged(name: str) -> str:
    """Return the name of a model with a tag, as Ollama lists it."""
    return name if ":" in name else f"{name}{TAG}"


def _device(pool: ModelPool, entry: Entry) -> str:
    """Return the device of a loaded model."""
    if not isinstance(entry, PoolEntry):
        return pool.encoders.device
    return entry.model.choice.device if entry.model is not None and entry.model.choice else ""


def _expires_at(entry: Entry) -> str:
    left = entry.idle_time.left
    return _FOREVER if left is None else timestamp(datetime.now(UTC) + timedelta(seconds=left))


def _modified_at(entry: Entry) -> str:
    path = entry.source.path
    manifest = path / MANIFEST
    status = (manifest if manifest.is_file() else path).stat()
    return timestamp(datetime.fromtimestamp(status.st_mtime, UTC))


def _digest(manifest: Manifest) -> str:
    """Return a hash of 64 hexadecimal digits that changes with the model."""
    files = sorted(f"{name} {file.sha256}" for name, file in manifest.files.items())
    return hashlib.sha256("\n".join([manifest.source.fingerprint, *files]).encode()).hexdigest()


def _architecture(manifest: Manifest) -> str:
    """Return the name of an architecture as GGUF has it: glm4 of Glm4ForCausalLM."""
    name = manifest.source.architecture
    for suffix in ("ForCausalLM", "ForConditionalGeneration", "Model"):
        name = name.removesuffix(suffix)
    return name.lower() or manifest.family


def _details(entry: Entry) -> ModelDetails:
    manifest = entry.source.manifest
    architecture = _architecture(manifest)
    count = _parameter_count(manifest)
    return ModelDetails(
        parent_model=entry.parent or "",
        format="openvino" if entry.source.model_folder else "safetensors",
        family=architecture,
        families=[architecture],
        parameter_size=_in_words(count) if count else "",
        quantization_level=manifest.recipe,
        context_length=manifest.context_length,
        embedding_length=manifest.sizes.hidden if manifest.sizes else 0,
    )


def _parameter_count(manifest: Manifest) -> int:
    """Return the number of weights in the matrices of the decoder; 0 if the manifest has no dimensions."""
    a = manifest.sizes
    if a is None or not a.layers:
        return 0
    kv_width = manifest.kv_bytes_per_token // (4 * a.layers)  # f16, keys and values
    layer = 2 * a.hidden * a.hidden + 2 * a.hidden * kv_width + 3 * a.hidden * a.ffn
    vocabularies = 2 if a.embedding_bytes else 1  # 1: the head is the embedding
    return a.layers * layer + vocabularies * a.vocab * a.hidden


def _in_words(count: int) -> str:
    return next(f"{count / unit:.1f}{letter}" for unit, letter in ((1e9, "B"), (1e6, "M"), (1e3, "K")) if count >= unit)


def _model_info(manifest: Manifest) -> dict[str, Any]:
    name, sizes = _architecture(manifest), manifest.sizes
    info: dict[str, Any] = {
        "general.architecture": name,
        "general.basename": manifest.source.name,
        "general.parameter_count": _parameter_count(manifest),
        f"{name}.context_length": manifest.context_length,
    }
    if sizes is not None and not sizes.layers and sizes.hidden:
        info[f"{name}.embedding_length"] = sizes.hidden
    if sizes is not None and sizes.layers:
        info |= {
            f"{name}.block_count": sizes.layers,
            f"{name}.embedding_length": sizes.hidden,
            f"{name}.feed_forward_length": sizes.ffn,
            f"{name}.attention.head_count_kv": sizes.kv_heads,
            f"{name}.vocab_size": sizes.vocab,
        }
    return info


def _capabilities(manifest: Manifest) -> list[str]:
    if manifest.task != "chat":
        return [manifest.task]
    family = families.get(manifest.family)
    found = ["completion"]
    if family.tools:
        found.append("tools")
    if family.pictures is not None:
        found.append("vision")
    if family.reasoning is not None:
        found.append("thinking")
    return found


_PARAMETERS = {"repetition_penalty": "repeat_penalty"}  # Ollama's names of settings


def _parameters(sampling: Sampling, manifest: Manifest) -> str:
    settings = {"num_ctx": manifest.context_length, **sampling.recommended()}
    return "\n".join(f"{_PARAMETERS.get(name, name):<30} {value}" for name, value in settings.items())


def _endpoint(method: str, path: str, handler: Any, reply: type[RequestModel], body: Any = None) -> Endpoint:
    return Endpoint(method, path, handler, body, reply, error_format=error_body, error_model=OllamaError)


ENDPOINTS: Sequence[Endpoint] = (
    _endpoint("GET", "/api/tags", list_tags, ModelTags),
    _endpoint("GET", "/api/ps", list_loaded, LoadedModels),
    _endpoint("POST", "/api/show", show_model, ShownModel, ModelRequest),
    _endpoint("GET", "/api/version", get_version, ApiVersion),
)
