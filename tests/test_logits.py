"""Sampling from logits on OpenVINO: the settings that GenAI lacks, beside the replies that it writes."""

import math
from dataclasses import replace
from itertools import count, islice
from threading import Thread

import numpy as np
import pytest

from runtime.backends.backend import Delta, Options, Request
from runtime.backends.logits.token_logprobs import PromptScorer, most_probable, token_logprob
from runtime.backends.logits.token_sampler import TokenSampler
from runtime.backends.openvino.logits import model as logits_model
from runtime.backends.openvino.logits import queue as logits_queue
from runtime.backends.openvino.paged.batched import OpenVINO
from runtime.backends.openvino.process.backend import SubprocessBackend
from runtime.backends.openvino.single_request.npu import NPU
from runtime.backends.openvino.single_request.stateful import Stateful
from runtime.errors import BackendError, RequestError, UnsupportedSetting
from runtime.events import Finish, Logprobs, PromptLogprobs
from runtime.grammar.grammar import Regex
from runtime.model import Model
from runtime.reply.reply import Reply
from runtime.sampling import Sampling, SamplingParams
from runtime.vocabulary import Vocabulary

from .test_backends import QUESTION, STOPS

EXACT = Options(precision="f32", kv_precision="f32", activation_group=0)
VOCABULARY = Vocabulary({id: letter.encode() for id, letter in enumerate("abcd")})


@pytest.fixture(scope="module")
def model(demo_folder):
    with Model(demo_folder, device="CPU", options=EXACT) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def logits(model, demo_folder):
    """A function of token ids: the logits after each of them."""
    loaded = logits_model.LogitsModel(demo_folder, "CPU", EXACT)
    return lambda ids: loaded.context().forward(ids)


def reply(model, question="Who are you?", **settings):
    return Reply.from_events(model.reply(question, **settings))


def continued(model, **settings):
    """The same as plain text: with the newline that opens an answer."""
    return Reply.from_events(model.complete(model.backend.encode(model.prompt("Who are you?")), **settings))


@pytest.mark.parametrize("question", ["Who are you?", "洗手间在哪里？"])
def test_greedy_replies_are_genais_own(model, question):
    wanted = reply(model, question, logprobs=True)
    found = reply(model, question, top_logprobs=3)
    assert (found.text, found.usage.completion_tokens) == (wanted.text, wanted.usage.completion_tokens)
    for token, other in zip(found.logprobs, wanted.logprobs, strict=True):
        assert (token.id, token.bytes) == (other.id, other.bytes)
        assert token.logprob == pytest.approx(other.logprob, abs=0.02)
        assert token.logprob == token.top[0].logprob == max(one.logprob for one in token.top)
        assert len(token.top) == 3


@pytest.mark.parametrize("settings", [{"temperature": 3.0, "top_k": 1}, {"temperature": 3.0, "min_p": 0.999}], ids=str)
def test_settings_that_leave_one_token_are_greedy(model, settings):
    assert reply(model, top_logprobs=1, **settings).text == reply(model).text


def test_a_seed_repeats_a_reply(model):
    settings = {"temperature": 3.0, "max_tokens": 20, "frequency_penalty": 0.1}
    texts = [reply(model, seed=seed, **settings).text for seed in (7, 7, 8)]
    assert texts[0] == texts[1] != texts[2]


def test_a_frequency_penalty_is_taken_off_logits_of_either_sign(model, logits):
    said = continued(model, frequency_penalty=1.0, logprobs=True, max_tokens=40)
    ids = model.backend.encode(model.prompt("Who are you?"))
    wanted: list[int] = []
    while len(wanted) < len(said.logprobs):
        found = logits(ids + wanted)[-1].copy()
        for id in wanted:
            found[id] -= 1.0
        wanted.append(int(found.argmax()))
    assert [token.id for token in said.logprobs] == wanted
    assert said.text != continued(model, max_tokens=40).text


def test_a_bias_bans_and_forces(model):
    first = continued(model, top_logprobs=2, max_tokens=1).logprobs[0]
    assert continued(model, logit_bias={first.id: -100}, max_tokens=1, logprobs=True).logprobs[0].id == first.top[1].id
    (forced,) = model.backend.encode(("a",))
    assert continued(model, logit_bias={forced: 100}, max_tokens=3).text == "aaa"
    with pytest.raises(RequestError, match="there is no token 5000"):
        reply(model, logit_bias={5000: 1})


def test_stop_texts_and_limits(model):
    whole = reply(model).text
    stopped = reply(model, stop=whole[12:20], top_logprobs=1)
    assert (stopped.text, stopped.finish_reason) == (whole[:12], "stop")
    assert b"".join(token.bytes for token in stopped.logprobs).decode().startswith(whole[:12])
    short = continued(model, max_tokens=3, top_logprobs=1)
    assert (short.finish_reason, short.usage.completion_tokens, len(short.logprobs)) == ("length", 3, 3)


@pytest.mark.parametrize("limit", [0, 1])
def test_log_probabilities_of_the_prompt_are_the_models_own(model, logits, limit):
    text = "The weather in Oslo is fine. " * 9  # several chunks
    said = Reply.from_events(model.complete(text, prompt_logprobs=True, top_logprobs=2, max_tokens=limit))
    prefix = len(model.backend.encode((model.family.prefix,)))
    ids = model.backend.encode((model.family.prefix, text))
    assert [token.id for token in said.prompt_logprobs] == ids[prefix:]
    assert b"".join(token.bytes for token in said.prompt_logprobs).decode() == text
    rows = logits(ids)[prefix - 1 :].astype(np.float64)
    for row, token in zip(rows, said.prompt_logprobs, strict=False):
        norm = np.log(np.exp(row - row.max()).sum()) + row.max()
        assert token.logprob == pytest.approx(row[token.id] - norm, abs=0.02)
        assert token.top[0].logprob == pytest.approx(row.max() - norm, abs=0.02)
    assert (said.usage.prompt_tokens, said.usage.completion_tokens) == (len(ids), limit)
    assert said.finish_reason == "length"


def test_token_ids_are_a_prompt(model):
    prompt = model.prompt("Who are you?")
    ids = model.backend.encode(prompt)
    found = Reply.from_events(model.complete(ids))
    assert (found.text, found.usage.prompt_tokens) == (f"\n{reply(model).text}", len(ids))
    scored = Reply.from_events(model.complete(ids, prompt_logprobs=True, max_tokens=0))
    assert [token.id for token in scored.prompt_logprobs] == ids
    assert (scored.prompt_logprobs[0].logprob, scored.prompt_logprobs[0].top) == (0.0, ())
    (full_stop,) = model.backend.encode((".",))
    ended = Reply.from_events(model.complete(ids, stop_token_ids=[full_stop]))
    assert (ended.text, ended.finish_reason) == (found.text.partition(".")[0], "stop")
    on = Reply.from_events(model.complete(ids, ignore_eos=True, max_tokens=ended.usage.completion_tokens + 30))
    assert on.finish_reason == "length"
    with pytest.raises(RequestError, match="there is no token 99999"):
        list(model.complete([1, 99999]))


@pytest.mark.parametrize("setting", ["frequency_penalty", "logit_bias", "top_logprobs", "prompt_logprobs"])
def test_beside_a_grammar_it_is_rejected_by_name_before_anything_is_written(model, setting):
    value = {"logit_bias": {1: 1.0}, "prompt_logprobs": True}.get(setting, 1)
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
    for constrained in ({"answer": Regex("[a-f]+")}, {"tools": [tool], "strict": True}):
        with pytest.raises(UnsupportedSetting, match=f"{setting} is not supported beside a grammar") as refused:
            reply(model, **{setting: value}, **constrained)
        assert refused.value.setting == setting
    assert reply(model, tools=[tool], **{setting: value}).text


@pytest.mark.parametrize("engine", [Stateful, NPU], ids=lambda engine: engine.__name__)
def test_other_engines_reject_it_by_name(engine, demo_folder, npu_folder):
    loaded = engine.load(npu_folder if engine is NPU else demo_folder, engine.devices()[-1], Options(context=512))
    for settings in ({"frequency_penalty": 1.0}, {"logit_bias": {1: 1.0}}, {"top_logprobs": 1}):
        (name,) = settings
        with pytest.raises(UnsupportedSetting, match=f"{name} is not supported|logprobs is not supported"):
            list(loaded.generate(Request((QUESTION,), STOPS, Sampling(**settings).resolve())))
    loaded.close()


def test_replies_of_both_kinds_are_written_at_once(model):
    wanted = [reply(model, max_tokens=30).text, reply(model, frequency_penalty=0.5, max_tokens=30).text]
    found: dict[int, str] = {}

    def run(number):
        settings = {"frequency_penalty": 0.5} if number % 2 else {}
        found[number] = reply(model, max_tokens=30, **settings).text

    threads = [Thread(target=run, args=(number,)) for number in range(14)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[number] for number in range(14)] == wanted * 7


def test_closing_cancels(demo_folder):
    engine = OpenVINO.load(demo_folder, "CPU", Options())
    request = Request((QUESTION,), (), SamplingParams(max_new_tokens=500, top_logprobs=1))
    parts = engine.generate(request)
    assert list(islice(parts, 2))
    parts.close()
    assert not engine._logits
    parts = engine.generate(request)
    next(parts)
    request.cancellation.cancel()
    *_, finish = parts
    assert isinstance(finish, Finish)
    assert finish.reason == "cancelled"
    assert not engine._logits
    engine.close()


def test_the_model_is_released_when_nobody_needs_it(demo_folder, monkeypatch):
    monkeypatch.setattr(logits_queue, "_IDLE", 0.05)
    engine = OpenVINO.load(demo_folder, "CPU", Options())
    request = Request((QUESTION,), STOPS, SamplingParams(max_new_tokens=3, logit_bias=((1, 1.0),)))
    for _ in range(2):
        *deltas, _ = engine.generate(request)
        assert sum(delta.tokens for delta in deltas if isinstance(delta, Delta)) == 3
        engine._logits._timer.join()
        assert engine._logits._model is None
    engine.close()


def test_adapters_and_short_memory_are_errors_of_that_request_alone(demo_folder, monkeypatch):
    engine = OpenVINO.load(demo_folder, "CPU", Options())
    monkeypatch.setattr(logits_model, "free_memory", lambda: 1000)
    plain = Request((QUESTION,), STOPS, SamplingParams(max_new_tokens=3))
    engine._has_adapters = True
    with pytest.raises(UnsupportedSetting, match="top_logprobs is not supported beside LoRA adapters"):
        list(engine.generate(replace(plain, sampling=SamplingParams(top_logprobs=1))))
    engine._has_adapters = False
    for _ in range(2):
        with pytest.raises(BackendError, match="the model a second time in memory"):
            list(engine.generate(replace(plain, sampling=SamplingParams(frequency_penalty=1.0))))
        assert len(list(engine.generate(plain))) == 4
    engine.close()


def test_the_engines_process_knows_it_too(demo_folder):
    engine = SubprocessBackend.load(demo_folder, "CPU", Options())
    request = Request((), STOPS, SamplingParams(max_new_tokens=2, prompt_logprobs=True), prompt_ids=(1, 2, 3))
    parts = [part for part in engine.generate(request) if not isinstance(part, Delta) or part.tokens or part.prompt]
    assert [token.id for token in parts[0].prompt] == [1, 2, 3]
    assert parts[-1].usage.prompt_tokens == 3
    engine.close()


def test_events_of_the_prompt_come_first(model):
    events = list(model.complete("Hello", prompt_logprobs=True, logprobs=True, max_tokens=2))
    kinds = [type(event) for event in events if not (hasattr(event, "text") and not event.text)]
    assert kinds[0] is PromptLogprobs
    assert kinds[1] is Logprobs


ROWS = np.log(np.array([[0.5, 0.25, 0.125, 0.125], [0.1, 0.2, 0.3, 0.4]], dtype=np.float32))


def test_a_scorer_goes_from_chunk_to_chunk():
    scorer = PromptScorer(VOCABULARY, 1)
    (first,), (second,) = scorer.feed([3], ROWS[:1]), scorer.feed([1], ROWS[1:])
    assert (first.bytes, first.logprob) == (b"d", 0.0)
    assert (second.bytes, second.logprob) == (b"b", pytest.approx(math.log(0.25)))
    assert second.top == (token_logprob(ROWS[0], 0, VOCABULARY),)
    assert most_probable(ROWS[0], 4) == [0, 1, 2, 3]


SAMPLED = {
    "all": ({}, {0: 0.5, 1: 0.25, 2: 0.125, 3: 0.125}),
    "top_k": ({"top_k": 2}, {0: 2 / 3, 1: 1 / 3}),
    "top_p": ({"top_p": 0.6}, {0: 2 / 3, 1: 1 / 3}),
    "top_p of one": ({"top_p": 0.3}, {0: 1.0}),
    "min_p": ({"min_p": 0.4}, {0: 2 / 3, 1: 1 / 3}),
    "temperature": ({"temperature": 0.5}, {0: 16 / 22, 1: 4 / 22, 2: 1 / 22, 3: 1 / 22}),
    "bias": ({"logit_bias": {0: -100.0}}, {1: 0.5, 2: 0.25, 3: 0.25}),
    "presence": ({"presence_penalty": 1.0, "temperature": 1 / math.log(2)}, None),
}


@pytest.mark.parametrize(("settings", "wanted"), SAMPLED.values(), ids=SAMPLED.keys())
def test_tokens_are_drawn_as_often_as_they_are_probable(settings, wanted):
    sampler = TokenSampler(Sampling(**{"temperature": 1.0, "seed": 3} | settings).resolve(), [])
    if wanted is None:
        sampler.add(0)
        before = ROWS[0].copy()
        assert sampler._penalize(ROWS[0])[0] == pytest.approx(before[0] - 1)
        return
    drawn = [sampler.choose(ROWS[0]) for _ in range(4000)]
    assert set(drawn) == set(wanted)
    for token, share in wanted.items():
        assert drawn.count(token) / 4000 == pytest.approx(share, abs=0.04)


def test_penalties_count_the_reply_and_repetition_the_prompt_too():
    sampler = TokenSampler(SamplingParams(frequency_penalty=0.5, repetition_penalty=2.0), [3])
    for token in (1, 1, 2):
        sampler.add(token)
    found = sampler._penalize(np.array([1.0, 2.0, 0.25, -1.0], dtype=np.float32))
    assert found.tolist() == [1.0, 0.5, -0.5, -2.0]
    assert next(count(int(found.argmax()))) == 0
