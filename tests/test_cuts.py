"""Replies that are cut where they leave their grammar, and continued under what remains of it."""

import json
import time
from contextlib import closing
from dataclasses import replace
from importlib.util import find_spec
from itertools import count, pairwise
from multiprocessing import Pipe
from threading import Event, Thread

import pytest

from edge.demo import CHECKPOINT
from runtime.backends.backend import Backend, Delta, Options, Request
from runtime.backends.openvino.paged.batched import OpenVINO
from runtime.backends.openvino.process import worker
from runtime.backends.openvino.process.backend import SubprocessBackend
from runtime.backends.openvino.single_request.npu import EMULATED, NPU
from runtime.backends.openvino.single_request.stateful import Stateful
from runtime.backends.torch.engine import Torch
from runtime.cancellation import Cancellation
from runtime.checkpoint.checkpoint import Checkpoint
from runtime.errors import BackendError
from runtime.events import Finish, Logprobs, TokenLogprob, Usage
from runtime.grammar.grammar import Choice, JsonSchema, Regex
from runtime.grammar.matcher import Matcher
from runtime.reply.constraint import Constraint
from runtime.reply.generation import generate
from runtime.reply.parser import PlainText
from runtime.reply.reply import Reply
from runtime.sampling import SamplingParams
from runtime.vocabulary import TextDecoder, Vocabulary

from .test_backends import QUESTION, STOPS

pytestmark = pytest.mark.slow

ASK = Request((QUESTION,), STOPS, SamplingParams(temperature=1.0, seed=1))


def string_of(length):
    """The grammar of a JSON string of so many characters. An engine's mask allows fewer and more."""
    return JsonSchema.from_schema({"type": "string", "minLength": length, "maxLength": length})


# A permutation of the digits. Neither engine masks the digits that were.
DIGITS = JsonSchema.from_schema(
    {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 9}, "uniqueItems": True, "minItems": 10}
)


class Recorded:
    """Records the requests to an engine, and the deltas of each."""

    def __init__(self, *args):
        super().__init__(*args)
        self.requests = []

    def generate(self, request):
        deltas = []
        self.requests.append((request, deltas))
        with closing(super().generate(request)) as parts:
            for part in parts:
                if isinstance(part, Delta):
                    deltas.append(part)
                yield part


def recorded(engine):
    return type(engine.__name__, (Recorded, engine), {})


ENGINES = [OpenVINO, SubprocessBackend, Stateful, NPU, *([Torch] if find_spec("torch") else [])]


@pytest.fixture(scope="module", params=ENGINES, ids=lambda each: each.__name__)
def engine(request, demo_folder, npu_folder):
    kind = request.param
    source = {Torch: Checkpoint.open(CHECKPOINT), NPU: npu_folder}.get(kind, demo_folder)
    device = {Torch: "torch:cpu", NPU: EMULATED}.get(kind, "CPU")
    loaded = recorded(kind).load(source, device, Options(threads=1, context=1024, reply_tokens=512))
    yield loaded
    loaded.close()


@pytest.fixture(scope="module")
def decoder(demo_folder):
    return Vocabulary.read(demo_folder.path / "tokenizer.json").decoder


def reply(engine, grammar, request=ASK):
    engine.requests.clear()
    return list(generate(engine, request, PlainText(), Constraint(answer=grammar)))


def follow_from_one_another(engine, decoder):
    """Whether each request continues from the ids that were generated before; all but those of the token that was cut,
    whose beginning is tokenized anew."""
    for (before, deltas), (after, _) in pairwise(engine.requests):
        kept = [*before.generated, *(id for delta in deltas[:-1] for id in delta.ids)]
        assert after.prompt == before.prompt
        assert list(after.generated[: len(kept)]) == kept
        left = decoder().feed(after.generated[len(kept) :])
        assert deltas[-1].text.startswith(left)
    return True


@pytest.mark.parametrize("length", [1, 10, 60, 400])
def test_a_string_has_exactly_as_many_characters_as_it_may(engine, decoder, length):
    said = Reply.from_events(reply(engine, string_of(length)))
    assert (len(json.loads(said.text)), said.finish_reason) == (length, "stop")
    assert said.usage.prompt_tokens == engine.count_tokens((QUESTION,))
    assert len(engine.requests) > 1 or length == 1 or isinstance(engine, Torch)  # whose mask counts
    assert follow_from_one_another(engine, decoder)
    counted = sum(delta.tokens for _, deltas in engine.requests for delta in deltas)
    counted += len(engine.requests[0][0].generated)  # the quote, which is forced
    assert counted - len(engine.requests) <= said.usage.completion_tokens <= counted


@pytest.mark.parametrize("seed", range(3))
def test_no_item_comes_twice(engine, decoder, seed):
    said = Reply.from_events(reply(engine, DIGITS, replace(ASK, sampling=replace(ASK.sampling, seed=seed))))
    assert (sorted(json.loads(said.text)), said.finish_reason) == (list(range(10)), "stop")
    assert len(engine.requests) > 1
    assert follow_from_one_another(engine, decoder)


def test_limits_and_cancellation_hold_across_cuts(engine):
    for limit in (3, 8, 15):
        sampling = replace(ASK.sampling, max_new_tokens=limit)
        said = Reply.from_events(reply(engine, DIGITS, replace(ASK, sampling=sampling)))
        assert (said.usage.completion_tokens, said.finish_reason) == (limit, "length")
    assert len(engine.requests) > 1
    request = replace(ASK, cancellation=Cancellation())
    engine.requests.clear()
    events = generate(engine, request, PlainText(), Constraint(answer=DIGITS))
    written = ""
    while not written or len(engine.requests) == 1:
        written += next(events).text
    request.cancellation.cancel()
    *_, finish = events
    assert finish.reason == "cancelled"
    assert finish.usage.completion_tokens > 0
    with closing(generate(engine, ASK, PlainText(), Constraint(answer=DIGITS))) as left:
        next(left)
    assert len(json.loads(Reply.from_events(reply(engine, string_of(20))).text)) == 20


def test_a_stop_text_ends_a_reply_that_was_cut(engine):
    text = Reply.from_events(reply(engine, string_of(12))).text
    stop = replace(ASK.sampling, stop=(text[-4:],))
    said = Reply.from_events(reply(engine, string_of(12), replace(ASK, sampling=stop)))
    assert (said.text, said.finish_reason) == (text[:-4], "stop")


def test_log_probabilities_stay_with_their_characters(demo_folder):
    request = replace(ASK, sampling=replace(ASK.sampling, logprobs=True))
    with closing(recorded(OpenVINO).load(demo_folder, "CPU", Options(threads=1))) as engine:
        events = reply(engine, string_of(60), request)
        tokens = [token for event in events if isinstance(event, Logprobs) for token in event.tokens]
        assert len(engine.requests) > 1
    assert b"".join(token.bytes for token in tokens).decode() == Reply.from_events(events).text
    assert all(token.logprob <= 0 for token in tokens)


def test_what_was_cached_before_a_cut_is_right(demo_folder):
    """A continued reply has the log-probabilities that an engine gives which has cached nothing."""
    exact = Options(precision="f32", kv_precision="f32", activation_group=0, threads=1)
    found = []
    with closing(recorded(OpenVINO).load(demo_folder, "CPU", exact)) as engine:
        reply(engine, string_of(60))
        last, _ = engine.requests[-1]
        last = replace(last, sampling=SamplingParams(max_new_tokens=5, logprobs=True), grammar=None)
        found.append([part.logprob for part in engine.generate(last) if isinstance(part, Delta) and part.logprob])
    with closing(OpenVINO.load(demo_folder, "CPU", exact)) as fresh:
        found.append([part.logprob for part in fresh.generate(last) if isinstance(part, Delta) and part.logprob])
    assert len(last.generated) > 10
    for cached, computed in zip(*found, strict=True):
        assert cached.bytes == computed.bytes
        assert abs(cached.logprob - computed.logprob) < 1e-4


TOKENS = {1: b"ab", 2: b"c", 3: b"\xe4", 4: b"\xbd\xa0d", 5: b"!", 6: b"\xe4\xbd\xa0", 7: b"<b>"}


class Scripted(Backend):
    """An engine that generates lists of tokens in turn. Its own tokenizer makes an id of every character."""

    max_prompt_tokens = 1000
    reports_ids = masks_wider = True

    def __init__(self, *scripts, reason="stop"):
        self.requests = []
        self._scripts = list(scripts)
        self._reason = reason

    def encode(self, prompt):
        return [1000 + ord(character) for piece in prompt for character in piece]

    def admit(self, grammar, cancellation):
        pass

    def generate(self, request):
        self.requests.append(request)
        decoder = TextDecoder(TOKENS)
        for id in self._scripts.pop(0):
            text = decoder.feed((id,))
            logprob = TokenLogprob(TOKENS[id], -1.0) if request.sampling.logprobs else None
            yield Delta(text, 1, logprob, decoder.take_ids())
        yield Finish(self._reason, Usage(len(self.encode(request.prompt)), 0, 0.0, 0.0))


# The text of the grammar, what the engine generates, the ids from which it continues, and the bytes of the tokens.
CUTS = {
    "nothing": ("ab", [[1]], [], ["ab"]),
    "between tokens": ("abc!", [[1, 1], [2, 5]], [[1]], ["ab", "c", "!"]),
    "inside a token": ("abac!", [[1, 1], [2, 5]], [[1, 1097]], ["ab", "a", "c", "!"]),
    "at once": ("c!", [[1], [2, 5]], [[]], ["c", "!"]),
    "after two tokens' character": ("你!", [[3, 4], [5]], [[1000 + ord("你")]], [b"\xe4", b"\xbd\xa0", "!"]),
    "before two tokens' character": ("ab!", [[1, 3, 4], [5]], [[1]], ["ab", "!"]),
    "behind the token of its end": ("你d!", [[3, 4, 1], [5]], [[3, 4]], [b"\xe4", b"\xbd\xa0d", "!"]),
    "again": ("abaac!", [[1, 1], [1], [2, 5]], [[1, 1097], [1, 1097, 1097]], ["ab", "a", "a", "c", "!"]),
    "where it ends": ("aba", [[1, 1]], [], ["ab", "a"]),
    "the engine ended too early": ("ab!", [[1], [5]], [[1]], ["ab", "!"]),
}  # fmt: skip


@pytest.fixture
def unforced(monkeypatch):
    """The engine is asked for every text, even for one that it cannot but write."""
    monkeypatch.setattr(Matcher, "forced", lambda self, *, whole: "")


def test_what_is_forced_is_not_asked_for():
    engine = Scripted([1, 1])
    events = list(generate(engine, Request(("?",), ()), PlainText(), Constraint(answer=Choice(("ab",)))))
    assert (Reply.from_events(events).text, engine.requests) == ("ab", [])
    assert events[-1].usage.completion_tokens == len(engine.encode(("ab",)))
    engine = Scripted([7, 1, 5])
    events = list(generate(engine, Request(("?",), ()), PlainText(), Constraint(answer=Regex("<b>(ab){1,2}!"))))
    assert engine.requests[0].generated == ()  # the model may write a token that goes on
    assert Reply.from_events(events).text == "<b>ab!"


@pytest.mark.parametrize("text", ["<sop>", "<|begin_of_image|>", "[gMASK]"])
def test_a_special_token_in_a_text_is_spelled(demo_folder, text):
    """Whether it is forced, or the engine's mask takes the token for its text: none stays in the context."""
    special = demo_folder.manifest.special_tokens[text]
    grammars = [Choice((f"a {text}!",)), *[JsonSchema.from_schema({"enum": [f"{n}{text}" for n in range(3)]})] * 4]
    with closing(recorded(OpenVINO).load(demo_folder, "CPU", Options(threads=1))) as engine:
        for seed, grammar in enumerate(grammars):
            sampling = SamplingParams(temperature=5.0, seed=seed, max_new_tokens=40)
            said = Reply.from_events(reply(engine, grammar, replace(ASK, sampling=sampling)))
            assert text in said.text
            assert said.finish_reason == "stop"
            assert not any(special in request.generated for request, _ in engine.requests)


@pytest.mark.parametrize(("text", "scripts", "generated", "tokens"), CUTS.values(), ids=CUTS.keys())
def test_a_reply_goes_on_from_where_it_was_cut(unforced, text, scripts, generated, tokens):
    for logprobs in (False, True):
        engine = Scripted(*scripts)
        request = Request(("?",), (), SamplingParams(seed=7, logprobs=logprobs, max_new_tokens=20))
        events = list(generate(engine, request, PlainText(), Constraint(answer=Choice((text,)))))
        assert Reply.from_events(events).text == text
        assert [list(request.generated) for request in engine.requests] == [[], *generated]
        assert [request.sampling.seed for request in engine.requests] == list(range(7, 7 + len(scripts)))
        assert all(request.prompt == ("?",) for request in engine.requests)
        counted = events[-1].usage.completion_tokens
        assert counted == len(tokens)
    told = [token.bytes for event in events if isinstance(event, Logprobs) for token in event.tokens]
    assert told == [token if isinstance(token, bytes) else token.encode() for token in tokens]


def test_an_engine_without_ids_is_cut_too(monkeypatch):
    monkeypatch.setattr(Scripted, "reports_ids", False)
    engine = Scripted([1, 1], [2, 5])
    events = list(generate(engine, Request(("?",), ()), PlainText(), Constraint(answer=Choice(("abac!",)))))
    assert Reply.from_events(events).text == "abac!"
    assert [request.prompt for request in engine.requests] == [("?",), ("?", "aba")]


def test_an_exact_mask_is_not_checked(monkeypatch):
    monkeypatch.setattr(Scripted, "masks_wider", False)
    engine = Scripted([1, 1])
    events = list(generate(engine, Request(("?",), ()), PlainText(), Constraint(answer=Choice(("ab",)))))
    assert Reply.from_events(events).text == "abab"


def test_an_engine_that_writes_nothing_of_the_grammar_is_an_error(unforced):
    engine = Scripted([1, 2], [2], [2])
    with pytest.raises(BackendError, match="the engine writes nothing that the grammar allows"):
        list(generate(engine, Request(("?",), ()), PlainText(), Constraint(answer=Choice(("ab!",)))))
    assert len(engine.requests) == 3


class Endless:
    """An engine that generates a token of its only reply at every step."""

    max_prompt_tokens = 100
    finished = False
    steps = 0

    def __init__(self):
        self.may_begin = Event()

    def encode_slices(self, prompt, limit=None):
        self.may_begin.wait()
        yield
        return [1]

    def read_pictures(self, request, ids):
        return None

    def begin(self, request, ids, start):
        return self

    def step(self):
        self.steps += 1
        self.unread = True

    def can_read(self):
        return self.unread

    def read(self):
        self.unread = False
        return [Delta(str(self.steps))]

    def cancel(self, running):
        pass


def test_an_engine_process_waits_for_its_readers_but_not_long(monkeypatch):
    """It generates nothing beyond a token at which the reply may be cut, unless nobody reads."""
    monkeypatch.setattr(worker, "_READING", 60.0)
    here, there = Pipe()
    engine = Endless()
    loop = Thread(target=worker._EngineLoop(engine, there).run, daemon=True)
    loop.start()
    here.send(("begin", 0, Request((), (), cancellation=None)))
    here.send(("read", 0, 0))
    engine.may_begin.set()
    written = (part.text for _ in count() for _, part in here.recv() if isinstance(part, Delta))
    first = int(next(written))
    for number in range(first, first + 4):
        if number == first + 3:
            monkeypatch.setattr(worker, "_READING", 1.0)
        here.send(("read", 0, number))
        assert next(written) == str(number + 1)
        assert engine.steps == number + 1
    start = time.perf_counter()
    assert next(written) == str(first + 5)
    assert time.perf_counter() - start > 0.5
    assert [next(written) for _ in range(9)] == [str(number) for number in range(first + 6, first + 15)]
    here.send(("close", -1, None))
    loop.join()
