"""A LoRA adapter's adapter_config.json, as PEFT writes it: every field is carried out, irrelevant, or rejected by name.

Fields and their meaning: https://huggingface.co/docs/peft/package_reference/lora (LoraConfig).
"""

import math
import re
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...errors import CheckpointError
from ...text import one_line, quoted
from ..files.small_files import DOWNLOAD_AGAIN, read_json

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
PICKLED_WEIGHTS = "adapter_model.bin"
MERGE_HINT = "merge it with PEFT (merge_and_unload), save the model, and convert that"
_PROMPT_METHODS = ("P_TUNING", "PREFIX_TUNING", "PROMPT_TUNING", "MULTITASK_PROMPT_TUNING", "ADAPTION_PROMPT")
# Fields that describe the training, or which modules have tensors: the tensors themselves show that.
_IRRELEVANT = frozenset(
    "auto_mapping base_model_name_or_path corda_config eva_config exclude_modules inference_mode layers_pattern "
    "layers_to_transform lora_dropout megatron_core modules_to_save peft_type peft_version qalora_group_size revision "
    "target_modules task_type".split()
)
_CARRIED_OUT = frozenset("alpha_pattern init_lora_weights lora_alpha r rank_pattern use_dora use_rslora".split())
# The others, such as PiSSA and OLoRA, train on base weights that they have changed.
_INITIALISATIONS = (None, True, False, "gaussian", "orthogonal", "eva")
_MAX_PATTERN = 200  # characters
_MAX_REPEATS = 3  # of a pattern, and none of a group: matching takes polynomial time


@dataclass(frozen=True, slots=True)
class LoraConfig:
    """The scaling of an adapter's matrices. `base` is the name of the model that it was trained on, "" if unknown.

    The patterns map regular expressions for the ends of module names to values for these modules.
    """

    rank: int
    alpha: float
    rslora: bool = False
    dora: bool = False
    rank_pattern: Mapping[str, float] = field(default_factory=dict)
    alpha_pattern: Mapping[str, float] = field(default_factory=dict)
    base: str = ""

    def rank_of(self, module: str) -> int:
        """Return the rank of a module's matrices."""
        return int(_lookup(self.rank_pattern, module, self.rank))

    def scale_of(self, module: str) -> float:
        """Return the factor of a module's product B·A."""
        alpha, rank = _lookup(self.alpha_pattern, module, self.alpha), self.rank_of(module)
        return alpha / (math.sqrt(rank) if self.rslora else rank)


def read_adapter_config(folder: Path) -> LoraConfig:
    """Read and validate a folder's adapter_config.json. Raises CheckpointError, naming a field that is not
    supported."""
    config = read_json(folder / ADAPTER_CONFIG, required=True)
    kind = config.get("peft_type")
    if kind != "LORA":
        raise CheckpointError(
            f"{ADAPTER_CONFIG}: peft_type is {reprlib.repr(kind)}; only LORA is supported",
            hint="P-Tuning and its kin train a prompt, not weights: train with LoRA instead"
            if kind in _PROMPT_METHODS
            else MERGE_HINT,
        )
    for name, value in config.items():
        if name == "bias" and value == "none":
            continue
        if value and name not in _IRRELEVANT | _CARRIED_OUT:
            raise _unsupported(name, value)
    start = config.get("init_lora_weights", True)
    if start not in _INITIALISATIONS:
        raise CheckpointError(
            f"{ADAPTER_CONFIG}: init_lora_weights is {quoted(start)}, whose training changed the base model's weights",
            hint="save it as a plain LoRA (path_initial_model_for_weight_conversion in PEFT), or merge it with PEFT",
        )
    return LoraConfig(
        rank=int(_number("r", config.get("r", 8), least=1)),
        alpha=_number("lora_alpha", config.get("lora_alpha", 8)),
        rslora=_boolean(config, "use_rslora"),
        dora=_boolean(config, "use_dora"),
        rank_pattern=_pattern(config, "rank_pattern", least=1),
        alpha_pattern=_pattern(config, "alpha_pattern"),
        base=_base_model_name(config),
    )


def reject_adapter_alone(folder: Path) -> None:
    """Raise CheckpointError if the folder, which is no checkpoint, is an adapter."""
    if (folder / ADAPTER_CONFIG).is_file():
        base = _base_model_name(read_json(folder / ADAPTER_CONFIG))
        raise CheckpointError(
            f"{str(folder)!r} is a LoRA adapter{f' of {base}' if base else ''}, not a checkpoint",
            hint=f"`edge convert {base or 'CHECKPOINT'} FOLDER --adapter {folder}` merges it into its base model",
        )


def reject_adapter_beside_weights(folder: Path) -> None:
    """Raise CheckpointError if an adapter lies beside a checkpoint's weights: it would be left out."""
    if (folder / ADAPTER_CONFIG).is_file() and any(
        (folder / name).is_file() for name in (ADAPTER_WEIGHTS, PICKLED_WEIGHTS)
    ):
        raise CheckpointError(
            f"{str(folder)!r} has a LoRA adapter ({ADAPTER_CONFIG}) beside its weights",
            hint=f"--adapter {folder} merges it; if the weights contain it already, remove {ADAPTER_CONFIG}",
        )


def _base_model_name(config: Mapping[str, Any]) -> str:
    name = config.get("base_model_name_or_path")
    return one_line(name, 200) if isinstance(name, str) else ""


def _unsupported(name: str, value: object) -> CheckpointError:
    return CheckpointError(
        f"{ADAPTER_CONFIG}: {one_line(name, 60)} is {reprlib.repr(value)}, which is not supported", hint=MERGE_HINT
    )


def _number(name: str, value: object, least: float = 0.0) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= 2**31:
        raise CheckpointError(
            f"{ADAPTER_CONFIG}: {one_line(name, 100)} is {reprlib.repr(value)}, not a number of at least {least:g}",
            hint=DOWNLOAD_AGAIN,
        )
    return float(value)


def _boolean(config: Mapping[str, Any], name: str) -> bool:
    value = config.get(name) or False
    if not isinstance(value, bool):
        raise CheckpointError(
            f"{ADAPTER_CONFIG}: {name} is {reprlib.repr(value)}, not true or false", hint=DOWNLOAD_AGAIN
        )
    return value


def _pattern(config: Mapping[str, Any], name: str, least: float = 0.0) -> dict[str, float]:
    """Return a mapping of patterns to numbers. Rejects patterns that could take long to match."""
    found = config.get(name) or {}
    if not isinstance(found, dict):
        raise CheckpointError(f"{ADAPTER_CONFIG}: {name} is not an object", hint=DOWNLOAD_AGAIN)
    for pattern in found:
        repeats = re.findall(r"(?<!\\)[*+?{]", pattern)
        if len(pattern) > _MAX_PATTERN or len(repeats) > _MAX_REPEATS or re.search(r"\)[*+?{]", pattern):
            raise CheckpointError(
                f"{ADAPTER_CONFIG}: the pattern {quoted(pattern)} of {name} is too complex",
                hint="write the modules' names out, one entry each",
            )
        try:
            re.compile(_anchored(pattern))
        except re.error as exc:
            raise CheckpointError(
                f"{ADAPTER_CONFIG}: {quoted(pattern)} of {name} is not a regular expression: {one_line(exc)}",
                hint=DOWNLOAD_AGAIN,
            ) from exc
    return {pattern: _number(f"{name}[{pattern!r}]", value, least) for pattern, value in found.items()}


def _lookup(patterns: Mapping[str, float], module: str, default: float) -> float:
    """Return the value of the first pattern that matches the end of the module's name, as in PEFT."""
    return next((value for pattern, value in patterns.items() if re.match(_anchored(pattern), module)), default)


def _anchored(pattern: str) -> str:
    return rf"(.*\.)?({pattern})$"
