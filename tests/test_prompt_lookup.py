"""How many tokens prompt lookup drafts, where "auto" acts, and that it changes no reply."""

from contextlib import closing
from dataclasses import replace

import pytest

from runtime.backends.backend import Delta, Options, Request
from runtime.backends.openvino.paged import prompt_lookup
from runtime.backends.openvino.paged.batched import OpenVINO
from runtime.backends.openvino.paged.prompt_lookup import DraftLength
from runtime.chat import Chat
from runtime.errors import RequestError
from runtime.grammar.grammar import JsonSchema
from runtime.sampling import SamplingParams

VNNI = ("AVX2", "AVX512", "AVX512-VNNI")
STOPS = ("<|endoftext|>", "<|user|>", "<|observation|>")
EXACT = Options(precision="f32", kv_precision="f32", activation_group=0, threads=1)
QUESTIONS = ("Who are you?", "Say 61 62 63 64 65 66.", "洗手间在哪里？")
PROMPTS = tuple(f"[gMASK]<sop><|user|>\n{question}<|assistant|>" for question in QUESTIONS)
TAGS = JsonSchema.from_schema(
    {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 20}, "tag": {"enum": ["ferry", "boat"]}},
        "required": ["name", "tag"],
        "additionalProperties": False,
    }
)


@pytest.fixture
def vnni(monkeypatch):
    monkeypatch.setattr(prompt_lookup, "detect_isa", lambda: VNNI)


@pytest.mark.parametrize(
    ("options", "machine", "longest"),
    [
        ({"running": 1}, ("CPU", VNNI), 6),
        ({"running": 1}, ("CPU", ("AVX2", "AVX-VNNI")), 0),
        ({"running": 1}, ("GPU", VNNI), 0),
        ({"running": 16}, ("CPU", VNNI), 0),
        ({}, ("CPU", VNNI), 0),
        ({"running": 1, "activation_group": 0}, ("CPU", VNNI), 0),
        ({"running": 1, "lookup": 0}, ("CPU", VNNI), 0),
        ({"running": 16, "lookup": 5}, ("CPU", ("AVX2",)), 5),
    ],
    ids=str,
)
def test_auto_acts_where_it_pays(demo_folder, monkeypatch, options, machine, longest):
    device, isa = machine
    monkeypatch.setattr(prompt_lookup, "detect_isa", lambda: isa)
    assert DraftLength.of(demo_folder, device, Options(**{"lookup": "auto"} | options)).longest == longest


def test_a_model_that_is_not_rounded_has_none(demo_folder, vnni):
    other = replace(demo_folder.manifest, recipe="fp16")
    folder = replace(demo_folder, manifest=other)
    assert DraftLength.of(folder, "CPU", Options(lookup="auto", running=1)).longest == 0


def test_a_number_is_kept():
    drafts = DraftLength(5)
    for _ in range(100):
        drafts.record(5, 1, constrained=False)
    assert {drafts.choose(constrained=False, alone=alone) for alone in (True, False)} == {5}
    assert DraftLength(0).choose(constrained=False, alone=True) == 0


@pytest.mark.parametrize(("tokens", "length"), [(1, 1), (7, 6)])
def test_it_drafts_as_many_tokens_as_are_accepted(tokens, length):
    drafts = DraftLength(None)
    for _ in range(100):
        chosen = drafts.choose(constrained=False, alone=True)
        drafts.record(chosen, min(tokens, chosen + 1), constrained=False)
    assert drafts.choose(constrained=False, alone=True) == length
    assert drafts.choose(constrained=False, alone=False) == 1
    assert drafts.choose(constrained=True, alone=True) == DraftLength(None).choose(constrained=True, alone=True)


def test_it_changes_its_mind():
    drafts = DraftLength(None)
    for tokens in (1, 7, 1):
        for _ in range(200):
            chosen = drafts.choose(constrained=True, alone=True)
            drafts.record(chosen, min(tokens, chosen + 1), constrained=True)
        assert drafts.choose(constrained=True, alone=True) == (1 if tokens == 1 else 6)


def test_several_steps_that_were_read_at_once_count_for_none():
    drafts = DraftLength(None)
    before = drafts.choose(constrained=False, alone=True)
    for _ in range(100):
        drafts.record(2, 9, constrained=False)
    assert drafts.choose(constrained=False, alone=True) == before


@pytest.mark.parametrize("value", ["on", 1.5, True, None])
def test_another_value_is_refused(value):
    with pytest.raises(RequestError, match="lookup"):
        Options(lookup=value)


SAMPLING = {
    "greedy": SamplingParams(max_new_tokens=40),
    "sampled": SamplingParams(temperature=0.9, top_p=0.9, seed=5, max_new_tokens=40),
    "penalties": SamplingParams(
        temperature=1.0, seed=3, repetition_penalty=1.2, presence_penalty=0.5, max_new_tokens=40
    ),
    "log-probabilities": SamplingParams(logprobs=True, temperature=1.0, seed=9, max_new_tokens=30),
}


@pytest.mark.slow
def test_replies_and_log_probabilities_stay_the_same(demo_folder, monkeypatch):
    """With every sampling setting and under a grammar, beside another reply and alone."""
    found = {}
    for lookup in (0, None):
        monkeypatch.setattr(DraftLength, "of", lambda *_, fixed=lookup, **__: DraftLength(fixed))
        with closing(OpenVINO.load(demo_folder, "CPU", EXACT)) as engine:
            for grammar in (None, TAGS):
                for name, sampling in SAMPLING.items():
                    found[lookup, grammar, name] = [
                        read(engine.generate(Request((prompt,), STOPS, sampling, grammar=grammar)))
                        for prompt in PROMPTS
                    ]
            running = [engine.begin(Request((prompt,), STOPS, SAMPLING["sampled"])) for prompt in PROMPTS]
            found[lookup, None, "at once"] = [read(drain(engine, one)) for one in running]
    for (lookup, *key), replies in found.items():
        for (text, reason, logprobs), (wanted, end, others) in zip(replies, found[0, *key], strict=True):
            assert (text, reason) == (wanted, end), (lookup, key)
            assert logprobs == pytest.approx(others, abs=2e-3)


def drain(engine, running):
    while not running.finished:
        if running.can_read():
            yield from running.read()
        else:
            engine.step()


def read(parts):
    *deltas, finish = parts
    text = "".join(delta.text for delta in deltas)
    return text, finish.reason, [one.logprob.logprob for one in deltas if isinstance(one, Delta) and one.logprob]


@pytest.mark.slow
def test_a_chat_that_loads_its_model_looks_up(demo_folder, vnni):
    with Chat(demo_folder, device="CPU", options=Options(lookup="auto", threads=1), in_process=True) as chat:
        engine = chat.model.backend
        assert engine.drafts.longest == 6
        chat.send("Say 61 62 63 64 65 66.", temperature=0)
        assert engine.drafts.choose(constrained=False, alone=False) == 1


@pytest.mark.slow
def test_the_next_turn_counts_only_the_prompt_as_cached(demo_folder):
    """The reply is read again, and its blocks are not reported as reused."""
    with closing(OpenVINO.load(demo_folder, "CPU", replace(EXACT, lookup=4))) as engine:
        first = engine.encode((PROMPTS[0].replace("Who are you?", "Who are you? " * 20),))
        *deltas, finish = engine.generate(
            Request(("",), (), SamplingParams(temperature=1.0, seed=1, max_new_tokens=100), prompt_ids=tuple(first))
        )
        assert finish.usage.completion_tokens == 100
        reply = [id for delta in deltas for id in delta.ids]
        *_, finish = engine.generate(
            Request(PROMPTS[1:2], (), SamplingParams(max_new_tokens=1), prompt_ids=(*first, *reply))
        )
        assert 0 < finish.usage.cached_tokens <= len(first)
