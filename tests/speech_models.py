"""Tiny speech recognition and text-to-speech models in OpenVINO's format, as optimum-cli lays out a folder of Whisper
or SpeechT5: not trained, but run by the same pipelines of OpenVINO GenAI."""

import json
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

HEARD = "ships lie here"  # what the recognizer hears in whatever is loud
WORDS = tuple(" " + word for word in HEARD.split())
LANGUAGES = ("en", "zh", "de")
SPECIAL = (
    "<|endoftext|>",
    "<|startoftranscript|>",
    *(f"<|{language}|>" for language in LANGUAGES),
    "<|translate|>",
    "<|transcribe|>",
    "<|startoflm|>",
    "<|startofprev|>",
    "<|nospeech|>",
    "<|notimestamps|>",
)
TIMESTAMPS = tuple(f"<|{step * 0.02:.2f}|>" for step in range(1501))
HIDDEN = 8
FRAMES = 4  # of the synthesizer's spectrogram for each token, two at a time
HOP = 256  # samples of a frame


def write_recognition_model(folder: Path, *, multilingual: bool = True, **config: Any) -> Path:
    """Each word follows the one before it, if the recording is loud, until it ends. Silence has no words."""
    from openvino_tokenizers import convert_tokenizer
    from transformers import PreTrainedTokenizerFast

    folder.mkdir(parents=True)
    tokenizer, ids = _vocabulary()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=SPECIAL[0], bos_token=SPECIAL[0], unk_token=SPECIAL[0]
    )
    _save(folder / "openvino_encoder_model.xml", _audio_encoder())
    _save(folder / "openvino_decoder_model.xml", _text_decoder(ids))
    both = convert_tokenizer(fast, with_detokenizer=True)
    for name, model in zip(("tokenizer", "detokenizer"), both, strict=True):
        _save(folder / f"openvino_{name}.xml", model)
    facts = {"architectures": ["WhisperForConditionalGeneration"], "model_type": "whisper", "vocab_size": len(ids)}
    facts |= {"d_model": HIDDEN, "num_mel_bins": 80, "max_source_positions": 1500, "max_target_positions": 448}
    (folder / "config.json").write_text(json.dumps(facts | config))
    (folder / "generation_config.json").write_text(json.dumps(_generation(ids, multilingual=multilingual)))
    audio = {"feature_size": 80, "sampling_rate": 16000, "hop_length": 160, "n_fft": 400, "chunk_length": 30}
    audio |= {"n_samples": 480000, "nb_max_frames": 3000}
    (folder / "preprocessor_config.json").write_text(json.dumps(audio))
    return folder


def write_speech_model(folder: Path, **config: Any) -> Path:
    """A tone, the longer the more tokens the text has."""
    from openvino_tokenizers import convert_tokenizer
    from transformers import PreTrainedTokenizerFast

    folder.mkdir(parents=True)
    tokenizer, _ = _vocabulary()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=SPECIAL[0], unk_token=SPECIAL[0])
    _save(folder / "openvino_tokenizer.xml", convert_tokenizer(fast))
    for name, model in _speech_graphs().items():
        _save(folder / f"openvino_{name}.xml", model)
    facts = {"architectures": ["SpeechT5ForTextToSpeech"], "model_type": "speecht5", "max_text_positions": 60}
    facts |= {"reduction_factor": 2, "num_mel_bins": 80}
    (folder / "config.json").write_text(json.dumps(facts | config))
    return folder


@cache
def _vocabulary() -> tuple[Any, dict[str, int]]:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False, min_frequency=1)
    made.train_from_iterator(["".join(WORDS)] * 9, trainer)
    made.add_special_tokens(list(SPECIAL))
    made.add_tokens([AddedToken(mark, normalized=False) for mark in TIMESTAMPS])
    ids = {name: made.token_to_id(name) for name in (*SPECIAL, *TIMESTAMPS)}
    for word in WORDS:
        (ids[word],) = made.encode(word).ids
    return made, ids | {f"unused {left}": -1 for left in range(made.get_vocab_size() - len(ids))}


def _generation(ids: dict[str, int], *, multilingual: bool) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "decoder_start_token_id": ids["<|startoftranscript|>"],
        "eos_token_id": ids["<|endoftext|>"],
        "bos_token_id": ids["<|endoftext|>"],
        "pad_token_id": ids["<|endoftext|>"],
        "no_timestamps_token_id": ids["<|notimestamps|>"],
        "prev_sot_token_id": ids["<|startofprev|>"],
        "is_multilingual": multilingual,
        "begin_suppress_tokens": [],
        "suppress_tokens": [],
        "max_initial_timestamp_index": 50,
        "max_length": 448,
        "return_timestamps": False,
    }
    if multilingual:
        facts["lang_to_id"] = {f"<|{name}|>": ids[f"<|{name}|>"] for name in LANGUAGES}
        facts["task_to_id"] = {task: ids[f"<|{task}|>"] for task in ("transcribe", "translate")}
    return facts


def _parameter(name: str, shape: list[int], kind: Any = np.float32) -> Any:
    from openvino import opset13 as op

    node = op.parameter(shape, kind, name=name)
    node.output(0).set_names({name})
    return node


def _result(node: Any, name: str) -> Any:
    from openvino import opset13 as op

    found = op.result(node)
    found.output(0).set_names({name})
    return found


def _i64(*values: int) -> Any:
    from openvino import opset13 as op

    return op.constant(np.array(values, np.int64))


def _audio_encoder() -> Any:
    """The mean of the log-mel spectrogram, in all places: near -1.5 for silence."""
    import openvino as ov
    from openvino import opset13 as op

    features = _parameter("input_features", [-1, 80, 3000])
    loudness = op.reduce_max(features, _i64(1, 2), keep_dims=True)
    batch = op.gather(op.shape_of(features), _i64(0), op.constant(0))
    hidden = op.broadcast(loudness, op.concat([batch, _i64(1500, HIDDEN)], 0))
    return ov.Model([_result(hidden, "last_hidden_state")], [features], "encoder")


def _text_decoder(ids: dict[str, int]) -> Any:
    import openvino as ov
    from openvino import opset13 as op

    end = ids["<|endoftext|>"]
    scores = np.zeros((len(ids), len(ids)), np.float32)
    for before, after in (
        ("<|startoftranscript|>", "<|en|>"),
        ("<|notimestamps|>", WORDS[0]),
        ("<|transcribe|>", "<|0.00|>"),
        ("<|translate|>", "<|0.00|>"),
        ("<|0.00|>", WORDS[0]),
        *pairwise(WORDS),
    ):
        scores[ids[before], ids[after]] = 20
    scores[ids[WORDS[-1]], end] = 20
    for mark in TIMESTAMPS[49:52]:  # together likelier than the end, each for itself less
        scores[ids[WORDS[-1]], ids[mark]] = 19.5
        scores[ids[mark], end] = 20
    tokens, hidden = (
        _parameter("input_ids", [-1, -1], np.int64),
        _parameter("encoder_hidden_states", [-1, 1500, HIDDEN]),
    )
    beams, places = _parameter("beam_idx", [-1], np.int32), _parameter("cache_position", [-1], np.int64)
    table = op.gather(op.constant(scores), tokens, op.constant(0))
    loudness = op.reduce_mean(hidden, _i64(1, 2), keep_dims=True)
    ends = np.zeros((1, 1, len(ids)), np.float32)
    ends[0, 0, end] = 40
    quiet = op.convert(op.less(loudness, op.constant(np.float32(-1))), "f32")
    nothing = op.multiply(
        op.convert(op.reduce_sum(op.concat([op.convert(beams, "i64"), places], 0), _i64(0)), "f32"),
        op.constant(np.float32(0)),
    )
    logits = op.add(op.add(table, op.multiply(quiet, op.constant(ends))), nothing)
    return ov.Model([_result(logits, "logits")], [tokens, hidden, beams, places], "decoder")


def _speech_graphs() -> dict[str, Any]:
    import openvino as ov
    from openvino import opset13 as op

    half = op.constant(np.float32(0.5))
    tokens = _parameter("input_ids", [-1, -1], np.int64)
    rows = op.broadcast(
        op.unsqueeze(op.convert(tokens, "f32"), _i64(2)), op.concat([op.shape_of(tokens), _i64(HIDDEN)], 0)
    )
    mask = op.broadcast(_i64(1), op.shape_of(tokens))
    outputs = [_result(rows, "last_hidden_state"), _result(mask, "encoder_attention_mask")]
    encoder = ov.Model(outputs, [tokens], "encoder")

    made, speaker = _parameter("inputs_embeds", [-1, -1, 80]), _parameter("speaker_embeddings", [-1, 512])
    hidden, seen = (
        _parameter("encoder_hidden_states", [-1, -1, HIDDEN]),
        _parameter("encoder_attention_mask", [-1, -1], np.int64),
    )
    beams = _parameter("beam_idx", [-1], np.int32)
    voice = op.reduce_mean(speaker, _i64(1), keep_dims=True)
    frames = op.broadcast(op.unsqueeze(voice, _i64(2)), _i64(1, 2, 80))
    after = op.concat([made, op.gather(frames, _i64(1), op.constant(1))], 1)
    count = op.gather(op.shape_of(made), _i64(1), op.constant(0))
    wanted = op.multiply(op.reduce_sum(seen, _i64(1)), _i64(FRAMES // 2))
    ended = op.convert(op.greater_equal(count, wanted), "f32")
    zero = op.multiply(op.reduce_sum(hidden, _i64(0, 1, 2)), op.constant(np.float32(0)))
    ended = op.add(ended, op.multiply(op.convert(op.reduce_sum(beams, _i64(0)), "f32"), zero))
    outputs = [_result(after, "output_sequence_out"), _result(frames, "spectrum"), _result(ended, "prob")]
    decoder = ov.Model(outputs, [made, speaker, hidden, seen, beams], "decoder")

    raw = _parameter("raw_spectrogram", [-1, -1, -1, 80])
    flat = op.reshape(raw, _i64(1, -1, 80), False)
    postnet = ov.Model([_result(flat, "postnet_spectrogram")], [raw], "postnet")

    drawn = _parameter("spectrogram", [-1, -1, 80])
    samples = op.squeeze(op.multiply(op.gather(op.shape_of(drawn), _i64(1), op.constant(0)), _i64(HOP)), _i64(0))
    steps = op.range(op.constant(np.int64(0)), samples, op.constant(np.int64(1)), "f32")
    tone = op.sin(op.multiply(steps, op.constant(np.float32(2 * np.pi * 440 / 16000))))
    loudness = op.minimum(op.abs(op.add(op.reduce_mean(drawn, _i64(0, 1, 2)), half)), op.constant(np.float32(1)))
    vocoder = ov.Model([_result(op.multiply(tone, loudness), "waveform")], [drawn], "vocoder")
    return {"encoder_model": encoder, "decoder_model": decoder, "postnet": postnet, "vocoder": vocoder}


def _save(path: Path, model: Any) -> None:
    import openvino as ov

    ov.save_model(model, path, compress_to_fp16=False)
