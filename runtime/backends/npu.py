"""GenAI's static pipeline, for NPUs: the lengths of prompt and reply are fixed when the model is loaded.

It serves one request at a time; others wait for their turn. Past the fixed length it would go on with a garbled cache,
so longer prompts are refused before it sees them. "NPUW:CPU" runs the same pipeline on the CPU, without an NPU.
"""

import time
from collections.abc import Generator
from dataclasses import replace
from queue import SimpleQueue
from threading import Event, Lock, Thread
from typing import Any, Self

from ..checkpoint_folder import Folder
from ..errors import BackendError, DeviceError, PromptTooLong
from ..ir import IR, NPU_CURE
from ..messages import Finish, Usage
from ..model_folder import ModelFolder
from ..template import Prompt
from .backend import Delta, Options, Request
from .genai import Tokens, brief, compiled_cache, converted, explained, generation_config, properties

CONTEXT = 4096  # tokens of prompt and reply where none are asked for
REPLY_TOKENS = 1024
EMULATED = "NPUW:CPU"
_EMULATION = {"NPU_USE_NPUW": "YES", "NPUW_DEVICES": "CPU", "NPUW_ONLINE_PIPELINE": "NONE"}


def lengths(options: Options, context_length: int) -> tuple[int, int]:
    """Tokens of the longest prompt, and those kept free for the reply."""
    context = min(options.context or CONTEXT, context_length)
    reply = options.reply_tokens or min(REPLY_TOKENS, context // 4)
    if reply >= context:
        raise DeviceError(
            f"a reply of {reply:,} tokens leaves no room for a prompt in a context of {context:,}",
            hint="ask for a longer context or a shorter reply",
        )
    return context - reply, reply


class NPU:
    """A model folder on the NPU, or on its emulation."""

    def __init__(self, pipeline: Any, folder: ModelFolder, prompt_tokens: int, reply_tokens: int) -> None:
        self.max_prompt_tokens = prompt_tokens
        self._room = prompt_tokens + reply_tokens
        self._pipeline = pipeline
        self._tokens: Any = Tokens(pipeline.get_tokenizer(), folder)
        self._turn = Lock()

    @classmethod
    def devices(cls) -> tuple[str, ...]:
        try:
            import openvino
            import openvino_genai  # noqa: F401
        except ImportError:
            return ()
        found = [name for name in openvino.Core().available_devices if name.startswith("NPU")]
        return (*found, EMULATED)

    @classmethod
    def load(cls, folder: Folder, device: str, options: Options) -> Self:
        """Raises DeviceError where there is no NPU or the folder is not fit for one, BackendError where it fails."""
        if device not in cls.devices():
            raise DeviceError(f"OpenVINO finds no {device} here", hint="`edge doctor` says what is missing")
        folder = converted(folder)
        if unfit := IR.read(folder).unfit_for_npu():
            raise DeviceError(
                f"{folder.path} is not fit for an NPU: {'; '.join(unfit)}",
                hint=NPU_CURE,
            )
        if options.kv_precision not in (None, "f16"):
            raise DeviceError(
                f"an NPU's KV cache is in f16, not {options.kv_precision}", hint="leave its precision to the engine"
            )
        prompt_tokens, reply_tokens = lengths(options, folder.manifest.context_length)
        settings = properties(replace(options, threads=None, kv_precision=None)) | {
            "MAX_PROMPT_LEN": prompt_tokens,
            "MIN_RESPONSE_LEN": reply_tokens,
            "NPUW_LLM_ENABLE_PREFIX_CACHING": "YES",
        }
        if device == EMULATED:
            settings |= _EMULATION
        import openvino_genai as genai

        # What is read back from the cache has forgotten a precision that was asked for, and fails at the first prompt.
        keep = replace(options, cache=options.cache and options.precision is None)
        try:
            with compiled_cache(folder, device, keep) as place:
                name = "NPU" if device == EMULATED else device
                pipeline = genai.LLMPipeline(str(folder.path), name, **settings, **place)
        except RuntimeError as exc:
            raise BackendError(
                f"the NPU's pipeline cannot load {folder.path}: {brief(exc)}",
                hint="update the NPU's driver, or ask for a shorter context",
            ) from exc
        return cls(pipeline, folder, prompt_tokens, reply_tokens)

    def count_tokens(self, prompt: Prompt) -> int:
        return len(self.encode(prompt))

    def encode(self, prompt: Prompt) -> list[int]:
        ids: list[int] = self._tokens.encode(prompt)
        return ids

    def generate(self, request: Request) -> Generator[Delta | Finish, None, None]:
        start = time.perf_counter()
        if self._pipeline is None:
            raise BackendError("the model was closed", hint="load it again")
        ids = self._tokens.encode(request.prompt)
        if len(ids) > self.max_prompt_tokens:
            raise PromptTooLong(len(ids), self.max_prompt_tokens)
        stops = self._tokens.stop_ids(request)
        run = _Run(self._pipeline, self._turn, ids, generation_config(request, stops, self._room - len(ids)))
        text = self._tokens.decoder()
        generated, ttft = 0, 0.0
        try:
            while isinstance(new := run.tokens.get(), list):
                ttft = ttft or time.perf_counter() - start
                generated += len(new)
                yield Delta(text.feed(i for i in new if i not in stops), len(new))
        finally:
            run.stop()
        if isinstance(new, RuntimeError):
            raise explained(new, request) from new
        if isinstance(new, BaseException):
            raise new
        if rest := text.finish():
            yield Delta(rest, 0)
        yield Finish(new, Usage(len(ids), generated, ttft, time.perf_counter() - start))

    def close(self) -> None:
        self._pipeline = self._tokens = None


class _Run:
    """One reply, written in a thread of its own: GenAI calls back for every token and returns only at the end.

    `tokens` yields lists of ids, and at last the reason for which the reply ended, or what went wrong.
    """

    def __init__(self, pipeline: Any, turn: Lock, ids: list[int], config: Any) -> None:
        self.tokens: SimpleQueue[Any] = SimpleQueue()
        self._cancelled = Event()
        self._thread = Thread(target=self._write, args=(pipeline, turn, ids, config), name="npu")
        self._thread.start()

    def stop(self) -> None:
        """Cancels what is still to come, and waits until the engine has left off."""
        self._cancelled.set()
        self._thread.join()

    def _write(self, pipeline: Any, turn: Lock, ids: list[int], config: Any) -> None:
        import numpy as np
        import openvino
        from openvino_genai import GenerationFinishReason, TokenizedInputs

        try:
            with turn:
                if self._cancelled.is_set():
                    return
                prompt = np.array([ids], dtype=np.int64)
                inputs = TokenizedInputs(openvino.Tensor(prompt), openvino.Tensor(np.ones_like(prompt)))
                result = pipeline.generate(inputs, config, _streamer(self.tokens, self._cancelled))
            # It ends without a reason where prompt and reply have filled the cache.
            stopped = result.finish_reasons[0] == GenerationFinishReason.STOP
            self.tokens.put("stop" if stopped else "length")
        except BaseException as exc:
            self.tokens.put(exc)


def _streamer(tokens: "SimpleQueue[Any]", cancelled: Event) -> Any:
    """What GenAI calls for every token. An exception in it would end the process, so it does nothing that can raise."""
    from openvino_genai import StreamerBase, StreamingStatus

    class Streamer(StreamerBase):  # type: ignore[misc]
        def write(self, token: Any) -> Any:
            tokens.put([token] if isinstance(token, int) else list(token))
            return StreamingStatus.CANCEL if cancelled.is_set() else StreamingStatus.RUNNING

        def end(self) -> None:
            pass

    return Streamer()
