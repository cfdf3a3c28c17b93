"""The catalogue of GLM-4's and GLM-Edge's published models: names, licences, shapes, and sizes by recipe.

It is data: a new model is one entry. Sources: the checkpoints' model cards and configurations. Aliases are the names in
GLM-4's README, and shorter ones as people type them, of the latest model of that size.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from types import MappingProxyType

from runtime.checkpoint.architecture import Architecture
from runtime.checkpoint.vision.eva_clip import EvaClipVision
from runtime.checkpoint.vision.glm4_1v import Glm41Vision
from runtime.errors import CheckpointError
from runtime.folder.manifest import Manifest

from .import_path import require_own_package

_GLM_4_9B_NAMES = ("glm-4", "glm-4-9b")  # of its licence, as model cards have it
_GLM_4_9B = 'The glm-4-9b licence: register for commercial use, show "Built with glm-4", name derivatives "glm-4-…"'


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """A published model.

    - `name`: as `edge.convert` accepts it; `aliases`: other names in use; `repository`: its name on the hub.
    - `family`: the format of its prompts; `licence` and `obliges`: what the licence requires; `note`.
    - `architecture`: the shape of its decoder, and of its image tower.

    Example:
        entry = next(model for model in edge.models() if model.name == "GLM-4-9B-0414")
        entry.disk_bytes("int4"), entry.memory_bytes("int4")
    """

    name: str
    repository: str
    family: str
    licence: str
    architecture: Architecture
    aliases: tuple[str, ...] = ()
    obliges: str = ""
    note: str = ""

    @property
    def modelscope(self) -> str:
        """Its name on ModelScope."""
        return f"ZhipuAI/{self.repository.partition('/')[2]}"

    def disk_bytes(self, recipe: str) -> int:
        """Return the bytes of the weights after conversion."""
        require_own_package("convert")
        from convert.estimate import disk_bytes
        from convert.recipe import RECIPES

        return disk_bytes(self.architecture, RECIPES[recipe])

    def memory_bytes(self, recipe: str) -> int:
        """Return the bytes that a chat on a CPU uses, with 8,192 tokens in an 8-bit KV cache, while it reads a picture
        if the model does."""
        require_own_package("convert")
        from convert.estimate import loaded_bytes, model_sizes, tower_bytes
        from convert.recipe import RECIPES
        from runtime.device.memory import tower_memory

        vision = self.architecture.vision
        loaded = loaded_bytes(self.architecture, model_sizes(self.architecture, RECIPES[recipe]))
        return loaded + (tower_memory(tower_bytes(vision, RECIPES[recipe])) if vision else 0)


_9B_0414 = Architecture(
    name="Glm4ForCausalLM",
    layers=40,
    hidden=4096,
    heads=32,
    kv_heads=2,
    head_dim=128,
    ffn=13696,
    vocab=151552,
    norm_eps=1e-5,
    rope_theta=1e4,
    rotary_dim=64,
    qkv_bias=True,
    sandwich_norms=True,
    tied_embeddings=False,
    context=32768,
    yarn=None,
)
_32B_0414 = replace(_9B_0414, layers=61, hidden=6144, heads=48, ffn=23040, qkv_bias=False)
_RUMINATION = replace(_32B_0414, kv_heads=8, context=131072)
_CHAT = replace(_9B_0414, name="ChatGLMModel", sandwich_norms=False, norm_eps=1.5625e-7, rope_theta=5e6, context=131072)
_CHAT_1M = replace(_CHAT, kv_heads=4, rope_theta=1e8, context=1048576)
_GLM_4V = replace(
    _CHAT,
    rope_theta=1e4,
    context=8192,
    vision=EvaClipVision(
        layers=63,
        width=1792,
        heads=16,
        ffn=15360,
        hidden=4096,
        adapter_ffn=13696,
        image_size=1120,
        patch=14,
        norm_eps=1e-6,
        scaling=8.0,
    ),
)
_GLM_4_1V = replace(
    _9B_0414,
    name="Glm4vForConditionalGeneration",
    context=65536,
    rope_sections=(8, 12, 12),
    vision=Glm41Vision(
        layers=24,
        width=1536,
        heads=12,
        hidden=4096,
        merger_ffn=13696,
        grid=24,
        patch=14,
        merge=2,
        frames=2,
        norm_eps=1e-5,
        qkv_bias=False,
        rope_theta=1e4,
    ),
)
_EDGE_1_5B = replace(
    _9B_0414,
    name="GlmForCausalLM",
    layers=28,
    hidden=2048,
    heads=16,
    kv_heads=4,
    ffn=6144,
    vocab=59264,
    rotary_dim=128,
    qkv_bias=False,
    sandwich_norms=False,
    tied_embeddings=True,
    context=8192,
)
_EDGE_4B = replace(_EDGE_1_5B, layers=40, hidden=3072, heads=24, kv_heads=6, ffn=8192)

_ENTRIES = (
    CatalogueEntry(
        "GLM-4-9B-0414",
        "zai-org/GLM-4-9B-0414",
        "glm4_0414",
        "MIT",
        _9B_0414,
        ("GLM-4-9B-Chat-0414", "glm4:9b", "glm4-9b"),
    ),
    CatalogueEntry(
        "GLM-Z1-9B-0414",
        "zai-org/GLM-Z1-9B-0414",
        "z1",
        "MIT",
        _9B_0414,
        ("GLM-4-Z1-9B-0414", "z1:9b", "z1-9b", "glm-z1-9b"),
    ),
    CatalogueEntry("GLM-4-32B-Base-0414", "zai-org/GLM-4-32B-Base-0414", "base", "MIT", _32B_0414),
    CatalogueEntry(
        "GLM-4-32B-0414",
        "zai-org/GLM-4-32B-0414",
        "glm4_0414",
        "MIT",
        _32B_0414,
        ("GLM-4-32B-Chat-0414", "glm4:32b", "glm4-32b"),
    ),
    CatalogueEntry(
        "GLM-Z1-32B-0414",
        "zai-org/GLM-Z1-32B-0414",
        "z1",
        "MIT",
        _32B_0414,
        ("GLM-4-Z1-32B-0414", "z1:32b", "z1-32b", "glm-z1-32b"),
    ),
    CatalogueEntry(
        "GLM-Z1-Rumination-32B-0414",
        "zai-org/GLM-Z1-Rumination-32B-0414",
        "rumination",
        "MIT",
        _RUMINATION,
        ("GLM-4-Z1-Rumination-32B-0414", "GLM-4-DR-32B-0414", "rumination-32b", "z1-rumination-32b"),
    ),
    CatalogueEntry(
        "glm-4-9b",
        "zai-org/glm-4-9b",
        "base",
        "glm-4-9b",
        replace(_CHAT, rope_theta=1e4, context=8192),
        obliges=_GLM_4_9B,
        note="its rope_ratio is read from the checkpoint",
    ),
    CatalogueEntry("glm-4-9b-chat", "zai-org/glm-4-9b-chat", "glm4_2024", "glm-4-9b", _CHAT, obliges=_GLM_4_9B),
    CatalogueEntry(
        "glm-4-9b-chat-hf",
        "zai-org/glm-4-9b-chat-hf",
        "glm4_2024",
        "glm-4-9b",
        replace(_CHAT, name="GlmForCausalLM"),
        obliges=_GLM_4_9B,
    ),
    CatalogueEntry(
        "glm-4-9b-chat-1m", "zai-org/glm-4-9b-chat-1m", "glm4_2024", "glm-4-9b", _CHAT_1M, obliges=_GLM_4_9B
    ),
    CatalogueEntry(
        "glm-4-9b-chat-1m-hf",
        "zai-org/glm-4-9b-chat-1m-hf",
        "glm4_2024",
        "glm-4-9b",
        replace(_CHAT_1M, name="GlmForCausalLM"),
        obliges=_GLM_4_9B,
    ),
    CatalogueEntry(
        "glm-4v-9b",
        "zai-org/glm-4v-9b",
        "glm4v",
        "glm-4-9b",
        _GLM_4V,
        ("glm4v:9b", "glm4v-9b"),
        obliges=_GLM_4_9B,
        note="one picture a chat; its context is read from the checkpoint",
    ),
    CatalogueEntry(
        "GLM-4.1V-9B-Thinking", "zai-org/GLM-4.1V-9B-Thinking", "glm4_1v", "MIT", _GLM_4_1V, ("glm-4.1v", "glm-4.1v-9b")
    ),
    CatalogueEntry(
        "GLM-4.6V-Flash",
        "zai-org/GLM-4.6V-Flash",
        "glm4_6v",
        "MIT",
        replace(_GLM_4_1V, context=131072),
        ("glm-4.6v",),
        note="shape not confirmed by a published configuration",
    ),
    CatalogueEntry(
        "glm-edge-1.5b-chat",
        "zai-org/glm-edge-1.5b-chat",
        "glm_edge",
        "glm-edge",
        _EDGE_1_5B,
        ("glm-edge:1.5b", "glm-edge-1.5b"),
    ),
    CatalogueEntry(
        "glm-edge-4b-chat",
        "zai-org/glm-edge-4b-chat",
        "glm_edge",
        "glm-edge",
        _EDGE_4B,
        ("glm-edge:4b", "glm-edge-4b"),
        note="shape not confirmed by a published configuration",
    ),
)

CATALOGUE: Mapping[str, CatalogueEntry] = MappingProxyType({entry.name: entry for entry in _ENTRIES})

_NAMES = {name.lower(): entry for entry in _ENTRIES for name in (entry.name, *entry.aliases)}
_ORGANIZATIONS = ("zai-org/", "thudm/", "zhipuai/")


def models() -> tuple[CatalogueEntry, ...]:
    """Return the published models that can be converted; the same as `edge models`. Connects to nothing.

    Example:
        for model in edge.models():
            print(model.name, model.licence, f"{model.memory_bytes('int4') / 1e9:.1f} GB")
    """
    return _ENTRIES


def find_entry(name: str) -> CatalogueEntry | None:
    """Return the model called `name`, in any case, with or without its organization: zai-org, formerly THUDM,
    and ZhipuAI on ModelScope."""
    plain = name.lower()
    for organization in _ORGANIZATIONS:
        plain = plain.removeprefix(organization)
    return _NAMES.get(plain)


def names() -> tuple[str, ...]:
    """Return all names of the models, in lower case."""
    return tuple(_NAMES)


def get_entry(name: str) -> CatalogueEntry:
    """Return the model called `name`. Raises CheckpointError, with the closest name as its hint, if there is none."""
    if entry := find_entry(name):
        return entry
    near = get_close_matches(name.lower().split("/")[-1], _NAMES, n=1)
    raise CheckpointError(
        f"the catalogue has no model {name!r}",
        hint=f"did you mean {_NAMES[near[0]].name}?" if near else "`edge models` lists them",
    )


def licence_duties(manifest: Manifest) -> str:
    """Return what the licence of a model folder's model obliges to, by the name of its checkpoint or else of its
    licence; "" where that is no more than to keep its text."""
    if entry := find_entry(manifest.source.name):
        return entry.obliges
    return _GLM_4_9B if manifest.licence.lower() in _GLM_4_9B_NAMES else ""
