"""Tiny embedding and reranking models in OpenVINO's format, as optimum-cli lays out a folder: random weights, a
vocabulary of words."""

import json
from pathlib import Path
from typing import Any

import numpy as np

WORDS = "the a ship ships harbour where is lies in sun rain love ? . 7 6 42 =".split()
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
HIDDEN, MAX_TOKENS = 8, 16


def write_embedding_model(
    folder: Path, *, pooling: str = "mean_tokens", normalize: bool = True, pools: bool = False, **config: Any
) -> Path:
    """The vector of a token is its row of a table, plus the average row of all tokens of its text."""
    import openvino as ov
    from openvino import opset13 as op

    inputs = _inputs("input_ids", "attention_mask", "token_type_ids")
    table = op.constant(_random(len(SPECIAL) + len(WORDS), HIDDEN))
    rows = op.gather(table, inputs["input_ids"], op.constant(0))
    mask = op.unsqueeze(op.convert(inputs["attention_mask"], "f32"), op.constant(2))
    total = op.reduce_sum(op.multiply(rows, mask), op.constant(1), keep_dims=True)
    count = op.reduce_sum(mask, op.constant(1), keep_dims=True)
    average = op.divide(total, count)
    results = [op.result(op.add(rows, average))]
    results[0].output(0).set_names({"last_hidden_state"})
    if pools:
        results = [op.result(op.squeeze(average, op.constant(1))), *results]
        results[0].output(0).set_names({"sentence_embedding"})
    _write(folder, ov.Model(results, list(inputs.values()), "embedding"), "BertModel", config)
    if pools:
        return folder
    modules = ["Transformer", "Pooling", *(["Normalize"] if normalize else [])]
    (folder / "modules.json").write_text(
        json.dumps([{"type": f"sentence_transformers.models.{name}"} for name in modules])
    )
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({f"pooling_mode_{pooling}": True}))
    return folder


def write_rerank_model(folder: Path, **config: Any) -> Path:
    """The score of a document grows with the number of its ships."""
    import openvino as ov
    from openvino import opset13 as op

    inputs = _inputs("input_ids", "attention_mask", "token_type_ids")
    second = op.equal(inputs["token_type_ids"], op.constant(np.int64(1)))
    ship = op.equal(inputs["input_ids"], op.constant(np.int64(token("ship"))))
    found = op.convert(op.logical_and(second, ship), "f32")
    logits = op.reduce_sum(found, op.constant(1), keep_dims=True)
    result = op.result(logits)
    result.output(0).set_names({"logits"})
    _write(folder, ov.Model([result], list(inputs.values()), "rerank"), "BertForSequenceClassification", config)
    return folder


def token(word: str) -> int:
    """The id of a word."""
    return [*SPECIAL, *WORDS].index(word)


def table() -> Any:
    """The vectors of the tokens."""
    return _random(len(SPECIAL) + len(WORDS), HIDDEN)


def _random(*shape: int) -> Any:
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


def _inputs(*names: str) -> dict[str, Any]:
    from openvino import opset13 as op

    found = {name: op.parameter([-1, -1], np.int64, name=name) for name in names}
    for name, node in found.items():
        node.output(0).set_names({name})
    return found


def _write(folder: Path, model: Any, architecture: str, config: dict[str, Any]) -> None:
    import openvino as ov
    from openvino_tokenizers import convert_tokenizer

    folder.mkdir()
    ov.save_model(model, folder / "openvino_model.xml", compress_to_fp16=False)
    ov.save_model(convert_tokenizer(_tokenizer()), folder / "openvino_tokenizer.xml")
    facts = {"architectures": [architecture], "model_type": "bert", "pad_token_id": 0}
    facts |= {"vocab_size": len(SPECIAL) + len(WORDS), "max_position_embeddings": MAX_TOKENS}
    (folder / "config.json").write_text(json.dumps(facts | config))


def _tokenizer() -> Any:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: place for place, word in enumerate([*SPECIAL, *WORDS])}
    made = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    ends = [(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")]
    made.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )
