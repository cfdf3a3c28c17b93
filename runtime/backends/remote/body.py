"""Bodies of completion requests, in the two dialects that servers understand."""

import json
from dataclasses import dataclass
from typing import Any

from ... import strict_json
from ...errors import RequestError
from ...grammar.grammar import Choice, Ebnf, Grammar, JsonObject, JsonSchema, Regex, TaggedArguments
from ...grammar.printers.ebnf import EngineGrammar
from ...grammar.rest import Rest
from ...prompt.template import TextPrompt
from ...sampling import SamplingParams

TRANSFORMERS_SETTINGS = frozenset({"temperature", "top_p", "top_k", "min_p", "repetition_penalty", "seed"})
OPENAI_SETTINGS = TRANSFORMERS_SETTINGS | {"presence_penalty", "frequency_penalty", "logit_bias"}
VLLM_SETTINGS = OPENAI_SETTINGS | {"logprobs", "top_logprobs"}  # with the tokens' ids


@dataclass(frozen=True, slots=True)
class RemoteRequest:
    """A request before it is translated for a server. `stops` and `pad` are ids, `limit` counts new tokens."""

    prompt: TextPrompt
    ids: list[int]
    sampling: SamplingParams
    limit: int
    stops: list[int]
    pad: int


def vllm_body(request: RemoteRequest) -> dict[str, Any]:
    """Return the request with vLLM's parameters; SGLang and llama.cpp know most of them and ignore the others."""
    sampling = request.sampling
    body = {
        "prompt": request.ids,
        "max_tokens": request.limit,
        "temperature": 0.0 if sampling.greedy else sampling.temperature,
        "top_p": sampling.top_p or 1.0,
        "min_p": sampling.min_p,
        "top_k": sampling.top_k or -1,
        "repetition_penalty": sampling.repetition_penalty,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "stop_token_ids": request.stops,
        "ignore_eos": not request.stops,
        "skip_special_tokens": False,
    }
    if sampling.logit_bias:
        body["logit_bias"] = {str(id): bias for id, bias in sampling.logit_bias}
    if sampling.logprobs:
        body |= {"logprobs": sampling.top_logprobs, "return_tokens_as_token_ids": True}
    return body if sampling.seed is None else body | {"seed": sampling.seed}


def transformers_body(request: RemoteRequest) -> dict[str, Any]:
    """Return the request for `transformers serve`, which rejects unknown parameters and takes its own as one JSON
    text."""
    sampling = request.sampling
    config: dict[str, Any] = {
        "max_new_tokens": request.limit,
        "do_sample": not sampling.greedy,
        "repetition_penalty": sampling.repetition_penalty,
        "eos_token_id": request.stops or None,
        "pad_token_id": request.pad,
    }
    if not sampling.greedy:
        config |= {name: getattr(sampling, name) for name in ("temperature", "top_p", "top_k", "min_p")}
    body = {"prompt": "".join(request.prompt), "generation_config": json.dumps(config)}
    return body if sampling.seed is None else body | {"seed": sampling.seed}


def structured_outputs(grammar: Grammar | Rest | EngineGrammar) -> dict[str, Any]:
    """Translate a grammar to vLLM's `structured_outputs`. Raises RequestError for one that it has no form for."""
    match grammar:
        case JsonSchema():
            return {"json": strict_json.parse(grammar.schema)}
        case JsonObject():
            return {"json": {"type": "object"}}
        case Ebnf(text):
            return {"grammar": text}
        case Regex(pattern):
            return {"regex": pattern}
        case Choice(options):
            return {"choice": list(options)}
        case TaggedArguments():
            raise RequestError(
                "this model's arguments cannot be constrained on a server", hint="leave out strict and tool_choice"
            )
    raise AssertionError("the form of another engine")
