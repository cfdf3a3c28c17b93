"""Bodies of completion requests, in the two dialects that servers understand."""

import json
from dataclasses import dataclass
from typing import Any

from ..prompt.template import Prompt
from ..sampling import Sampling

TRANSFORMERS_SETTINGS = frozenset({"temperature", "top_p", "top_k", "repetition_penalty", "seed"})
VLLM_SETTINGS = TRANSFORMERS_SETTINGS | {"presence_penalty", "frequency_penalty"}


@dataclass(frozen=True, slots=True)
class RemoteRequest:
    """A request before it is translated for a server. `stops` and `pad` are ids, `limit` counts new tokens."""

    prompt: Prompt
    ids: list[int]
    sampling: Sampling
    limit: int
    stops: list[int]
    pad: int


def vllm_body(asked: RemoteRequest) -> dict[str, Any]:
    """Return the request with vLLM's parameters; SGLang and llama.cpp know most of them and ignore the others."""
    sampling = asked.sampling
    body = {
        "prompt": asked.ids,
        "max_tokens": asked.limit,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k or -1,
        "repetition_penalty": sampling.repetition_penalty,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "stop_token_ids": asked.stops,
        "ignore_eos": not asked.stops,
        "skip_special_tokens": False,
    }
    return body if sampling.seed is None else body | {"seed": sampling.seed}


def transformers_body(asked: RemoteRequest) -> dict[str, Any]:
    """Return the request for `transformers serve`, which rejects unknown parameters and takes its own as one JSON
    text."""
    sampling = asked.sampling
    config: dict[str, Any] = {
        "max_new_tokens": asked.limit,
        "do_sample": sampling.temperature > 0,
        "repetition_penalty": sampling.repetition_penalty,
        "eos_token_id": asked.stops or None,
        "pad_token_id": asked.pad,
    }
    if sampling.temperature > 0:
        config |= {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": sampling.top_k}
    body = {"prompt": "".join(asked.prompt), "generation_config": json.dumps(config)}
    return body if sampling.seed is None else body | {"seed": sampling.seed}
