"""GenAI's static pipeline, for NPUs: the lengths of prompt and reply are fixed when the model is loaded.

It serves one request at a time; others wait for their turn. Beyond the fixed length it would continue with a corrupt
cache, so longer prompts are rejected before it sees them. "NPUW:CPU" runs the same pipeline on the CPU, without an NPU.
"""

from dataclasses import replace
from typing import Self

from ....errors import DeviceError
from ....folder.ir import IR, NPU_HINT
from ....source import ModelSource
from ...backend import FoundDevice, Options
from ..genai import find_devices, load_properties, require_model_folder
from .backend import SingleRequestBackend

CONTEXT = 4096  # tokens of prompt and reply where none are asked for
REPLY_TOKENS = 1024
EMULATED = "NPUW:CPU"
_EMULATION = {"NPU_USE_NPUW": "YES", "NPUW_DEVICES": "CPU", "NPUW_ONLINE_PIPELINE": "NONE"}


def lengths(options: Options, context_length: int) -> tuple[int, int]:
    """Return the tokens of the longest prompt, and those kept free for the reply."""
    context = min(options.context or CONTEXT, context_length)
    reply = options.reply_tokens or min(REPLY_TOKENS, context // 4)
    if reply >= context:
        raise DeviceError(
            f"a reply of {reply:,} tokens leaves no room for a prompt in a context of {context:,}",
            hint="use a longer context or a shorter reply",
        )
    return context - reply, reply


class NPU(SingleRequestBackend):
    """A model folder on an NPU, or on its emulation."""

    @classmethod
    def devices(cls) -> tuple[str, ...]:
        found = find_devices("CPU", "NPU")
        return (*(name for name in found if name != "CPU"), EMULATED) if found else ()

    @classmethod
    def find_device(cls, name: str) -> FoundDevice | None:
        if name.upper() == EMULATED and EMULATED in cls.devices():
            return FoundDevice(EMULATED, "it was asked for: the NPU's pipeline, emulated on the CPU")
        return super().find_device(name)

    @classmethod
    def load(cls, source: ModelSource, device: str, options: Options) -> Self:
        """Raises DeviceError if there is no NPU or the folder is unsuitable, BackendError if loading fails."""
        folder = require_model_folder(source, device, cls.devices())
        if folder.manifest.vision is not None:
            raise DeviceError("vision models are not supported on an NPU", hint="use the CPU or a GPU")
        if unfit := IR.read(folder).npu_obstacles():
            raise DeviceError(
                f"{folder.path} is not suitable for an NPU: {'; '.join(unfit)}",
                hint=NPU_HINT,
            )
        if options.kv_precision not in (None, "f16"):
            raise DeviceError(
                f"an NPU's KV cache is in f16, not {options.kv_precision}", hint="leave its precision to the engine"
            )
        prompt_tokens, reply_tokens = lengths(options, folder.manifest.context_length)
        static = {
            "MAX_PROMPT_LEN": prompt_tokens,
            "MIN_RESPONSE_LEN": reply_tokens,
            "NPUW_LLM_ENABLE_PREFIX_CACHING": "YES",
        } | (_EMULATION if device == EMULATED else {})
        # What is read back from the cache has forgotten a precision that was asked for, and fails at the first prompt.
        kept = replace(options, threads=None, kv_precision=None, cache=options.cache and options.precision is None)
        import openvino_genai as genai

        with load_properties(folder, device, kept, "update the NPU's driver, or use a shorter context") as settings:
            name = "NPU" if device == EMULATED else device
            pipeline = genai.LLMPipeline(str(folder.path), name, **static, **settings)
        return cls(pipeline, folder, prompt_tokens, prompt_tokens + reply_tokens)
