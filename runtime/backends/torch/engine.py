"""PyTorch over the checkpoint itself, by transformers: the CPU, Intel GPUs (XPU), CUDA.

One forward pass runs at a time. Every request has a KV cache of its own, so the replies of several threads grow token
by token beside each other; the cache of the last one is kept, and the next prompt is read from where it differs.

On one CUDA card a reply decodes by CUDA graphs, in a cache that never moves. There is one such cache, since the graphs
would be recorded again for another: a request that comes while it is in use, or needs more tokens than it has, decodes
without. The logic is tested on the CPU; on a card it has not been run.

transformers' continuous batching is not used: it supports neither a seed nor a token mask per request, and allocates
its cache before the first. To serve many at once, use a server (`remote`).
"""

import time
from collections.abc import Callable, Generator, Sequence
from importlib.util import find_spec
from math import prod
from typing import Any, Self

from ...checkpoint.checkpoint import Checkpoint
from ...checkpoint.tokenizer import first_error_line
from ...errors import BackendError, DeviceError, PromptTooLong, RequestError
from ...events import Finish, FinishReason, TokenLogprob, Usage
from ...grammar.grammar import Grammar
from ...grammar.printers.ebnf import EngineGrammar
from ...grammar.rest import Rest
from ...prompt.template import Prompt, require_text
from ...sampling import SamplingParams
from ...source import ModelSource
from ...system.installation import install_hint
from ...vocabulary import Vocabulary
from ..backend import Backend, Delta, FoundDevice, Options, Request, require_prompt
from .cache import CachePool, KVCache, static_tokens
from .forward import ForwardRunner
from .token_mask import TokenMask, TokenMaskFactory

_SHARE = 0.9  # of a card's free memory that the weights may take; the rest is for activations and the KV cache


class Torch(Backend):
    """A checkpoint on a device of PyTorch: "torch:cpu", "torch:xpu" or "torch:cuda".

    With `static` tokens it decodes by CUDA graphs, in a cache of that size.
    """

    runs_checkpoints = True
    runs_adapters = True
    reports_ids = True
    masks_wider = True
    reads_ids = True
    max_requests = 16  # each has a KV cache of its own
    needs: tuple[str, ...] = ("torch", "transformers", "tokenizers")
    extra = "torch"

    def __init__(self, model: Any, folder: Checkpoint, static: int = 0) -> None:
        self.max_prompt_tokens = folder.manifest.context_length - 1
        self.model = model
        self._tokenizer = folder.tokenizer
        self._vocabulary = Vocabulary.parse(folder.tokenizer.tokenizer.to_str())
        self._context_length = folder.manifest.context_length
        self.caches = CachePool(model.config, static)
        self.runner = ForwardRunner(model, graphs=static > 0)
        self._masks: TokenMaskFactory | None = None

    @classmethod
    def devices(cls) -> tuple[str, ...]:
        """Return the devices, the fastest first."""
        if any(find_spec(name) is None for name in cls.needs):
            return ()
        import torch

        gpus = [name for name in ("cuda", "xpu") if getattr(torch, name).is_available()]
        return tuple(f"torch:{name}" for name in (*gpus, "cpu"))

    @classmethod
    def find_device(cls, name: str) -> FoundDevice | None:
        kind = name.lower().partition(":")[0]
        if kind != cls.extra:
            return None
        if name.lower() == "torch" and cls.devices():
            return FoundDevice(cls.devices()[0], "it is the fastest that PyTorch finds here")
        return FoundDevice(name.lower())

    @classmethod
    def require_installed(cls, device: str) -> None:
        """Raise DeviceError if packages are missing."""
        if missing := [name for name in cls.needs if find_spec(name) is None]:
            raise DeviceError(
                f"{device} needs {', '.join(missing)}, which is not installed", hint=install_hint(cls.extra)
            )

    @classmethod
    def load(cls, source: ModelSource, device: str, options: Options) -> Self:
        """Raises DeviceError if the device is missing, CheckpointError, RequestError for options that exclude each
        other, or BackendError."""
        cls.require_installed(device)
        if device not in cls.devices():
            raise DeviceError(f"PyTorch finds no {device} here", hint=f"it finds {', '.join(cls.devices())}")
        folder = source.checkpoint
        if folder is None:
            raise BackendError(
                f"{source.path} is a converted model, which PyTorch cannot read",
                hint="pass the checkpoint that it was made from, or run it on OpenVINO",
            )
        if folder.config.get("vision_config") is not None:
            raise BackendError(
                f"{source.path} is a vision model, which is not supported on PyTorch",
                hint=f"`edge convert {source.path} FOLDER` converts it for OpenVINO",
            )
        if options.adapters:
            folder = folder.with_adapters(options.adapters)
        import torch

        from .model import load_model

        name = device.partition(":")[2] or "cpu"
        precision = options.precision or ("bf16" if cls.has_bf16(name) else "f32")
        dtype = {"bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32}.get(precision)
        if dtype is None or options.kv_precision not in (None, precision):
            raise RequestError(
                f"PyTorch runs no {precision} with a KV cache of {options.kv_precision or precision}",
                hint="the precision may be bf16, f16 or f32, and the KV cache has the same",
            )
        if options.threads is not None:
            torch.set_num_threads(options.threads)
        several = name == "cuda" and _needs_several_cards(folder, dtype)
        static = 0
        try:
            model = load_model(folder, dtype, device_map="auto" if several else None)
            model = cls.prepare(model if several else model.to(name), dtype)
            if name == "cuda" and not several:
                manifest = folder.manifest
                token = manifest.kv_bytes_per_token * dtype.itemsize // 2  # the manifest's is of an f16 cache
                static = static_tokens(manifest.context_length, token, torch.cuda.mem_get_info()[0])
            return cls(model, folder, static)
        except (RuntimeError, ValueError, ImportError) as exc:
            raise BackendError(
                f"PyTorch cannot load {folder.path}: {first_error_line(exc)}", hint="choose another device or precision"
            ) from exc

    @classmethod
    def has_bf16(cls, name: str) -> bool:
        """Whether "cpu", "xpu" or "cuda" computes in bf16 natively."""
        import torch

        if name == "cuda":
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
        if name == "xpu":
            return bool(torch.xpu.is_bf16_supported(including_emulation=False))
        found = torch.cpu.get_capabilities()
        return bool(found.get("avx512_bf16") or found.get("amx_bf16"))

    @classmethod
    def prepare(cls, model: Any, dtype: Any) -> Any:
        """Return the model as it will run."""
        return model

    def generate(self, request: Request) -> Generator[Delta | Finish, None, None]:
        start = time.perf_counter()
        sampling = request.sampling
        ids = self._prompt_ids(request)
        prompt_tokens = len(ids) - len(request.generated)
        room = self._context_length - len(ids)
        limit = room if sampling.max_new_tokens is None else min(sampling.max_new_tokens, room)
        special = self._tokenizer.special_tokens
        stops = {id for name, id in special.items() if name in request.stop_tokens}.union(request.stop_ids)
        mask = None if request.grammar is None else self._mask(request.grammar)
        choose, text = _token_chooser(sampling, prompt_tokens), self._vocabulary.decoder()
        context = self.caches.acquire(ids)
        cached, generated, ttft = 0 if sampling.prompt_logprobs else len(context.ids), 0, 0.0
        reason: FinishReason | None = None
        logits: Any = None
        stop: TokenLogprob | None = None
        try:
            if sampling.prompt_logprobs:
                logits = yield from self._score_prompt(context, ids, request)
                reason = "cancelled" if logits is None else None if limit else "length"
            while reason is None:
                if not context.has_room(len(ids)):
                    context = self.caches.grow(context)
                if logits is None:
                    logits = self.runner.logits(context, ids[len(context.ids) :], request.cancellation)
                if logits is None:
                    reason = "cancelled"
                    break
                own, logits = logits, None
                token = choose(own if mask is None else mask.apply(own, stops), ids)
                ids.append(token)
                generated += 1
                ttft = ttft or time.perf_counter() - start
                if token in stops:
                    reason = "stop"
                elif mask is not None:
                    mask.advance(token)
                    reason = "stop" if mask.ended else None
                if reason is None and generated == limit:
                    reason = "length"
                piece = text.feed([] if token in stops else [token])
                known = self._logprob(own, token, sampling.top_logprobs) if sampling.logprobs else None
                logprob, stop = (None, known) if token in stops else (known, None)
                yield Delta(piece, 1, logprob, text.take_ids())
                if reason is not None and (rest := text.finish()):
                    yield Delta(rest, 0, ids=text.take_ids())
            usage = Usage(prompt_tokens, generated, ttft, time.perf_counter() - start, min(cached, prompt_tokens))
            yield Finish(reason, usage, stop_token=stop)
        finally:
            self.caches.release(context)

    def _prompt_ids(self, request: Request) -> list[int]:
        """Return the ids of the prompt and of the reply so far. Raises PromptTooLong, RequestError for an unknown id,
        and BackendError if the model was closed."""
        if self.model is None:
            raise BackendError("the model was closed", hint="load it again")
        biased = [id for id, _ in request.sampling.logit_bias]
        self._vocabulary.require_known((*request.prompt_ids, *request.stop_ids, *biased))
        ids = [*request.prompt_ids, *self.encode(request.prompt), *request.generated]
        if len(ids) > self.max_prompt_tokens:
            raise PromptTooLong(len(ids), self.max_prompt_tokens)
        require_prompt(ids)
        return ids

    def _score_prompt(self, context: KVCache, ids: list[int], request: Request) -> Generator[Delta, None, Any]:
        """Read the prompt and yield the log-probabilities of its tokens; the generator's value is the logits after the
        last of them, None if it was cancelled."""
        from ..logits.token_logprobs import PromptScorer

        context.cut(0)
        scorer, logits = PromptScorer(self._vocabulary, request.sampling.top_logprobs), None
        for chunk, logits in self.runner.read_whole(context, ids, request.cancellation):
            yield Delta("", 0, prompt=scorer.feed(chunk, logits.cpu().numpy()))
        return logits[-1] if logits is not None and len(context.ids) == len(ids) else None

    def _logprob(self, logits: Any, token: int, top: int) -> TokenLogprob:
        from ..logits.token_logprobs import token_logprob

        return token_logprob(logits.cpu().numpy(), token, self._vocabulary, top)

    def _mask(self, grammar: Grammar | Rest | EngineGrammar) -> TokenMask:
        assert not isinstance(grammar, EngineGrammar), "that of another engine"
        if self._masks is None:
            end = self._tokenizer.special_tokens[self._tokenizer.eos_token]
            self._masks = TokenMaskFactory(self._tokenizer.tokenizer.to_str(), end)
        return self._masks.mask(grammar)

    def encode(self, prompt: Prompt) -> list[int]:
        return [id for piece in require_text(prompt, "PyTorch's engine") for id in self._tokenizer.encode(piece)]

    def close(self) -> None:
        self.runner.close()
        self.model = self._masks = None
        self.caches = CachePool(None)


def _needs_several_cards(folder: Checkpoint, dtype: Any) -> bool:
    """Return whether the weights are too large for the first card, and there are others. One alone decodes faster:
    layers on several wait for one another, and CUDA graphs are not available."""
    import torch

    weights = dtype.itemsize * sum(prod(shape) for _, shape in folder.architecture.shapes())
    return bool(torch.cuda.device_count() > 1 and weights > _SHARE * torch.cuda.mem_get_info(0)[0])


def _token_chooser(sampling: SamplingParams, prompt_tokens: int) -> Callable[[Any, Sequence[int]], int]:
    """Return a function of the logits and of all ids so far, the first of which are the prompt's: the next id."""
    import torch
    from transformers import (
        LogitsProcessorList,
        MinPLogitsWarper,
        RepetitionPenaltyLogitsProcessor,
        TemperatureLogitsWarper,
        TopKLogitsWarper,
        TopPLogitsWarper,
    )

    steps = LogitsProcessorList()
    if sampling.repetition_penalty != 1:
        steps.append(RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty))
    if not sampling.greedy:
        steps.append(TemperatureLogitsWarper(sampling.temperature))
        if sampling.top_k:
            steps.append(TopKLogitsWarper(sampling.top_k))
        if sampling.top_p < 1:
            steps.append(TopPLogitsWarper(sampling.top_p))
        if sampling.min_p:
            steps.append(MinPLogitsWarper(sampling.min_p))
    draw = torch.Generator()
    draw.seed() if sampling.seed is None else draw.manual_seed(sampling.seed)

    def choose(logits: Any, ids: Sequence[int]) -> int:
        if sampling.logit_bias:
            logits = logits.clone()
            for token, bias in sampling.logit_bias:
                logits[token] += bias
        if sampling.presence_penalty or sampling.frequency_penalty:
            generated_ids, times = torch.tensor(ids[prompt_tokens:], dtype=torch.long, device=logits.device).unique(
                return_counts=True
            )
            logits = logits.clone()
            logits[generated_ids] -= sampling.presence_penalty + sampling.frequency_penalty * times
        if steps:
            logits = steps(torch.tensor([ids], device=logits.device), logits[None])[0]
        if sampling.greedy:
            return int(logits.argmax())
        return int(torch.multinomial(logits.softmax(-1).cpu(), 1, generator=draw))

    return choose
