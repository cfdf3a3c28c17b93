"""PEFT's own adapters on the three checkpoint formats: the converted model has the logits of PEFT's merge. Run by
tests/environments/peft.sh."""

import json
from importlib.util import find_spec

import numpy as np
import pytest

from convert.check import verify
from convert.pipeline import convert
from runtime.checkpoint.architecture import read_architecture, read_config
from runtime.checkpoint.checkpoint import Checkpoint

from .adapters import to_bf16, write_weights
from .checkpoints import Tiny
from .test_pipeline import write_checkpoint

pytestmark = [
    pytest.mark.peft,
    pytest.mark.skipif(find_spec("peft") is None, reason="PEFT is not installed here"),
    pytest.mark.filterwarnings("ignore"),
]
ATTENTION = {
    "chatglm": ["query_key_value"],
    "glm": ["q_proj", "k_proj", "v_proj"],
    "glm4": ["q_proj", "k_proj", "v_proj"],
}
FEED_FORWARD = {
    "chatglm": ["dense_h_to_4h", "dense_4h_to_h"],
    "glm": ["gate_up_proj", "down_proj"],
    "glm4": ["gate_up_proj", "down_proj"],
}
OUTPUT = {"chatglm": ["dense"], "glm": ["o_proj"], "glm4": ["o_proj"]}
EMBEDDING = {"chatglm": "word_embeddings", "glm": "embed_tokens", "glm4": "embed_tokens"}
HEAD = {"chatglm": "output_layer", "glm": "lm_head", "glm4": "lm_head"}
CASES = {
    "plain": {"targets": (ATTENTION, FEED_FORWARD, OUTPUT)},
    "attention alone, as GLM-4's finetune.py": {"targets": (ATTENTION,), "r": 8, "lora_alpha": 32, "lora_dropout": 0.1},
    "rslora": {"targets": (ATTENTION, FEED_FORWARD), "use_rslora": True},
    "DoRA": {"targets": (ATTENTION, FEED_FORWARD, OUTPUT), "use_dora": True},
    "patterns": {
        "targets": (ATTENTION, FEED_FORWARD),
        "rank_pattern": {r"layers\.1\..*": 3},
        "alpha_pattern": {"q_proj": 20, "query_key_value": 20, "^(model|transformer).*down_proj": 1},
    },
    "modules_to_save": {"targets": (ATTENTION,), "modules_to_save": HEAD},
    "embedding": {"targets": (ATTENTION, {name: [value] for name, value in EMBEDDING.items()})},
    "a gaussian start": {"targets": (ATTENTION,), "init_lora_weights": "gaussian"},
}


def module_of(format, folder, stored):
    """A torch module with the checkpoint's names: transformers' class, or bare layers for the original format."""
    import torch

    values = {name: torch.from_numpy(value.copy()) for name, value in stored.items()}
    if format == "chatglm":
        root = torch.nn.Module()
        for name, value in values.items():
            *path, kind = name.split(".")
            parent = root
            for step in path[:-1]:
                if step not in dict(parent.named_children()):
                    parent.add_module(step, torch.nn.Module())
                parent = getattr(parent, step)
            if kind != "weight":
                continue
            rows_columns = tuple(value.shape)
            layer = (
                torch.nn.Module()
                if len(rows_columns) == 1
                else torch.nn.Linear(rows_columns[1], rows_columns[0], False)
            )
            if "word_embeddings" in name:
                layer = torch.nn.Embedding(*rows_columns)
            layer.weight = torch.nn.Parameter(value)
            parent.add_module(path[-1], layer)
        return root
    import transformers

    name = {"glm": "Glm", "glm4": "Glm4"}[format]
    config = getattr(transformers, f"{name}Config").from_pretrained(folder)
    return getattr(transformers, f"{name}ForCausalLM").from_pretrained(None, config=config, state_dict=values)


def save_adapter(module, format, folder, case, seed):
    """Trains nothing: random values in every factor; returns PEFT's model."""
    import peft
    import torch

    fields = dict(CASES[case])
    targets = [name for kind in fields.pop("targets") for name in kind[format]]
    if "modules_to_save" in fields:
        fields["modules_to_save"] = [fields["modules_to_save"][format]]
    torch.manual_seed(seed)
    config = peft.LoraConfig(target_modules=targets, **{"r": 4, "lora_alpha": 8} | fields)
    wrapped = peft.get_peft_model(module, config)
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in wrapped.named_parameters():
            if "lora_magnitude" in name:
                value.mul_(torch.empty_like(value).uniform_(0.7, 1.5, generator=random))
            elif "lora_" in name or "modules_to_save" in name:
                value.add_(0.1 * torch.randn(value.shape, generator=random))
    wrapped.save_pretrained(folder)
    return wrapped


def load_adapter(module, *folders, weights):
    """PEFT's merge in f32 of adapters that it reads from their folders."""
    import peft

    model = peft.PeftModel.from_pretrained(module, folders[0], adapter_name="0")
    for number, folder in enumerate(folders[1:], 1):
        model.load_adapter(folder, adapter_name=str(number))
    for number, weight in enumerate(weights):
        for layer in model.modules():
            if isinstance(getattr(layer, "scaling", None), dict) and str(number) in layer.scaling:
                layer.scaling[str(number)] *= weight
    model.base_model.set_adapter([str(number) for number in range(len(folders))])
    merged = model.merge_and_unload()
    return {name: value.detach().numpy() for name, value in merged.state_dict().items()}


def logits(folder, ids):
    architecture = read_architecture(read_config(folder))
    (found,) = verify.converted_logits(folder, architecture, [ids], whole=True)
    return found


def torch_logits(checkpoint, ids):
    """transformers' logits in f32 of a checkpoint in any format."""
    import torch

    from runtime.backends.torch.model import load_model

    model = load_model(Checkpoint.open(checkpoint), torch.float32)
    with torch.no_grad():
        return model(torch.from_numpy(ids)[None]).logits[0].numpy()


@pytest.mark.parametrize("format", ["glm4", "glm", "chatglm"])
@pytest.mark.parametrize("case", [*CASES, "several"])
def test_the_logits_are_those_of_peft_s_merge(tmp_path, format, case):
    base = write_checkpoint(tmp_path / "base", format=format, dtype="bf16", layers=2)
    config = json.loads((base / "config.json").read_text())
    tiny = Tiny(format, dtype="bf16", layers=2, vocab=config.get("padded_vocab_size") or config["vocab_size"])
    stored = {name: (v.view(np.uint32) & 0xFFFF0000).view(np.float32) for name, v in tiny.stored().items()}
    plans = ["plain", "rslora"] if case == "several" else [case]
    weights = [1.0, -0.6] if case == "several" else [1.0]
    folders = [tmp_path / f"adapter{number}" for number in range(len(plans))]
    for number, (plan, folder) in enumerate(zip(plans, folders, strict=True)):
        save_adapter(module_of(format, base, stored), format, folder, plan, seed=number)
    found = load_adapter(module_of(format, base, stored), *folders, weights=weights)
    wanted = {name: to_bf16(found[name]) if name in found else value for name, value in stored.items()}
    changed = [name for name, value in wanted.items() if not np.array_equal(value, stored[name])]
    assert len(changed) >= tiny.layers
    adapters = [f"{folder}@{weight}" for folder, weight in zip(folders, weights, strict=True)]
    (*_, last) = convert(base, tmp_path / "model", "bf16", adapters=adapters)
    write_weights(base, tiny, wanted)
    ids = np.random.default_rng(3).integers(0, tiny.vocab, 200)
    reference = torch_logits(base, ids)
    difference = np.abs(logits(last.result.path, ids) - reference).max()
    opened = Checkpoint.open(base).weights()
    base = write_checkpoint(tmp_path / "again", format=format, dtype="bf16", layers=2)
    ours = Checkpoint.open(base, adapters=adapters).weights()
    steps = sum(int((ours.tensor(name).f32() != opened.tensor(name).f32()).sum()) for name in ours.names)
    print(
        f"{format}, {case}: {difference:.1e} of logits up to {np.abs(reference).max():.1f}; "
        f"{steps} weights rounded otherwise"
    )
    assert difference <= 1e-3
