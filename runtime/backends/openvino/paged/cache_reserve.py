"""The reserve of the KV cache, with which it begins, and the settings of requests that only fill it."""

from typing import Any

from ....device.machine import free_memory
from ....errors import BackendError
from ....folder.model_folder import ModelFolder
from ..prompt_input import TokenIds
from ..vision.prompts import VisionPrompts
from .prefix_cache import BLOCK
from .prompt_lookup import with_lookup

# The KV cache grows with what requests need at once, not with what could stay cached for the next turns: without a
# floor a second chat throws out the first one's prefix. Pages that were never written take no memory on a CPU.
_CACHED_SHARE = {"CPU": 4, "GPU": 16}  # one part in so many of the free memory
_CACHED_BYTES = {"CPU": 4 * 2**30, "GPU": 2**29}  # at most
_CACHED_CONTEXTS = 16  # full ones, at most
_RESERVED_EMBEDDINGS = 128 * 2**20  # bytes


def prefill_config(lookup: int) -> Any:
    """Return GenAI's settings for a slice. It accepts no request that generates nothing: one token, which nobody
    reads."""
    import openvino_genai as genai

    config = genai.GenerationConfig()
    config.max_new_tokens = 1
    config.ignore_eos = True
    config.apply_chat_template = False
    return with_lookup(config, lookup)


def reserve_cache(
    pipeline: Any, folder: ModelFolder, kind: str, lookup: int, vision: VisionPrompts | None = None
) -> int:
    """Grow the KV cache to hold several chats, and let the plugin repack the weights; return its size in tokens.

    In its first step the cache grows to what all requests may need, at most twice their prompts, also that of one that
    is cancelled before it. The other one has a single token: to repack all weights, those of the head as well, takes
    no more. Embeddings take much more memory than ids: for a vision model fewer tokens are reserved.
    """
    manifest = folder.manifest
    share = min(free_memory() // _CACHED_SHARE[kind], _CACHED_BYTES[kind])
    tokens = min(share // max(manifest.kv_bytes_per_token, 1), _CACHED_CONTEXTS * manifest.context_length)
    if vision is not None:
        tokens = min(tokens, 2 * _RESERVED_EMBEDDINGS // vision.token_bytes)
    tokens = max(tokens, 2 * BLOCK)
    config = prefill_config(lookup)
    config.max_new_tokens = tokens
    large = TokenIds([0] * (tokens // 2)) if vision is None else vision.blank(tokens // 2)
    small = TokenIds([0]) if vision is None else vision.blank(1)
    try:
        pipeline.add_request(0, large.tensor(), config).cancel()
        handle = pipeline.add_request(1, small.tensor(), prefill_config(lookup))
    except TypeError as exc:
        raise BackendError(
            "this version of OpenVINO GenAI takes no embeddings, which vision models need",
            hint="upgrade openvino-genai with openvino and openvino-tokenizers",
        ) from exc
    pipeline.step()
    handle.cancel()  # its token is one that nobody reads
    while pipeline.has_non_finished_requests():
        pipeline.step()
    return tokens
