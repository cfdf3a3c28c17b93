"""Grammars are tried where they hurt nobody; what an engine cannot hold, or not in time, is refused by name."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from itertools import islice

import pytest

from runtime.backends.backend import Delta, Options, Request
from runtime.backends.openvino.grammar.admission import AdmittedGrammar, GrammarAdmission
from runtime.backends.openvino.process.backend import SubprocessBackend
from runtime.cancellation import Cancellation
from runtime.errors import BackendError, UnsupportedGrammar
from runtime.events import Finish
from runtime.grammar.grammar import Choice, Ebnf, Grammar, JsonObject, JsonSchema, Regex, to_tree
from runtime.grammar.matcher import Matcher
from runtime.grammar.printers.ebnf import EngineGrammar
from runtime.sampling import SamplingParams

QUESTION = "[gMASK]<sop><|user|>\nWho are you?<|assistant|>"
STOPS = ("<|endoftext|>", "<|user|>", "<|observation|>")
DEAR = Regex(r"([a-zé]|[^é]){0,2000}" * 8)
LONG = Choice(tuple(f"{number:05}\n" for number in range(3000)))
BOUNDARY = JsonSchema.from_schema({"type": "string", "pattern": r"a\bc"})
REFUSED = {
    "a word boundary": BOUNDARY,
    "a pattern that takes long": DEAR,
    "a pattern without end": Regex("((a{900}){900}){900}"),
    "an EBNF that begins with itself": Ebnf('root ::= root "a" | "b"'),
    "a text of which nothing says where it ends": Ebnf('root ::= "(" ' + "[^)] " * 20 + 'root? ")"'),
    "alternatives that multiply": JsonSchema.from_schema(
        {"allOf": [{"anyOf": [{"type": "object", "required": [f"{i}{j}"]} for j in range(5)]} for i in range(5)]}
    ),
}


@pytest.fixture(scope="module")
def trial(demo_folder):
    with closing(GrammarAdmission(demo_folder)) as trial:
        yield trial


@pytest.fixture(scope="module")
def engine(demo_folder):
    with closing(SubprocessBackend.load(demo_folder, "CPU", Options(threads=1))) as engine:
        yield engine


def said(engine: SubprocessBackend, grammar: Grammar | None = None, limit: int = 40) -> str:
    *deltas, finish = engine.generate(
        Request((QUESTION,), STOPS, SamplingParams(max_new_tokens=limit), grammar=grammar)
    )
    assert isinstance(finish, Finish)
    return "".join(delta.text for delta in deltas)


@pytest.mark.slow
@pytest.mark.parametrize(
    "grammar",
    [
        Regex("[0-9]{3}"),
        Choice(("yes", "no")),
        Choice(("a\u0000b", "\u200b")),
        Ebnf('root ::= "<" [a-z]{2,4} root? ">"'),
        JsonObject(),
        JsonSchema.from_schema({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}),
    ],
    ids=repr,
)
def test_what_the_engine_compiles_is_admitted(trial, engine, grammar):
    admitted = trial.admit(grammar, Cancellation())
    assert admitted.grammar.text.startswith("root ::= ")
    assert admitted.nbytes >= 0
    text = said(engine, grammar)
    assert Matcher(to_tree(grammar)).feed(text) == len(text) > 0


@pytest.mark.slow
@pytest.mark.parametrize("grammar", REFUSED.values(), ids=REFUSED.keys())
def test_what_it_refuses_or_takes_too_long_for_is_refused_by_name(trial, grammar):
    for _ in range(2):  # the second time from memory
        with pytest.raises(UnsupportedGrammar) as caught:
            trial.admit(grammar, Cancellation())
        assert caught.value.grammar == grammar
        assert caught.value.hint
        assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_request_that_is_cancelled_does_not_wait_for_its_trial(demo_folder):
    with closing(GrammarAdmission(demo_folder)) as trial, ThreadPoolExecutor() as pool:
        slow = [pool.submit(_refusal, trial, Regex(DEAR.pattern + "x" * i)) for i in range(3)]
        cancellation = Cancellation()
        waits = pool.submit(trial.admit, Regex("a+"), cancellation)
        cancellation.cancel()
        assert waits.result(timeout=20) is None or waits.result().grammar.text.startswith("root ::= ")
        assert all(isinstance(one.result(), UnsupportedGrammar) for one in slow)


def _refusal(trial, grammar):
    try:
        return trial.admit(grammar, Cancellation())
    except UnsupportedGrammar as exc:
        return exc


@pytest.mark.slow
def test_innocent_requests_go_on_beside_hostile_grammars(engine):
    plain, strict = said(engine), said(engine, Regex("[0-9]{5}"))

    def hostile(number: int) -> type[BaseException]:
        pattern = (r"a\bc", "(a(?=b))", r"(a)\1", "((a{900}){900}){900}")[number % 4] + "x" * number
        with pytest.raises(UnsupportedGrammar):
            said(engine, JsonSchema.from_schema({"type": "string", "pattern": pattern}))
        return UnsupportedGrammar

    def innocent(number: int) -> str:
        return said(engine, Regex("[0-9]{5}") if number % 2 else None)

    with ThreadPoolExecutor(12) as pool:
        hostiles = [pool.submit(hostile, number) for number in range(12)]
        innocents = [pool.submit(innocent, number) for number in range(12)]
        assert [one.result() for one in hostiles] == [UnsupportedGrammar] * 12
        assert [one.result() for one in innocents] == [plain, strict] * 6


@pytest.mark.slow
def test_an_engine_full_of_grammars_is_started_again_and_no_request_fails(demo_folder):
    bound = Options(threads=1, grammar_memory=1)
    with closing(SubprocessBackend.load(demo_folder, "CPU", bound)) as engine, ThreadPoolExecutor(4) as pool:
        pids, most = set(), 0

        def ask(number: int) -> str:
            nonlocal most
            text = said(engine, Regex(f"[0-9]{{3}} {number} [a-z]{{2}}"))
            most = max(most, engine.grammar_memory)
            pids.add(engine.pid)
            return text

        texts = list(pool.map(ask, range(60)))
        assert all(str(number) in text for number, text in enumerate(texts))
        assert len(pids) > 1
        assert most <= 2 * 2**20 + 4 * 2**16  # those that were admitted side by side


@pytest.mark.slow
def test_an_engine_whose_step_fails_is_started_again(demo_folder, monkeypatch):
    """As if the trial had let a grammar pass that the engine refuses."""
    with (
        closing(SubprocessBackend.load(demo_folder, "CPU", Options(threads=1))) as engine,
        ThreadPoolExecutor() as pool,
    ):
        wanted = said(engine)
        others = [pool.submit(said, engine) for _ in range(2)]
        request = Request((QUESTION,), STOPS, grammar=Regex("a"))
        refused = AdmittedGrammar(EngineGrammar('root ::= "a" nothing\n', False, 0.0))
        monkeypatch.setattr(engine.admission, "admit", lambda grammar, _: refused)
        with pytest.raises(UnsupportedGrammar, match="unsupported grammar"):
            list(engine.generate(request))
        for other in others:
            failure = other.exception()
            assert failure is None or (isinstance(failure, BackendError) and "OpenVINO failed" in str(failure))
            assert failure is not None or other.result() == wanted  # one that had begun fails
        assert engine.alive
        assert said(engine) == wanted


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="there is no SIGSTOP here")
@pytest.mark.parametrize("how", ["a reply", "a count"])
def test_who_waits_for_a_stopped_engine_gets_an_error(demo_folder, how):
    with closing(SubprocessBackend.load(demo_folder, "CPU", Options(threads=1))) as engine:
        begun = time.monotonic()
        reply = engine.generate(Request((QUESTION,), (), SamplingParams(max_new_tokens=1000)))
        list(islice((part for part in reply if isinstance(part, Delta) and part.tokens), 3))
        os.kill(engine.pid, signal.SIGSTOP)
        with pytest.raises(BackendError, match="is stopped"):
            list(reply) if how == "a reply" else engine.count_tokens((QUESTION,))
        assert time.monotonic() - begun < 60
        with pytest.raises(BackendError, match="has died"):
            engine.count_tokens((QUESTION,))
    assert not engine.alive


@pytest.mark.slow
def test_processes_that_nothing_needs_are_ended(demo_folder, monkeypatch):
    monkeypatch.setattr("runtime.backends.openvino.grammar.admission._REST", 0.3)
    trial = GrammarAdmission(demo_folder)
    try:
        for grammar in (Regex("[0-9]{3}"), LONG):
            with suppress(UnsupportedGrammar):
                trial.admit(grammar, Cancellation())
        assert trial.quick.child is not None
        end = time.monotonic() + 10
        while trial.patient.child is not None or trial.quick.spare is not None:
            assert time.monotonic() < end
            time.sleep(0.05)
        assert trial.quick.child.running
        assert trial.admit(Regex("[0-9]{200}"), Cancellation())  # it is started again
    finally:
        trial.close()
