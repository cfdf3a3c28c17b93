"""The torch backend beyond the contract: held against OpenVINO, against the reference, and against itself."""

import json
import re
import shutil
from dataclasses import replace
from threading import Thread

import numpy as np
import pytest

from convert.check.reference import logits as reference_logits
from convert.pipeline import convert
from edge.demo import CHECKPOINT
from runtime.backends.backend import Delta, Options, Request
from runtime.backends.openvino.paged.batched import OpenVINO
from runtime.checkpoint.checkpoint import Checkpoint
from runtime.errors import BackendError, DeviceError, ModelFolderError, Notice, RequestError
from runtime.events import Finish, ToolCall
from runtime.folder.model_folder import ModelFolder
from runtime.grammar.grammar import Choice, JsonObject, JsonSchema, Regex
from runtime.messages import Message
from runtime.model import Model
from runtime.sampling import Sampling, SamplingParams
from runtime.vocabulary import Vocabulary

from .checkpoints import YARN, Tiny

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
from runtime.backends.torch.cache import CachePool, static_tokens  # noqa: E402
from runtime.backends.torch.engine import Torch, _needs_several_cards, _token_chooser  # noqa: E402
from runtime.backends.torch.model import load_model  # noqa: E402

STOPS = ("<|endoftext|>", "<|user|>", "<|observation|>")
QUESTION = "[gMASK]<sop><|user|>\nWho are you?<|assistant|>"
F32 = Options(threads=1, kv_precision="f32", precision="f32")


def prompt(question):
    return QUESTION.replace("Who are you?", question)


@pytest.fixture(scope="module")
def folder():
    return Checkpoint.open(CHECKPOINT)


@pytest.fixture(scope="module")
def engine(folder):
    loaded = Torch.load(folder, "torch:cpu", F32)
    yield loaded
    loaded.close()


def said(backend, *pieces, **settings):
    grammar = settings.pop("grammar", None)
    parts = list(backend.generate(Request(pieces, STOPS, SamplingParams(**settings), grammar)))
    assert isinstance(parts[-1], Finish)
    return "".join(part.text for part in parts if isinstance(part, Delta)), parts[-1].reason


WEATHER = {
    "name": "get_weather",
    "description": "The weather in a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
CLOCK = {"name": "get_time", "description": "The time now", "parameters": {"type": "object", "properties": {}}}
CALLED = [
    Message("user", "What is the weather in Oslo?"),
    Message("assistant", "", tool_calls=(ToolCall("get_weather", '{"city": "Oslo"}', "call_1"),)),
    Message("tool", '{"sky": "rain", "degrees": 7}', tool_call_id="call_1", name="get_weather"),
]
CHATS = {
    "a question": ([Message("user", "Who are you?")], ()),
    "Chinese": ([Message("user", "你是谁？")], ()),
    "nothing it knows": ([Message("user", "zq 17 🎉 <|user|> \n\n x")], ()),
    "a system message": ([Message("system", "Be brief."), Message("user", "When do you open?")], ()),
    "turns": (
        [
            Message("user", "Hello"),
            Message("assistant", "Hello! What can I do for you?"),
            Message("user", "When do you open?"),
        ],
        (),
    ),
    "a tool": ([Message("user", "What is the weather in Oslo?")], (WEATHER,)),
    "two tools": ([Message("user", "What time is it, and what is the weather in 北京?")], (WEATHER, CLOCK)),
    "a result": (CALLED, (WEATHER,)),
    "after a result": ([*CALLED, Message("assistant", "Rain, 7 degrees."), Message("user", "Thanks!")], (WEATHER,)),
    "a long prompt": ([Message("user", "1 2 3 4 5 " * 120)], ()),
}


@pytest.mark.slow
def test_greedy_replies_are_those_of_openvino(engine, folder, tmp_path_factory):
    target = tmp_path_factory.mktemp("f32") / "model"
    for _ in convert(CHECKPOINT, target, "bf16"):
        pass
    converted = ModelFolder.open(target)
    other = OpenVINO.load(converted, "CPU", F32)
    sampling = Sampling(max_new_tokens=60)
    ours, theirs = Model(folder, backend=engine), Model(converted, backend=other)
    for name, (messages, tools) in CHATS.items():
        assert ours.prompt(messages, tools) == theirs.prompt(messages, tools)
        found, wanted = (
            [
                part.usage.completion_tokens if isinstance(part, Finish) else part
                for part in model.reply(messages, tools, sampling)
            ]
            for model in (ours, theirs)
        )
        assert _joined(found) == _joined(wanted), name
    other.close()


def _joined(parts):
    """The words in one string, and what else there is in its order, but for the random ids of calls."""
    text = "".join(part.text for part in parts if hasattr(part, "text"))
    others = [part for part in parts if not hasattr(part, "text")]
    return text, [replace(part, id="") if hasattr(part, "id") else part for part in others]


FORMATS = {
    "glm4": Tiny(vocab=2598, qkv_bias=True),
    "glm": Tiny("glm", vocab=2598, tied=True),
    "chatglm": Tiny("chatglm", vocab=2598, qkv_bias=True, theta=5e6),
    "glm4, linear RoPE": Tiny("glm4", vocab=2598, config={"rope_scaling": {"type": "linear", "factor": 4.0}}),
    "glm4, f16 and YaRN": Tiny("glm4", vocab=2598, dtype="f16", config={"rope_scaling": YARN}),
}


@pytest.mark.parametrize("tiny", FORMATS.values(), ids=FORMATS.keys())
def test_every_format_gives_the_reference_logits(tiny, tmp_path):
    source = tiny.write(tmp_path / "checkpoint")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(CHECKPOINT / name, source / name)
    folder = Checkpoint.open(source)
    ids = np.random.default_rng(3).integers(0, 2598, 700)
    with folder.weights() as checkpoint:
        (wanted,) = reference_logits(checkpoint, [ids])
    model = load_model(folder, torch.float32)
    with torch.inference_mode():
        found = model(torch.from_numpy(ids)[None]).logits[0].numpy()
    assert np.abs(found - wanted).max() < 2e-3


def test_the_second_turn_of_a_chat_reads_only_what_is_new(engine, monkeypatch):
    read = []
    forward = engine.runner.logits
    monkeypatch.setattr(
        engine.runner, "logits", lambda context, ids, *more: (read.append(len(ids)), forward(context, ids, *more))[1]
    )
    monkeypatch.setattr(engine, "caches", CachePool(engine.model.config))
    first = prompt("When do you open?")
    reply, _ = said(engine, first)
    whole, read[:] = list(read), []
    second = first + reply + "<|user|>\nHello<|assistant|>"
    again, _ = said(engine, second)
    assert whole[0] == engine.count_tokens((first,))
    assert read[0] < engine.count_tokens((second,)) - engine.count_tokens((first,))
    monkeypatch.setattr(engine, "caches", CachePool(engine.model.config))
    assert said(engine, second)[0] == again


@pytest.fixture
def graphs(engine, folder, monkeypatch):
    """What CUDA decodes with, but for the graphs: the cache that does not move, the compiled pass, its thread."""
    compiled = torch.compile(engine.model.__call__, backend="eager", dynamic=False, fullgraph=True)
    monkeypatch.setattr(engine.model, "get_compiled_call", lambda _: compiled)
    return Torch(engine.model, folder, static=512)


@pytest.mark.slow
def test_a_static_cache_says_the_same(engine, graphs):
    first = prompt("Who are you?")
    prompts = [first, prompt("Who are you? And when do you open?"), first, first + "I am"]
    assert [said(graphs, each)[0] for each in prompts] == [said(engine, each)[0] for each in prompts]
    (context,) = graphs.caches.idle
    assert context.static


@pytest.mark.slow
def test_a_reply_outgrows_the_static_cache_and_others_do_without(engine, graphs):
    long = prompt("1 2 3 4 5 " * 50)
    assert 490 < engine.count_tokens((long,)) <= 512
    wanted = [said(engine, each, max_new_tokens=60) for each in (long, prompt("Hello"))]
    begun = graphs.generate(Request((long,), STOPS, SamplingParams(max_new_tokens=60)))
    parts = [next(begun)]
    assert said(graphs, prompt("Hello"), max_new_tokens=60) == wanted[1]  # while the other has the static one
    parts += begun
    assert ("".join(part.text for part in parts[:-1]), parts[-1].reason) == wanted[0]
    assert [context.static for context in graphs.caches.idle] == [True, False]


def test_a_cache_is_read_up_to_a_bound(engine, folder, monkeypatch):
    monkeypatch.setattr("runtime.backends.torch.cache._SMALLEST", 32)
    graphs = Torch(engine.model, folder, static=100)
    monkeypatch.setattr(engine.model, "get_compiled_call", lambda _: engine.model)
    read = []
    attend = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        torch.nn.functional,
        "scaled_dot_product_attention",
        lambda q, k, *args, **kwargs: (read.append(k.shape[2]), attend(q, k, *args, **kwargs))[1],
    )
    request = Request((prompt("1 2 3 "),), (), SamplingParams(max_new_tokens=60))
    found = [part.text for part in graphs.generate(request) if isinstance(part, Delta)]
    assert sorted(set(read)) == [11, 32, 64, 100]  # the prompt by itself, then up to each bound
    assert found == [part.text for part in engine.generate(request) if isinstance(part, Delta)]


@pytest.mark.parametrize(
    ("length", "token", "free", "wanted"),
    [
        (131_072, 40_960, 10**11, 32_768),
        (8192, 40_960, 10**11, 8192),
        (32_768, 40_960, 10**9, 8192),
        (32_768, 1, 0, 2048),
    ],
)
def test_the_size_of_a_static_cache(length, token, free, wanted):
    assert static_tokens(length, token, free) == wanted


@pytest.mark.slow
def test_where_nothing_compiles_it_is_said_and_goes_on(engine, folder, monkeypatch):
    def broken(*_):
        raise RuntimeError("Failed to find C compiler")

    compiled = torch.compile(engine.model.__call__, backend=broken)
    monkeypatch.setattr(engine.model, "get_compiled_call", lambda _: compiled)
    graphs = Torch(engine.model, folder, static=512)
    with pytest.warns(Notice, match="decoding is slower than it could be: .*Failed to find C compiler"):
        found = said(graphs, QUESTION)
    assert found == said(engine, QUESTION) == said(graphs, QUESTION)


def test_a_model_goes_to_several_cards_only_where_one_is_too_small(folder, monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (10_000_000, 16_000_000))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [_needs_several_cards(folder, dtype) for dtype in (torch.float32, torch.bfloat16)] == [True, False]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert not _needs_several_cards(folder, torch.float32)


def test_weights_that_accelerate_places_say_the_same(engine, folder):
    """As on several cards: here all go to the one device that there is."""
    model = load_model(folder, torch.float32, device_map="auto")
    assert said(Torch(model, folder), QUESTION) == said(engine, QUESTION)


def test_threads_share_one_engine(engine):
    prompts = [prompt(question) for question in ("Who are you?", "Hello", "谢谢")]
    alone = [said(engine, each)[0] for each in prompts]
    together = {}

    def ask(i):
        together[i] = said(engine, prompts[i])[0]

    threads = [Thread(target=ask, args=(i,)) for i in range(len(prompts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [together[i] for i in range(len(prompts))] == alone


@pytest.mark.slow
def test_a_grammar_is_held(engine):
    schema = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 9}, "n": {"type": "integer"}}}
    schema["required"] = list(schema["properties"])
    hot = {"temperature": 2.0, "seed": 5, "max_new_tokens": 200}
    text, reason = said(engine, QUESTION, grammar=Choice(("a b", "c+")), **hot)
    assert (text in ("a b", "c+"), reason) == (True, "stop")
    text, reason = said(engine, QUESTION, grammar=Regex("[0-9]{3}-[一二三]{2}"), **hot)
    assert re.fullmatch("[0-9]{3}-[一二三]{2}", text)
    assert reason == "stop"
    text, reason = said(engine, QUESTION, grammar=JsonSchema.from_schema(schema), **hot)
    assert reason == "stop"
    assert set(json.loads(text)) == {"city", "n"}
    text, reason = said(engine, QUESTION, grammar=JsonObject(), max_new_tokens=200)
    assert text.startswith("{")
    assert reason == "length" or isinstance(json.loads(text), dict)


def test_sampling_is_as_asked(engine):
    wild = {"temperature": 5.0, "max_new_tokens": 12}
    assert said(engine, QUESTION, seed=3, **wild) == said(engine, QUESTION, seed=3, **wild)
    assert said(engine, QUESTION, seed=3, **wild) != said(engine, QUESTION, seed=4, **wild)
    greedy = said(engine, QUESTION, max_new_tokens=12)
    assert said(engine, QUESTION, top_k=1, seed=4, **wild) == greedy
    for settings in ({"top_p": 1e-6}, {"top_p": 0.0}, {"min_p": 0.99}, {"min_p": 1.0}):
        assert said(engine, QUESTION, seed=4, **settings, **wild) == greedy
    assert said(engine, QUESTION, repetition_penalty=5.0, max_new_tokens=12) != greedy


def test_what_cannot_be_loaded_is_refused(folder, demo_folder):
    with pytest.raises(BackendError, match="is a converted model"):
        Torch.load(demo_folder, "torch:cpu", Options())
    with pytest.raises(BackendError, match="is a checkpoint") as caught:
        OpenVINO.load(folder, "CPU", Options())
    assert "edge convert" in caught.value.hint
    with pytest.raises(DeviceError, match="finds no torch:tpu"):
        Torch.load(folder, "torch:tpu", Options())
    for options in (Options(precision="u4"), Options(precision="f32", kv_precision="u8")):
        with pytest.raises(RequestError):
            Torch.load(folder, "torch:cpu", options)


def test_bf16_speaks(folder):
    engine = Torch.load(folder, "torch:cpu", Options(threads=1, precision="bf16"))
    assert engine.model.dtype == torch.bfloat16
    assert said(engine, QUESTION, max_new_tokens=4)[1] == "length"
    engine.close()
    with pytest.raises(BackendError, match="was closed"):
        said(engine, QUESTION)


def test_engine_errors_are_ours(engine, monkeypatch):
    def fail(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory\nTried to allocate")

    with monkeypatch.context() as broken:
        broken.setattr(engine.model, "forward", fail)
        with pytest.raises(BackendError, match=r"^PyTorch failed: CUDA out of memory$") as caught:
            said(engine, QUESTION)
    assert caught.value.__cause__ is not None
    assert said(engine, QUESTION, max_new_tokens=3)[1] == "length"


def test_vocabularies_are_the_same(folder):
    read = Vocabulary.read(CHECKPOINT / "tokenizer.json")
    ids = list(range(2598))
    assert Vocabulary.parse(folder.tokenizer.tokenizer.to_str()).decoder().feed(ids) == read.decoder().feed(ids)
    with pytest.raises(ModelFolderError):
        Vocabulary.read(CHECKPOINT / "config.json")


@pytest.mark.cuda
def test_cuda_says_what_the_cpu_says(engine, folder):
    if "torch:cuda" not in Torch.devices():
        pytest.skip("no CUDA card here")
    cuda = Torch.load(folder, "torch:cuda", Options(precision="f32"))
    prompts = [prompt(question) for question in ("Who are you?", "Who are you? And when do you open?", "谢谢")]
    assert [said(cuda, each) for each in prompts] == [said(engine, each) for each in prompts]
    assert any(context.static for context in cuda.caches.idle)
    cuda.close()


@pytest.mark.parametrize(
    ("said", "settings", "chosen"),
    [
        ([], {"frequency_penalty": 2.0}, 1),  # the prompt's token does not count
        ([1], {"presence_penalty": 0.5}, 1),
        ([1, 1, 1], {"presence_penalty": 0.5}, 1),
        ([1, 1, 1], {"frequency_penalty": 0.5}, 2),
        ([1], {"presence_penalty": 1.5}, 2),
        ([0, 0], {"frequency_penalty": -2.0}, 0),
        ([], {"logit_bias": ((1, -5.0),)}, 2),
        ([1], {"logit_bias": ((0, 2.5),)}, 0),
    ],
)
def test_penalties_are_taken_off_logits_below_nothing_too(said, settings, chosen):
    logits = torch.tensor([-3.0, -1.0, -2.0])
    assert _token_chooser(SamplingParams(**settings), 1)(logits, [1, *said]) == chosen
    assert logits.tolist() == [-3.0, -1.0, -2.0]
