"""Log-probabilities of what was written, and penalties, held against the model's own logits."""

import codecs
from collections import Counter

import pytest

from runtime.backends.backend import Backend, Delta, Options, Request
from runtime.backends.openvino.paged.batched import OpenVINO
from runtime.events import Finish, Logprobs, Text, TokenLogprob, ToolCall
from runtime.grammar.grammar import JsonObject, Regex
from runtime.prompt.families import ReasoningMarks
from runtime.reply.calls.json_call import JsonCallSyntax
from runtime.reply.constraint import Constraint
from runtime.reply.generation import generate
from runtime.reply.reply_parser import ReplyParser
from runtime.sampling import Sampling, SamplingParams

from .test_backends import QUESTION, STOPS

LOGGED = Sampling(logprobs=True)


class Scripted(Backend):
    """An engine that writes the tokens that it is given."""

    max_prompt_tokens = 100

    def __init__(self, tokens):
        self._tokens = list(tokens)

    def count_tokens(self, prompt):
        return 1

    def admit(self, grammar, cancellation):
        pass

    def generate(self, request):
        utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        while self._tokens:
            token = self._tokens.pop(0)
            yield Delta(utf8.decode(token), 1, TokenLogprob(token, -1.0))
        if rest := utf8.decode(b"", final=True):
            yield Delta(rest, 0)
        yield Finish("stop")


REPLIES = {
    "a newline before it": (["\n", "Hel", "lo"], {}, ["Hel", "lo"]),
    "a newline within its first token": (["\nHel", "lo"], {}, ["\nHel", "lo"]),
    "half characters": (["\n", b"\xe4", b"\xbd\xa0", "好"], {}, [b"\xe4", b"\xbd\xa0", "好"]),
    "a half at the end": (["\nA", b"\xe4"], {}, ["\nA", b"\xe4"]),
    "a stop text": (["\n", "one", " tw", "o", " three"], {"stop": ("two",)}, ["one", " tw"]),
    "a stop text that never comes": (["\n", "one", " tw", "ig"], {"stop": ("two",)}, ["one", " tw", "ig"]),
    "reasoning": (["<think>", "so", "</think>", "\n", "Yes"], {"reasoning": True}, ["Yes"]),
    "a call": (["\n", "See", "\n", "<|a|>", "f\n", '{"a"', ": 1}"], {"names": ["f"]}, ["See", "\n"]),
    "a call held to a grammar": (["\n", "See\n", "f", '\n{"a"', ": 1}", "{}"], {"names": ["f"], "held": 1}, ["See\n"]),
}  # fmt: skip


@pytest.mark.parametrize(("tokens", "how", "wanted"), REPLIES.values(), ids=REPLIES.keys())
def test_the_tokens_of_a_text_are_told_before_it(tokens, how, wanted):
    engine = Scripted(token if isinstance(token, bytes) else token.encode() for token in tokens)
    marks = ReasoningMarks("<think>", "</think>", prompted=False) if how.get("reasoning") else None
    names = how.get("names", ())
    parser = ReplyParser([JsonCallSyntax(names, "<|a|>")] if names else [], "<|a|>", marks)
    request = Request(("?",), (), SamplingParams(logprobs=True, stop=how.get("stop", ())))
    constraint = Constraint(arguments={"f": JsonObject()} if how.get("held") else {})
    told, text = [], ""
    for event in generate(engine, request, parser, constraint):
        if isinstance(event, Logprobs):
            told += event.tokens
        elif isinstance(event, Text):
            text += event.text
            assert len(text) <= len(b"".join(token.bytes for token in told).decode(errors="replace"))
        elif isinstance(event, ToolCall):
            assert event.name == "f"
    assert [token.bytes for token in told] == [t if isinstance(t, bytes) else t.encode() for t in wanted]


@pytest.fixture(scope="module")
def engine(demo_folder):
    loaded = OpenVINO.load(demo_folder, "CPU", Options(precision="f32", kv_precision="f32", activation_group=0))
    yield loaded
    loaded.close()


@pytest.fixture(scope="module")
def logits(demo_folder):
    """A function of token ids: the logits after each of them, of shape [tokens, vocabulary]."""
    import numpy as np
    import openvino

    exact = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0", "KV_CACHE_PRECISION": "f32"}
    compiled = openvino.Core().compile_model(str(demo_folder.path / "openvino_model.xml"), "CPU", exact)

    def read(ids):
        count = len(ids)
        inputs = {"input_ids": [ids], "attention_mask": [[1] * count], "position_ids": [list(range(count))]}
        feed = {name: np.array(value, dtype=np.int64) for name, value in inputs.items()}
        found = compiled.create_infer_request().infer(feed | {"beam_idx": np.zeros(1, dtype=np.int32)})
        return next(iter(found.values()))[0].astype(np.float64)

    return read


def test_log_probabilities_are_the_models_own(engine, logits):
    import numpy as np

    sampling = SamplingParams(temperature=1.5, seed=3, max_new_tokens=20, presence_penalty=1.0, logprobs=True)
    *deltas, _ = engine.generate(Request((QUESTION,), STOPS, sampling))
    written = [delta.logprob for delta in deltas if delta.logprob]
    assert b"".join(token.bytes for token in written).decode() == "".join(delta.text for delta in deltas)
    ids = engine.encode((QUESTION,))
    said = [id for token in written for id in engine.encode((token.text,))]
    assert len(said) == len(written)
    found = logits(ids + said)[len(ids) - 1 :]
    peak = found.max(-1, keepdims=True)
    wanted = found - peak - np.log(np.exp(found - peak).sum(-1, keepdims=True))
    assert [token.logprob for token in written] == pytest.approx([wanted[i, id] for i, id in enumerate(said)], abs=0.02)


def greedy(logits, ids, penalty, *, flipped):
    """60 tokens under a frequency penalty; `flipped` takes it off logits below 0 by adding it, as GenAI does."""
    said = []
    for _ in range(60):
        found = logits(ids + said)[-1]
        for id, times in Counter(said).items():
            found[id] += penalty * times * (1 if flipped and found[id] < 0 else -1)
        said.append(int(found.argmax()))
    return said


def agreed(said, others):
    """How many tokens are the same before the first that is not."""
    return next((i for i, pair in enumerate(zip(said, others, strict=True)) if pair[0] != pair[1]), len(said))


@pytest.mark.slow
def test_why_a_frequency_penalty_is_not_left_to_genai(engine, logits):
    """When this fails, GenAI has mended it, and `backends/genai.py` may pass it on."""
    import numpy as np
    import openvino
    import openvino_genai as genai

    ids = engine.encode((QUESTION.replace("Who are you?", "What is the weather in Oslo?"),))
    config = genai.GenerationConfig(max_new_tokens=60, apply_chat_template=False)
    config.ignore_eos, config.frequency_penalty = True, 1.0
    handle = engine.pipeline.add_request(10**6, openvino.Tensor(np.array([ids], dtype=np.int64)), config)
    while engine.pipeline.has_non_finished_requests():
        engine.pipeline.step()
    (output,) = handle.read_all()
    said = list(output.generated_ids)
    same = {flipped: agreed(said, greedy(logits, ids, 1.0, flipped=flipped)) for flipped in (True, False)}
    assert same[True] > same[False]


def test_a_presence_penalty_is_taken_off_what_was_said(engine):
    def reply(penalty):
        sampling = SamplingParams(max_new_tokens=40, presence_penalty=penalty, logprobs=True)
        deltas = list(engine.generate(Request(("[1, 2, 3, ",), (), sampling)))[:-1]
        return [delta.logprob.bytes for delta in deltas if delta.logprob]

    plain, penalised = reply(0.0), reply(2.0)
    assert penalised[0] == plain[0]  # the prompt's tokens do not count
    assert len(set(penalised)) > len(set(plain))


def test_log_probabilities_are_those_without_a_grammar(engine, logits):
    import numpy as np

    request = Request((QUESTION,), (), SamplingParams(max_new_tokens=1, logprobs=True), grammar=Regex("[a-f]{6}"))
    *deltas, _ = engine.generate(request)
    ((token,),) = ([delta.logprob for delta in deltas if delta.logprob],)
    (id_,) = engine.encode((token.text,))
    found = logits(engine.encode((QUESTION,)))[-1]
    assert id_ != found.argmax()
    wanted = found[id_] - found.max() - np.log(np.exp(found - found.max()).sum())
    assert token.logprob == pytest.approx(wanted, abs=0.02)


def test_a_repetition_penalty_counts_the_prompt_too(engine):
    def first(**settings):
        sampling = SamplingParams(max_new_tokens=1, logprobs=True, **settings)
        deltas = list(engine.generate(Request(("[1, 2, 3, 1, 2, 3, 1, 2, ",), (), sampling)))[:-1]
        return next(delta.logprob.bytes for delta in deltas if delta.logprob)

    assert first() == first(presence_penalty=2.0) == b"3"
    assert first(repetition_penalty=10.0) != b"3"
