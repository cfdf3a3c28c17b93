"""GET /chat: what the page shows of its server, the models and how far they are loaded, the tools, and the kiosk's
settings."""

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from runtime.toolbox import Toolbox
from runtime.version import VERSION

from ..pool.dispatcher import Dispatcher
from ..pool.memory import size_of
from ..pool.model_pool import reads_pictures
from ..pool.pool_entry import State
from .documents import SUFFIXES
from .kiosk import Kiosk, Language
from .voice import PageVoice, VoiceFacts


class ToolEntry(BaseModel):
    """A tool that runs on the server; with `approval`, a person approves each call."""

    name: str
    description: str
    approval: bool


class PageModel(BaseModel):
    """A model, whether it is loaded, the part of its load that is done (from 0 to 1, None where that is not known), its
    size in bytes, its context length in tokens, whether it reads pictures, and the sampling settings that apply if a
    request sets none."""

    name: str
    state: State
    progress: float | None
    size: int
    context: int
    pictures: bool
    temperature: float
    top_p: float


class KioskFacts(BaseModel):
    """The kiosk's settings that its page needs."""

    idle: int
    language: Language | None
    title: str | dict[Language, str]
    suggestions: list[str] | dict[Language, list[str]]


class PageFacts(BaseModel):
    """The server's version, models and tools, the suffixes of documents that it reads, what it does with speech, and
    the kiosk's settings; None unless the server is a kiosk."""

    version: str
    models: list[PageModel]
    tools: list[ToolEntry]
    documents: list[str]
    voice: VoiceFacts
    kiosk: KioskFacts | None


async def page_facts(
    toolbox: Toolbox, kiosk: Kiosk | None, voice: PageVoice, dispatcher: Dispatcher, request: Request
) -> Response:
    """Return the server's version, models, tools and kiosk settings."""
    models = []
    for entry in dispatcher.pool.entries.values():
        own = entry.sampling.resolve()
        context = entry.source.manifest.context_length
        models.append(
            PageModel(
                name=entry.name,
                state=entry.state,
                progress=entry.progress,
                size=size_of(entry.source),
                context=context,
                pictures=reads_pictures(entry.source) and (kiosk is None or kiosk.pictures),
                temperature=own.temperature,
                top_p=own.top_p,
            )
        )
    tools = toolbox.offered().by_name.values()
    entries = [ToolEntry(name=tool.name, description=tool.description, approval=tool.approval) for tool in tools]
    shown = KioskFacts.model_validate(kiosk, from_attributes=True) if kiosk else None
    suffixes = [] if kiosk else list(SUFFIXES)
    facts = PageFacts(
        version=VERSION,
        models=models,
        tools=entries,
        documents=suffixes,
        voice=voice.facts(dispatcher.pool),
        kiosk=shown,
    )
    return JSONResponse(facts.model_dump())
