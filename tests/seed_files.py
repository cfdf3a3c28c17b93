"""Small, sound files of every kind that is read, to be damaged."""

import base64
import json
import shutil
from pathlib import Path

import numpy as np

from edge.demo import CHECKPOINT
from runtime.checkpoint.checkpoint import Checkpoint

from .checkpoints import Tiny

VOCABULARY = 2480  # of the embedded checkpoint

_YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024, "rope_theta": 10000.0}
_KIOSK = """title = "Museum"
system = '''You are a guide.
Be brief.'''
idle = 60
max_tokens = 200
language = "en"

[suggestions]
en = ["Where is the café?", "When do you close?"]
zh = ["咖啡厅在哪里？"]
"""


def write_seeds(folder: Path) -> None:
    """The folders whose files are damaged."""
    from .ggufs import write_gguf
    from .glm4v import write_vision_checkpoint

    demo = folder / "demo"
    tiny = Tiny(layers=1, hidden=64, ffn=64, heads=2, kv_heads=1, vocab=VOCABULARY, dtype="bf16", shards=2)
    tiny.write(demo)
    for path in CHECKPOINT.iterdir():
        if path.name not in ("config.json", "model.safetensors"):
            shutil.copy(path, demo)
    config = json.loads((demo / "config.json").read_text())
    ends = json.loads((demo / "generation_config.json").read_text())["eos_token_id"]
    (demo / "config.json").write_text(json.dumps(config | {"eos_token_id": ends, "rope_parameters": _YARN}))
    sampling = {"do_sample": True, "temperature": 0.7, "top_p": 0.9, "top_k": 40, "repetition_penalty": 1.1}
    (demo / "generation_config.json").write_text(json.dumps({"eos_token_id": ends} | sampling))
    one = shutil.copytree(demo, folder / "one")
    for path in one.glob("model*"):
        path.unlink()
    Tiny(layers=1, hidden=64, ffn=64, heads=2, kv_heads=1, vocab=64, dtype="mixed").write(folder / "weights")
    (folder / "gguf").mkdir()
    for kind in ("F16", "Q8_0"):
        write_gguf(demo, folder / "gguf" / f"{kind}.gguf", kind)
    write_vision_checkpoint(folder / "vision")
    _write_ranks(shutil.copytree(one, folder / "ranks"))
    _write_onnx(shutil.copytree(one, folder / "onnx"))
    _write_templates(shutil.copytree(one, folder / "templates"))
    _write_model(folder / "model", ends)
    _write_documents(folder / "documents")
    _write_texts(folder / "texts")


def _write_ranks(folder: Path) -> None:
    from runtime.checkpoint.tokenizer import read_tokenizer
    from runtime.vocabulary import byte_alphabet

    source, byte = read_tokenizer(folder, VOCABULARY), byte_alphabet()
    ranks = source.tokenizer.get_vocab(with_added_tokens=False)
    lines = [
        f"{base64.b64encode(bytes(map(byte.__getitem__, token))).decode()} {rank}"
        for token, rank in sorted(ranks.items(), key=lambda pair: pair[1])
    ]
    (folder / "tokenizer.model").write_text("\n".join(lines))
    (folder / "tokenizer.json").unlink()
    config = json.loads((folder / "tokenizer_config.json").read_text())
    added = {str(id): {"content": name, "special": True} for name, id in source.special_tokens.items()}
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"added_tokens_decoder": added}))


def _write_templates(folder: Path) -> None:
    """A template in tokenizer_config.json, as transformers 4 kept it."""
    template = (folder / "chat_template.jinja").read_text(encoding="utf-8")
    (folder / "chat_template.jinja").unlink()
    config = json.loads((folder / "tokenizer_config.json").read_text())
    named = [{"name": "default", "template": template}, {"name": "tool_use", "template": template}]
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"chat_template": named}))


def _write_onnx(folder: Path) -> None:
    """A decoder of one layer, which only has the inputs and outputs of a real one."""
    from onnx import TensorProto, helper, numpy_helper, save

    random, hidden, heads, width = np.random.default_rng(1), 64, 1, 32
    shapes = {"embed": (VOCABULARY, hidden), "key": (hidden, heads * width), "head": (hidden, VOCABULARY)}
    weights = {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    weights |= {"norm": np.ones(hidden, np.float32), "shape": np.array([0, 0, heads, width])}
    past = [f"past_key_values.0.{part}" for part in ("key", "value")]
    present = [f"present.0.{part}" for part in ("key", "value")]
    cached = ["b", heads, "p", width]
    nodes = [
        helper.make_node("Gather", ["embed", "input_ids"], ["x"]),
        helper.make_node("Mul", ["x", "norm"], ["normed"]),
        helper.make_node("MatMul", ["normed", "key"], ["k"]),
        helper.make_node("Reshape", ["k", "shape"], ["parted"]),
        helper.make_node("Transpose", ["parted"], ["turned"], perm=[0, 2, 1, 3]),
        helper.make_node("Concat", [past[0], "turned"], [present[0]], axis=2),
        helper.make_node("Concat", [past[1], "turned"], [present[1]], axis=2),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMax", ["mask"], ["one"], keepdims=0),
        helper.make_node("Mul", ["normed", "one"], ["masked"]),
        helper.make_node("MatMul", ["masked", "head"], ["logits"]),
    ]
    ids = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["b", "t"]) for name in ("input_ids", "attention_mask")
    ]
    cache_in = [helper.make_tensor_value_info(name, TensorProto.FLOAT, cached) for name in past]
    cache_out = [helper.make_tensor_value_info(name, TensorProto.FLOAT, cached) for name in present]
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["b", "t", VOCABULARY])
    values = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "decoder", [*ids, *cache_in], [logits, *cache_out], values)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "model.onnx")


def _write_model(folder: Path, ends: list[int]) -> None:
    """A model folder without an engine's files, but with a small IR."""
    import openvino as ov
    from openvino import opset13 as ops

    from runtime.folder.manifest import CheckpointRecord, FileRecord, Manifest, ModelSizes
    from runtime.folder.model_folder import write_manifest

    folder.mkdir()
    for name in ("chat_template.jinja", "generation_config.json", "tokenizer.json"):
        shutil.copy(CHECKPOINT / name, folder)
    x = ops.parameter([-1, 16], name="input_ids")
    model = ov.Model([ops.result(ops.matmul(x, ops.constant(np.ones((32, 16), np.float32)), False, True))], [x])
    ov.save_model(model, str(folder / "openvino_model.xml"), compress_to_fp16=False)
    source = Checkpoint.open(CHECKPOINT)
    manifest = Manifest(
        family="glm4_0414",
        recipe="int4",
        source=CheckpointRecord("tiny", "Glm4ForCausalLM", "0" * 64),
        context_length=4096,
        kv_bytes_per_token=1024,
        special_tokens=source.manifest.special_tokens,
        licence="MIT",
        versions={"glm4-edge": "1"},
        devices={"CPU": "about 1 GB"},
        sizes=ModelSizes(100, 10, 50, 4, 2, 64, 64, 2480, 2),
        verification={"cosine": 0.99},
        notes=("a note",),
    )
    assert isinstance(write_manifest(folder, manifest).manifest.files["tokenizer.json"], FileRecord)
    record = {"sha256": "0" * 64, "stamp": [1, 2, 3, 4]}
    (folder / "record.json").write_text(json.dumps(record))


def _write_documents(folder: Path) -> None:
    folder.mkdir()
    (folder / "page.html").write_text(
        "<title>Tides</title><script>x</script><p>The tide <b>is</b> high.</p><!-- no -->"
    )
    (folder / "notes.md").write_text("# Tides\n\nThe tide is high.\n\n涨潮\n" * 20, encoding="utf-8")
    text = b"BT /F1 12 Tf 72 700 Td (The tide is high) Tj ET"
    parts = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R"
        b" /Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(text), text),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        b"<< /Title (Tides) >>",
    ]
    data, places = b"%PDF-1.4\n", []
    for number, part in enumerate(parts, 1):
        places.append(len(data))
        data += b"%d 0 obj\n%s\nendobj\n" % (number, part)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    end = b"xref\n0 7\n0000000000 65535 f \n%strailer << /Size 7 /Root 1 0 R /Info 6 0 R >>\nstartxref\n%d\n%%%%EOF\n"
    (folder / "paper.pdf").write_bytes(data + end % (table, len(data)))


def _write_texts(folder: Path) -> None:
    folder.mkdir()
    call = {"id": "c1", "type": "function", "function": {"name": "tide", "arguments": '{"port": "Hull"}'}}
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "When is the tide?"}]},
        {"role": "assistant", "content": "", "reasoning_content": "Hm", "tool_calls": [call]},
        {"role": "tool", "content": "noon", "tool_call_id": "c1", "name": "tide"},
        {"role": "assistant", "content": "At noon."},
    ]
    tools = [
        {"type": "function", "function": {"name": "tide", "description": "Tides", "parameters": {"type": "object"}}}
    ]
    (folder / "chat.json").write_text(json.dumps({"messages": messages}, indent=1))
    task = {"messages": messages[:2], "tools": tools, "expected": {"name": "tide", "arguments": {"port": "Hull"}}}
    lines = [{"text": "The tide is high."}, {"messages": messages, "tools": tools}]
    (folder / "texts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "calls.jsonl").write_text(json.dumps(task) + "\n" + json.dumps(task | {"expected": None}) + "\n")
    (folder / "kiosk.toml").write_text(_KIOSK)
    part = {"weight": "a", "parts": {"a": {"offset": 0, "nbytes": 4}}, "end": 4, "sha256": "0" * 64}
    (folder / "openvino_model.jsonl").write_text('{"recipe": "int4"}\n' + json.dumps(part) + "\n")
    (folder / "openvino_model.bin").write_bytes(bytes(64))
