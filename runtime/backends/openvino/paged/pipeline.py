"""GenAI's continuous-batching pipeline of a model folder: how it is opened, and how much one of its steps computes."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ....device.memory import CHUNK_TOKENS
from ....folder.model_folder import CONVERT_AGAIN, ModelFolder
from ....system.mapped_pages import release_mapped_pages
from ...backend import Options
from ..genai import load_properties
from ..int4.loading import kernel_folder
from .prefix_cache import BLOCK
from .prompt_lookup import DraftLength

# The CPU plugin keeps what it has compiled for every number of tokens that a step has had, 5,000 of each kind: in a
# server, some 100 MB more with every new mix of requests. So few are enough: nothing was slower with them at 9B width.
COMPILED_SHAPES = 32

# Tokens of a prompt that one step reads beside replies that are being written, which stand still meanwhile. Alone it
# reads CHUNK_TOKENS.
TOKENS_BESIDE = {"CPU": BLOCK, "GPU": 8 * BLOCK}
_REPLIES = 16  # replies at once for which a step has room beside a slice


def step_tokens(kind: str, lookup: int = 0) -> int:
    """Return how many tokens a step computes at most, on a CPU or GPU: whole blocks of a prompt, or one slice and
    `_REPLIES` replies with their drafts."""
    beside = TOKENS_BESIDE[kind] + _REPLIES * (1 + lookup)
    return max(CHUNK_TOKENS[kind], -(-beside // BLOCK) * BLOCK)


@contextmanager
def open_pipeline(folder: ModelFolder, device: str, options: Options, name: str) -> Iterator[tuple[Any, DraftLength]]:
    """Yield a ContinuousBatchingPipeline of the folder's IR `name`, and how many tokens its steps may draft.

    Its first step, which repacks the weights, belongs in the block: it is a part of loading. Raises BackendError if
    OpenVINO refuses the folder, and what `adapter_properties` raises.
    """
    import openvino_genai as genai

    from ..lora import adapter_properties

    kind = device.partition(".")[0]
    scheduler = genai.SchedulerConfig()
    scheduler.enable_prefix_caching = True
    scheduler.cache_size = 0  # grows with what is asked
    scheduler.dynamic_split_fuse = True
    with (
        load_properties(folder, device, options, CONVERT_AGAIN, name) as settings,
        kernel_folder(folder, device, options, name) as place,
    ):
        settings.update(place.properties)
        drafts = DraftLength.of(folder, device, options, kernel=place.used)
        scheduler.max_num_batched_tokens = step_tokens(kind, drafts.longest)
        if device == "CPU":
            settings["CPU_RUNTIME_CACHE_CAPACITY"] = COMPILED_SHAPES
        if drafts.longest:
            settings["prompt_lookup"] = True
        settings.update(adapter_properties(folder, options.adapters))
        tokenizer = {name: value for name, value in settings.items() if name == "ENABLE_MMAP"}
        yield genai.ContinuousBatchingPipeline(str(place.path), scheduler, device, settings, tokenizer), drafts
    if not place.used:  # all of them are repacked, but those of the embedding
        release_mapped_pages(folder.path / f"{name}.bin")
