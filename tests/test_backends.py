"""The contract of a backend, held against every engine that is installed, the fake included."""

import os
import shutil
import signal
from contextlib import closing
from dataclasses import replace
from importlib.util import find_spec
from itertools import islice
from threading import Thread

import pytest

from edge.demo import CHECKPOINT
from runtime.backends.backend import Delta, Options, Request
from runtime.backends.choose import choose
from runtime.backends.echo import Echo
from runtime.backends.openvino.paged.batched import OpenVINO
from runtime.backends.openvino.paged.pipeline import step_tokens
from runtime.backends.openvino.process.backend import SubprocessBackend
from runtime.backends.openvino.single_request.npu import NPU
from runtime.backends.openvino.single_request.stateful import Stateful
from runtime.backends.remote.engine import Remote
from runtime.backends.torch.engine import Torch
from runtime.checkpoint.checkpoint import Checkpoint
from runtime.errors import BackendError, DeviceError, EdgeError, PromptTooLong, RequestError, UnsupportedSetting
from runtime.events import Finish
from runtime.folder.model_folder import ModelFolder
from runtime.grammar.grammar import JsonSchema, Regex
from runtime.model import Model
from runtime.sampling import SamplingParams

from .serving import SERVE, serving

STOPS = ("<|endoftext|>", "<|user|>", "<|observation|>")
QUESTION = "[gMASK]<sop><|user|>\nWho are you?<|assistant|>"


class Lookup(OpenVINO):
    """OpenVINO with prompt lookup."""

    @classmethod
    def load(cls, folder, device, options):
        return super().load(folder, device, replace(options, lookup=4))


ENGINES = [OpenVINO, Lookup, SubprocessBackend, Stateful, NPU, Echo]
ENGINES += [Torch] if find_spec("torch") else []
ENGINES += [Remote] if all(find_spec(name) for name in ("fastapi", "openai", "torch", "uvicorn")) else []


@pytest.fixture(scope="module", params=ENGINES, ids=lambda backend: backend.__name__)
def backend(request, demo_folder, npu_folder, tmp_path_factory):
    """Torch and Remote work on the checkpoint itself, Remote by a `transformers serve` of its own."""
    engine = request.param
    if engine is Remote:
        with serving([*SERVE, str(CHECKPOINT), "--device", "cpu"], tmp_path_factory.mktemp("serve") / "log") as url:
            loaded = Remote.load(Checkpoint.open(CHECKPOINT), url, Options())
            yield loaded
            loaded.close()
        return
    folder = Checkpoint.open(CHECKPOINT) if engine is Torch else npu_folder if engine is NPU else demo_folder
    device = engine.devices()[-1 if engine is NPU else 0]
    loaded = engine.load(folder, device, Options(threads=1 if engine is Torch else 2, context=1024))
    yield loaded
    loaded.close()


@pytest.fixture(scope="module")
def openvino(demo_folder):
    loaded = OpenVINO.load(demo_folder, "CPU", Options())
    yield loaded
    loaded.close()


def read(parts):
    *deltas, finish = parts
    assert all(isinstance(delta, Delta) for delta in deltas)
    assert isinstance(finish, Finish)
    return "".join(delta.text for delta in deltas), finish


def test_a_reply_is_deltas_and_a_finish(backend):
    text, finish = read(backend.generate(Request((QUESTION,), STOPS)))
    assert text.strip()
    assert finish.reason == "stop"
    assert finish.usage.prompt_tokens == backend.count_tokens((QUESTION,))
    assert finish.usage.completion_tokens > 0
    assert not any(stop in text for stop in STOPS)


def test_the_token_limit_is_kept(backend):
    parts = list(backend.generate(Request((QUESTION,), STOPS, SamplingParams(max_new_tokens=3))))
    _, finish = read(parts)
    assert finish.reason == "length"
    assert finish.usage.completion_tokens == sum(part.tokens for part in parts[:-1]) == 3


def test_greedy_replies_are_the_same_and_a_seed_repeats_a_sampled_one(backend):
    for sampling in (SamplingParams(), SamplingParams(temperature=2.0, seed=7, max_new_tokens=20)):
        request = Request((QUESTION,), STOPS, sampling)
        first, second = (read(backend.generate(request))[0] for _ in range(2))
        assert first == second or isinstance(backend, Echo)


@pytest.mark.parametrize("settings", [{"top_p": 0.0}, {"top_k": 1}, {"min_p": 0.999}, {"min_p": 1.0}], ids=str)
def test_settings_that_leave_one_token_are_greedy(backend, settings):
    greedy = SamplingParams(max_new_tokens=12)
    one = SamplingParams(temperature=4.0, seed=3, max_new_tokens=12, **settings)
    texts = [read(backend.generate(Request((QUESTION,), STOPS, sampling)))[0] for sampling in (greedy, one)]
    assert texts[0] == texts[1] or isinstance(backend, Echo)


@pytest.mark.parametrize("question", ["Who are you?", "洗手间在哪里？"])
def test_a_reply_goes_on_from_the_ids_of_its_beginning(backend, question):
    request = Request((QUESTION.replace("Who are you?", question),), STOPS)
    *deltas, finish = backend.generate(request)
    if not backend.reports_ids:
        assert not any(delta.ids for delta in deltas)
        return
    whole = "".join(delta.text for delta in deltas)
    places = [place for place, delta in enumerate(deltas, 1) if delta.ids][1:9:3]
    assert places or isinstance(backend, Lookup)
    for place in places:
        begun = "".join(delta.text for delta in deltas[:place])
        ids = tuple(id for delta in deltas[:place] for id in delta.ids)
        rest, ended = read(backend.generate(replace(request, generated=ids)))
        assert (begun + rest, ended.reason) == (whole, "stop")
        assert ended.usage.prompt_tokens == finish.usage.prompt_tokens
        assert ended.usage.completion_tokens == finish.usage.completion_tokens - len(ids)


def test_log_probabilities_are_told_or_refused(backend):
    request = Request((QUESTION,), STOPS, SamplingParams(max_new_tokens=8, logprobs=True))
    if isinstance(backend, Stateful | NPU | Remote):
        with pytest.raises(UnsupportedSetting, match="logprobs is not supported"):
            next(backend.generate(request))
        return
    *deltas, _ = backend.generate(request)
    written = [delta.logprob for delta in deltas if delta.logprob]
    assert b"".join(token.bytes for token in written).decode() == "".join(delta.text for delta in deltas)
    assert all(token.logprob <= 0 for token in written)


def test_settings_that_need_logits_are_supported_or_refused(backend):
    sampling = SamplingParams(max_new_tokens=3, prompt_logprobs=True, logprobs=True, top_logprobs=2)
    request = Request((QUESTION,), STOPS, sampling)
    if isinstance(backend, Stateful | NPU | Remote):
        for settings in ({"top_logprobs": 1}, {"prompt_logprobs": True}, {"logit_bias": ((1, 1.0),)}):
            if isinstance(backend, Remote) and "logit_bias" in settings:
                continue
            with pytest.raises(UnsupportedSetting, match="is not supported"):
                next(backend.generate(replace(request, sampling=SamplingParams(**settings))))
        return
    parts = list(backend.generate(request))
    prompt = [token for part in parts[:-1] for token in part.prompt]
    assert [token.id for token in prompt] == backend.encode((QUESTION,))
    assert prompt[0].logprob == 0
    written = [part.logprob for part in parts[:-1] if part.logprob]
    assert b"".join(token.bytes for token in written).decode() == "".join(part.text for part in parts[:-1])
    if not isinstance(backend, Echo):
        assert all(len(token.top) == 2 for token in (*prompt[1:], *written))
        assert all(token.logprob == token.top[0].logprob for token in written)
        assert any(token.logprob < token.top[0].logprob for token in prompt[1:])
    plain = replace(request, sampling=SamplingParams(max_new_tokens=3))
    assert "".join(part.text for part in parts[:-1]) == read(backend.generate(plain))[0] or isinstance(backend, Echo)
    ids = replace(request, prompt=(), prompt_ids=tuple(backend.encode((QUESTION,))))
    assert [token.id for part in list(backend.generate(ids))[:-1] for token in part.prompt] == list(ids.prompt_ids)
    if not isinstance(backend, Echo):
        with pytest.raises(RequestError, match="there is no token 9999999"):
            list(backend.generate(replace(ids, prompt_ids=(9999999,))))


def test_pieces_are_tokenised_apart(backend):
    whole, cut = backend.count_tokens(("<|assistant|>",)), backend.count_tokens(("<", "|assistant|>"))
    assert cut > whole or isinstance(backend, Echo)


def test_a_prompt_past_the_context_is_refused_with_the_counts(backend):
    prompt = ("a 1 " * backend.max_prompt_tokens,)
    with pytest.raises(PromptTooLong) as caught:
        list(backend.generate(Request(prompt, STOPS)))
    assert caught.value.prompt_tokens == backend.count_tokens(prompt)
    assert caught.value.limit == backend.max_prompt_tokens


def test_closing_cancels_and_the_next_request_is_served(backend):
    wanted, _ = read(backend.generate(Request((QUESTION,), STOPS)))
    with closing(backend.generate(Request((QUESTION,), STOPS))) as parts:
        list(islice(parts, 2))
    if isinstance(backend, Echo):
        return
    if isinstance(backend, OpenVINO):
        assert not backend.pipeline.has_non_finished_requests()
    assert read(backend.generate(Request((QUESTION,), STOPS)))[0] == wanted


def test_another_thread_cancels_a_reply(backend):
    request = Request((QUESTION,), (), SamplingParams(max_new_tokens=500))
    parts = backend.generate(request)
    first = next(part for part in parts if part.tokens)
    Thread(target=request.cancellation.cancel).start()
    *_, finish = parts
    assert first.text is not None
    assert finish.reason == "cancelled"
    assert 0 < finish.usage.completion_tokens < 500
    assert read(backend.generate(Request((QUESTION,), STOPS)))[1].reason == "stop"


def test_what_was_cancelled_before_it_began_says_nothing(backend):
    request = Request((QUESTION,), STOPS)
    request.cancellation.cancel()
    text, finish = read(backend.generate(request))
    assert (text, finish.reason, finish.usage.completion_tokens) == ("", "cancelled", 0)


def test_a_cancelled_prompt_ends_within_a_step_of_the_engine(openvino, monkeypatch):
    steps = Steps(openvino.pipeline)
    monkeypatch.setattr(openvino, "pipeline", steps)
    request = Request(("7 8 9 " * 300,), (), SamplingParams(max_new_tokens=5))
    assert openvino.count_tokens(request.prompt) > 10 * step_tokens("CPU")
    step, steps.after = steps.step, None

    def cancelling():
        step()
        if steps.count == 3:
            request.cancellation.cancel()

    monkeypatch.setattr(steps, "step", cancelling)
    _, finish = read(openvino.generate(request))
    assert finish.reason == "cancelled"
    assert steps.count <= 4  # the one that lets the pipeline drop it computes nothing
    assert not openvino.pipeline.has_non_finished_requests()


def test_threads_share_one_engine(openvino):
    prompts = [QUESTION, QUESTION.replace("Who are you?", "Hello"), QUESTION.replace("Who are you?", "谢谢")] * 2
    alone = [read(openvino.generate(Request((prompt,), STOPS)))[0] for prompt in prompts]
    together: dict[int, str] = {}

    def ask(i: int) -> None:
        together[i] = read(openvino.generate(Request((prompts[i],), STOPS)))[0]

    threads = [Thread(target=ask, args=(i,)) for i in range(len(prompts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [together[i] for i in range(len(prompts))] == alone


def test_a_process_works_for_threads_and_its_death_is_an_error(demo_folder):
    engine = SubprocessBackend.load(demo_folder, "CPU", Options(threads=2))
    others: list[str] = []
    threads = [
        Thread(target=lambda: others.append(read(engine.generate(Request((QUESTION,), STOPS)))[0])) for _ in "ab"
    ]
    for thread in threads:
        thread.start()
    with pytest.raises(RequestError, match="is not supported"):  # while the others are served
        list(engine.generate(Request((QUESTION,), STOPS, grammar=JsonSchema.from_schema({"pattern": r"a\b"}))))
    for thread in threads:
        thread.join()
    assert others[0] == others[1]
    assert others[0].strip()
    parts = engine.generate(Request((QUESTION,), ()))
    next(parts)
    os.kill(engine.pid, signal.SIGKILL)
    with pytest.raises(BackendError, match="has died"):
        list(parts)
    with pytest.raises(BackendError, match="has died"):
        engine.count_tokens((QUESTION,))
    engine.close()


class Steps:
    """A pipeline that counts its steps."""

    def __init__(self, pipeline):
        self._pipeline = pipeline
        self.count = 0

    def __getattr__(self, name):
        return getattr(self._pipeline, name)

    def step(self):
        self.count += 1
        self._pipeline.step()


def test_the_second_turn_of_a_chat_reads_only_what_is_new(openvino, monkeypatch):
    steps = Steps(openvino.pipeline)
    monkeypatch.setattr(openvino, "pipeline", steps)
    first = "6 [gMASK]<sop><|user|>\n" + "1 2 3 4 5 " * 160 + "<|assistant|>"
    second = first + "\nYes.<|user|>\nAnd 6?<|assistant|>"
    counts = []
    for prompt in (first, second):
        length = openvino.count_tokens((prompt,))
        assert 3 * 512 < length < 2040
        steps.count = 0
        list(openvino.generate(Request((prompt,), STOPS, SamplingParams(max_new_tokens=1))))
        counts.append(steps.count)
    assert counts[0] >= length / step_tokens("CPU") > counts[0] - 1
    assert counts[1] == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("question", "grammar", "saves"),
    [
        ("Who are you?", None, False),
        ("Say 61 62 63 64 65 66.", Regex(r"Say 61 62 63 64 65 66\. Say 61 62 63 64 65 66\."), True),
    ],
)
def test_prompt_lookup_says_the_same_in_fewer_steps(demo_folder, monkeypatch, question, grammar, saves):
    request = Request((QUESTION.replace("Who are you?", question),), STOPS, grammar=grammar)
    found = []
    for lookup in (0, 4):
        exact = Options(lookup=lookup, precision="f32", kv_precision="f32", activation_group=0)
        with closing(OpenVINO.load(demo_folder, "CPU", exact)) as engine:
            steps = Steps(engine.pipeline)
            monkeypatch.setattr(engine, "pipeline", steps)
            text, finish = read(engine.generate(request))
            found.append((text, finish.usage.completion_tokens, finish.reason))
            if lookup:
                assert steps.count < found[0][1] / (2 if saves else 1) + 1
    assert found[0] == found[1]


def test_context_is_filled_to_the_brim_and_not_past_it(openvino):
    room = 5
    filler = "[gMASK]<sop>" + "a" * 10
    words = 0
    while openvino.count_tokens((filler,)) < openvino.max_prompt_tokens - room:
        words += 1
        filler += " 1"
    _, finish = read(openvino.generate(Request((filler,), ())))
    assert finish.reason == "length"
    assert finish.usage.prompt_tokens + finish.usage.completion_tokens == openvino.max_prompt_tokens + 1


def test_devices_that_are_not_there_are_refused(demo_folder):
    with pytest.raises(DeviceError, match=r"no device GPU\.9"):
        choose("GPU.9")
    with pytest.raises(DeviceError, match="no device FPGA"):
        OpenVINO.load(demo_folder, "FPGA", Options())


def test_auto_says_why():
    choice = choose("auto")
    assert (choice.backend, choice.device) == (OpenVINO, "CPU")
    assert choice.reason


def test_bare_genai_opens_the_folder_and_says_the_same(openvino, demo_folder):
    import openvino_genai as genai

    config = genai.GenerationConfig(max_new_tokens=30, apply_chat_template=False)
    text = str(genai.LLMPipeline(str(demo_folder.path), "CPU").generate(QUESTION, config))
    assert text == read(openvino.generate(Request((QUESTION,), STOPS, SamplingParams(max_new_tokens=30))))[0]


def test_a_closed_backend_says_so(demo_folder):
    backend = OpenVINO.load(demo_folder, "CPU", Options())
    backend.close()
    with pytest.raises(BackendError, match="was closed"):
        list(backend.generate(Request((QUESTION,), STOPS)))


def test_engine_errors_are_ours(demo_folder, tmp_path):
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in demo_folder.path.iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    (broken / "openvino_model.xml").write_text("<net")
    with pytest.raises(BackendError, match="OpenVINO cannot load") as caught:
        OpenVINO.load(ModelFolder(broken, demo_folder.manifest), "CPU", Options())
    assert caught.value.__cause__ is not None
    assert "\n" not in str(caught.value)


DAMAGES = {
    "a tokenizer that is not JSON": ("tokenizer.json", b"{"),
    "a tokenizer of another kind": ("tokenizer.json", b'{"model": {"vocab": {"\\u0001": 0}}}'),
    "a graph that is not XML": ("openvino_model.xml", b"<"),
}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "content"), DAMAGES.values(), ids=DAMAGES.keys())
def test_an_error_crosses_a_process_as_itself(demo_folder, tmp_path, name, content):
    """Its class, text and hint are those of the engine in this process."""
    folder = tmp_path / "model"
    shutil.copytree(demo_folder.path, folder)
    (folder / name).write_bytes(content.ljust(demo_folder.manifest.files[name].size))
    found = []
    for in_process in (True, False):
        with pytest.raises(EdgeError) as caught:
            Model(folder, device="CPU", in_process=in_process, options=Options(verify=False))
        found.append((type(caught.value), str(caught.value), caught.value.hint))
    assert found[0] == found[1]
    assert found[0][2]
