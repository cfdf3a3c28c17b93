"""Intel Extension for PyTorch on Intel CPUs: the torch backend with its layers replaced by Intel's.

2.8 is the last release, for torch 2.8; its makers recommend plain PyTorch now
(https://github.com/intel/intel-extension-for-pytorch). It needs an environment of its own.
"""

import warnings
from importlib.util import find_spec
from typing import Any, Self

from ..checkpoint_folder import Folder
from ..errors import BackendError, DeviceError, Notice
from .backend import Options
from .torch import Torch

_PACKAGE = "intel_extension_for_pytorch"


class Ipex(Torch):
    """A checkpoint on the CPU, by IPEX: in f32, or in bf16 where the CPU has AVX512 or AMX."""

    needs = (*Torch.needs, _PACKAGE)
    extra = "ipex"

    @classmethod
    def devices(cls) -> tuple[str, ...]:
        return () if any(find_spec(name) is None for name in cls.needs) else ("ipex",)

    @classmethod
    def load(cls, folder: Folder, device: str, options: Options) -> Self:
        """As Torch.load. Raises BackendError, too, where IPEX replaced nothing."""
        engine = super().load(folder, device, options)
        warnings.warn(
            "IPEX 2.8 is the last release; its makers recommend plain PyTorch (--device torch:cpu)",
            Notice,
            stacklevel=2,
        )
        return engine

    @classmethod
    def has_bf16(cls, name: str) -> bool:
        return False  # f32 unless bf16 is asked for

    @classmethod
    def prepared(cls, model: Any, dtype: Any) -> Any:
        import intel_extension_for_pytorch as ipex
        import torch

        if dtype != torch.float32 and torch.backends.cpu.get_cpu_capability() != "AVX512":
            raise DeviceError("IPEX packs bf16 weights with AVX512 or AMX alone", hint="run it in f32, or on OpenVINO")
        optimised = ipex.optimize(model, dtype=dtype, inplace=True)
        # It gives a model that it does not know back as it was, without a word.
        if not any(type(module).__module__.startswith(_PACKAGE) for module in optimised.modules()):
            raise BackendError("IPEX replaced no layer of this model", hint="use --device torch:cpu")
        return optimised
