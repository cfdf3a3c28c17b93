"""Intel Extension for PyTorch on Intel CPUs: the torch backend with its layers replaced by Intel's.

2.8 is the last release, for torch 2.8; its makers recommend plain PyTorch now
(https://github.com/intel/intel-extension-for-pytorch). It needs an environment of its own.

Its weight-only int8 (`quantization.get_weight_only_quant_qconfig_mapping`) is left out, as it does not pay: for one
matrix of 4,096 x 4,096 and one token, bf16 takes 3 ms of CPU time and int8 120 to 176 (512 tokens: 128 ms, and 194 to
243), on a CPU with AVX512_BF16. The recipe int8 on OpenVINO is for that.
"""

import warnings
from importlib.util import find_spec
from typing import Any, Self

from ...errors import BackendError, DeviceError, Notice, RequestError
from ...source import ModelSource
from ..backend import Options
from .engine import Torch

_PACKAGE = "intel_extension_for_pytorch"


class Ipex(Torch):
    """A checkpoint on the CPU, by IPEX: in bf16 where the CPU computes in it, else in f32."""

    needs = (*Torch.needs, _PACKAGE)
    extra = "ipex"

    @classmethod
    def devices(cls) -> tuple[str, ...]:
        return () if any(find_spec(name) is None for name in cls.needs) else ("ipex",)

    @classmethod
    def load(cls, source: ModelSource, device: str, options: Options) -> Self:
        """Load as Torch.load does. Also raises BackendError if IPEX left a layer of the decoder as it was."""
        if options.precision not in (None, "f32", "bf16"):
            raise RequestError(
                f"IPEX runs f32 and bf16, not {options.precision}", hint="convert with the recipe int8, for OpenVINO"
            )
        engine = super().load(source, device, options)
        warnings.warn(
            "IPEX 2.8 is the last release; its makers recommend plain PyTorch (--device torch:cpu)",
            Notice,
            stacklevel=2,
        )
        return engine

    @classmethod
    def has_bf16(cls, name: str) -> bool:
        import torch

        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())

    @classmethod
    def prepare(cls, model: Any, dtype: Any) -> Any:
        import intel_extension_for_pytorch as ipex
        import torch

        if dtype != torch.float32 and torch.backends.cpu.get_cpu_capability() != "AVX512":
            raise DeviceError("IPEX packs bf16 weights with AVX512 or AMX alone", hint="run it in f32, or on OpenVINO")
        linear = [name for name, module in model.model.named_modules() if isinstance(module, torch.nn.Linear)]
        optimised = ipex.optimize(model, dtype=dtype, inplace=True)
        # It gives a model that it does not know back as it was, without a word. The head is not asked for: IPEX leaves
        # one alone whose weights are the embedding's, too.
        replaced = [type(optimised.model.get_submodule(name)).__module__.startswith(_PACKAGE) for name in linear]
        if not linear or not all(replaced):
            raise BackendError(
                f"IPEX replaced {sum(replaced)} of the model's {len(linear)} matrices", hint="use --device torch:cpu"
            )
        return optimised
