"""Pictures and texts on the paged engine of a vision model."""

import random
import threading
import time
from collections import Counter
from contextlib import closing
from dataclasses import replace

import pytest

np = pytest.importorskip("numpy")
pytest.importorskip("PIL")

import edge  # noqa: E402
from edge.bench import benchmark  # noqa: E402
from edge.demo import CHECKPOINT  # noqa: E402
from edge.testing import Echo  # noqa: E402
from runtime.backends.backend import Delta, Options, Request  # noqa: E402
from runtime.backends.openvino.paged import pipeline as paged_pipeline  # noqa: E402
from runtime.backends.openvino.paged.batched import OpenVINO  # noqa: E402
from runtime.backends.openvino.process.backend import SubprocessBackend  # noqa: E402
from runtime.backends.openvino.single_request.npu import EMULATED, NPU  # noqa: E402
from runtime.backends.openvino.vision import picture_reader  # noqa: E402
from runtime.backends.openvino.vision.image_tower import ImageTower  # noqa: E402
from runtime.cancellation import Cancellation  # noqa: E402
from runtime.checkpoint.checkpoint import Checkpoint  # noqa: E402
from runtime.errors import BackendError, DeviceError, PromptTooLong, RequestError, UnsupportedSetting  # noqa: E402
from runtime.events import Finish, PictureProgress  # noqa: E402
from runtime.messages import Message  # noqa: E402
from runtime.pictures import Picture  # noqa: E402
from runtime.sampling import SamplingParams  # noqa: E402

from .conftest import converted  # noqa: E402
from .glm4v import write_vision_checkpoint  # noqa: E402
from .vision_folders import SIDE, TOKENS, vision_folder  # noqa: E402

EXACT = Options(precision="f32", kv_precision="f32", activation_group=0, threads=1)
A, B = (Picture.open(np.random.default_rng(seed).integers(0, 256, (40, 60, 3), dtype=np.uint8)) for seed in (1, 2))
LONG = "What is in this picture? Tell me all that you see, and where it is. " * 8
START, END = "[gMASK]<sop><|user|>\n", "<|assistant|>"
PROMPTS = {
    "a picture": (START, A, LONG, END),
    "another picture": (START, B, LONG, END),
    "text": (START, LONG, END),
    "a second turn": (START, A, LONG, f"{END}\nA boat.<|user|>\nWhat colour is it?{END}"),
}


@pytest.fixture(scope="module")
def text_folder(tmp_path_factory):
    return converted(tmp_path_factory, "bf16")


@pytest.fixture(scope="module")
def folder(text_folder, tmp_path_factory):
    return vision_folder(text_folder, tmp_path_factory.mktemp("vision") / "folder")


@pytest.fixture(scope="module")
def slow_folder(text_folder, tmp_path_factory):
    """A tower that takes a minute."""
    return vision_folder(text_folder, tmp_path_factory.mktemp("slow") / "folder", layers=400)


@pytest.fixture(scope="module")
def engine(folder):
    with closing(OpenVINO.load(folder, "CPU", EXACT)) as loaded:
        yield loaded


def request(prompt, tokens=8, **settings) -> Request:
    return Request(tuple(prompt), (), SamplingParams(max_new_tokens=tokens, temperature=0.0, logprobs=True, **settings))


def reply(engine, prompt, tokens=8, **settings):
    """The ids of a greedy reply, and the log-probability of the first."""
    found = [
        part.logprob for part in engine.generate(request(prompt, tokens, **settings)) if getattr(part, "logprob", 0)
    ]
    return [token.id for token in found], found[0].logprob


def test_a_picture_counts_its_tokens(engine):
    text = engine.count_tokens((START, LONG, END))
    assert engine.count_tokens((START, A, LONG, END)) == text + TOKENS + 2
    ids = [engine.encode((START, picture, LONG, END)) for picture in (A, B)]
    assert Counter(id < 0 for id in ids[0]) == {True: TOKENS + 2, False: text}
    assert not {id for id in ids[0] if id < 0} & set(ids[1])


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_embeddings_of_a_text_are_as_exact_as_its_ids(folder, text_folder, precision):
    """OpenVINO keeps RoPE's angles in f32 only where they come from integers."""
    options = replace(EXACT, precision=precision, kv_precision=precision)
    prompts = [(START, f"{count} " * count, END) for count in (3, 60, 500)]
    found = []
    for place in (folder, text_folder):
        with closing(OpenVINO.load(place, "CPU", options)) as loaded:
            found.append([reply(loaded, prompt) for prompt in prompts])
    assert found[0] == found[1]


def test_every_prompt_has_a_reply_of_its_own_and_the_same_again(folder, engine):
    alone = {}
    for name, prompt in PROMPTS.items():
        with closing(OpenVINO.load(folder, "CPU", EXACT)) as fresh:
            alone[name] = reply(fresh, prompt)
    assert len({first for _, first in alone.values()}) == len(PROMPTS)
    for name in (*PROMPTS, *reversed(PROMPTS)):
        ids, first = reply(engine, PROMPTS[name])
        assert ids == alone[name][0]
        assert abs(first - alone[name][1]) < 1e-4


def test_pictures_and_texts_in_one_batch_are_as_alone(engine):
    alone = [reply(engine, prompt)[0] for prompt in PROMPTS.values()]
    found: dict[int, list[int]] = {}

    def run(number, prompt):
        found[number] = reply(engine, prompt)[0]

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(PROMPTS.values())]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[number] for number in range(len(alone))] == alone


@pytest.mark.parametrize("options", [Options(threads=1), EXACT], ids=["u8", "f32"])
def test_the_second_turn_reads_its_new_tokens_alone(folder, monkeypatch, options):
    """Each step reads so few tokens that their number tells what was computed."""
    monkeypatch.setitem(paged_pipeline.CHUNK_TOKENS, "CPU", 32)
    size = paged_pipeline.step_tokens("CPU")
    with closing(OpenVINO.load(folder, "CPU", options)) as loaded:
        steps, pipeline = 0, loaded.pipeline

        class Steps:
            def __getattr__(self, name):
                return getattr(pipeline, name)

            def step(self):
                nonlocal steps
                steps += 1
                pipeline.step()

        monkeypatch.setattr(loaded, "pipeline", Steps())
        first = (START, A, LONG, END)
        said = list(loaded.generate(replace(request(first, 100), sampling=SamplingParams(max_new_tokens=100))))
        text = "".join(part.text for part in said if isinstance(part, Delta))
        generated = tuple(id for part in said if isinstance(part, Delta) for id in part.ids)
        known = loaded.count_tokens(first) + len(generated)
        again = replace(
            request(first, 1), generated=(*generated, *loaded.encode(("<|user|>\n" + "1 2 3 4 " * 80 + END,)))
        )
        new = loaded.count_tokens(first) + len(again.generated) - known
        steps = 0
        *_, finish = loaded.generate(again)
        assert text
        assert isinstance(finish, Finish)
        assert finish.usage.cached_tokens >= loaded.count_tokens(first) - 32
        prefilled = (steps - 2) * size  # one ends a block that was begun, one is not full
        assert prefilled <= 1.1 * new


def test_a_picture_is_read_once(folder, monkeypatch):
    runs = []
    run = ImageTower.run
    monkeypatch.setattr(ImageTower, "run", lambda tower, *settings: runs.append(1) or run(tower, *settings))
    with closing(OpenVINO.load(folder, "CPU", EXACT)) as loaded:
        same = Picture.open(A.pixels())
        first = [reply(loaded, (START, picture, "What?", END)) for picture in (A, same, A)]
        assert len(runs) == 1
        assert len({tuple(ids) for ids, _ in first}) == 1
        monkeypatch.setattr(picture_reader, "_KEPT", 0)
        reply(loaded, (START, B, "What?", END))
        reply(loaded, (START, A, "What?", END))
        assert len(runs) == 3  # nothing is kept


def test_the_tower_is_released_where_memory_is_short(folder, monkeypatch):
    with closing(OpenVINO.load(folder, "CPU", EXACT)) as loaded:
        monkeypatch.setattr(picture_reader, "free_memory", lambda: 0)
        wanted, _ = reply(loaded, PROMPTS["a picture"])
        reader = loaded._vision._reader
        while reader._running:
            time.sleep(0.01)
        assert reader._tower is None
        reply(loaded, PROMPTS["another picture"])
        assert reply(loaded, PROMPTS["a picture"])[0] == wanted
        monkeypatch.setattr("runtime.backends.openvino.vision.image_tower.free_memory", lambda: 0)
        other = Picture.open(A.pixels()[::-1])
        with pytest.raises(BackendError, match="reading a picture needs") as caught:
            reply(loaded, (START, other, "What?", END))
        assert caught.value.hint


@pytest.mark.slow
def test_random_cancels_leave_the_prefix_cache_as_it_was(folder):
    prompts = [*PROMPTS.values(), (START, B, LONG * 3, END)]
    wanted = []
    for prompt in prompts:
        with closing(OpenVINO.load(folder, "CPU", EXACT)) as fresh:
            wanted.append(reply(fresh, prompt))
    draw = random.Random(1)
    with closing(OpenVINO.load(folder, "CPU", EXACT)) as loaded:
        for _ in range(40):
            others = [begun(loaded, draw.choice(prompts), 200) for _ in range(draw.choice((0, 0, 1, 3)))]
            for _ in range(draw.randrange(6)):
                loaded.step()
            number = draw.randrange(len(prompts))
            cancelled = begun(loaded, prompts[number], 50)
            for _ in range(draw.randrange(5)):
                loaded.step()
            loaded.cancel(cancelled)
            ids, first = reply(loaded, prompts[number])
            assert ids == wanted[number][0]
            assert abs(first - wanted[number][1]) < 1e-4
            loaded.cancel(*others)


def begun(engine, prompt, tokens):
    """A request in the engine's batch."""
    waiting = request(prompt, tokens)
    ids = engine.encode(prompt)
    reading = engine.read_pictures(waiting, ids)
    if reading is None:
        return engine.begin(waiting, ids)
    with closing(reading):
        while not reading.wait(1):
            continue
        return engine.begin(waiting, ids, 0.0, reading.features())


REFUSED = {
    "repetition_penalty": 1.1,
    "frequency_penalty": 0.5,
    "top_logprobs": 3,
    "prompt_logprobs": True,
    "logit_bias": ((5, 1.0),),
}


@pytest.mark.parametrize("name", REFUSED)
def test_settings_that_need_the_prompt_s_ids_are_refused(engine, name):
    with pytest.raises(UnsupportedSetting, match=f"{name} is not supported with a vision model") as caught:
        reply(engine, PROMPTS["a picture"], **{name: REFUSED[name]})
    assert caught.value.setting == name


@pytest.mark.parametrize("options", [Options(lookup=4), Options(adapters=("lora",))])
def test_options_that_do_not_act_are_refused(folder, options):
    with pytest.raises(BackendError, match="cannot be used with"):
        OpenVINO.load(folder, "CPU", options)


def test_a_prompt_that_is_too_long_costs_no_picture(engine, monkeypatch):
    monkeypatch.setattr(ImageTower, "run", lambda *_: pytest.fail("the tower ran"))
    unread = Picture.open(A.pixels()[:, ::-1])
    with pytest.raises(PromptTooLong):
        reply(engine, (START, unread, "word " * 3000, END))


def test_a_chat_about_a_picture(folder):
    """In the engine's own process, under the default settings."""
    with edge.Chat(folder, device="CPU") as chat:
        events = list(chat.stream("What is in this picture?", pictures=[A], max_tokens=20))
        assert isinstance(chat.model.backend, SubprocessBackend)
        progress = [event for event in events if isinstance(event, PictureProgress)]
        assert progress
        assert (progress[0].number, progress[0].total) == (1, 1)
        assert edge.Reply.from_events(events).usage.prompt_tokens == chat.model.count_tokens(chat.history[:1])
        second = list(chat.stream("And now?", max_tokens=20))
        assert not any(isinstance(event, PictureProgress) for event in second)
        assert chat.send("Is it a boat?", answer=["yes", "no"], max_tokens=20).text in ("yes", "no")
        with pytest.raises(UnsupportedSetting, match="repetition_penalty"):
            chat.send("Again?", repetition_penalty=1.2)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [OpenVINO, SubprocessBackend])
def test_reading_a_picture_can_be_cancelled_and_hinders_nobody(slow_folder, kind):
    with closing(kind.load(slow_folder, "CPU", Options(threads=1))) as loaded:
        cancellation = Cancellation()
        waiting = replace(request((START, A, "What?", END)), cancellation=cancellation)
        parts = loaded.generate(waiting)
        first = next(part for part in parts if getattr(part, "progress", None))
        assert first.progress.number == 1
        assert reply(loaded, PROMPTS["text"])[0]  # while the tower runs
        cancellation.cancel()
        assert [part.reason for part in parts if isinstance(part, Finish)] == ["cancelled"]
        begun = loaded.generate(request((START, A, "What?", END)))
        assert next(part for part in begun if getattr(part, "progress", None))
        begun.close()
        assert reply(loaded, PROMPTS["text"])[0]


def test_a_cancelled_picture_is_read_again_for_another_request(engine, monkeypatch):
    """The second request comes when the tower has been told to stop."""
    picture = Picture.open(B.pixels()[::-1])
    run, began, stopping, asked = ImageTower.run, threading.Event(), threading.Event(), threading.Event()

    def stopped(tower, pixels, cancelled):
        if stopping.is_set():
            return run(tower, pixels, cancelled)
        began.set()
        while not cancelled():
            time.sleep(0.01)
        stopping.set()
        asked.wait(30)
        return None

    monkeypatch.setattr(ImageTower, "run", stopped)
    reader = engine._vision._reader
    first = reader.read([picture])
    assert began.wait(30)
    first.close()
    assert stopping.wait(30)
    with closing(reader.read([picture])) as second:
        asked.set()
        while not second.wait(0.05):
            continue
        assert [len(features) for features in second.features()] == [TOKENS + 2]


def test_other_engines_name_the_cure(folder):
    with pytest.raises(DeviceError, match="vision models are not supported on an NPU") as caught:
        NPU.load(folder, EMULATED, Options())
    assert caught.value.hint
    text = edge.Model(folder, backend=TextEcho())
    with pytest.raises(RequestError, match="on this device reads no pictures") as refused:
        edge.Chat(text).send("What is this?", pictures=[A])
    assert refused.value.hint


class TextEcho(Echo):
    reads_pictures = False


def test_pytorch_names_the_cure():
    pytest.importorskip("torch")
    engine = pytest.importorskip("runtime.backends.torch.engine")
    checkpoint = Checkpoint.open(CHECKPOINT)
    vision = replace(checkpoint, config={**checkpoint.config, "vision_config": {}})
    with pytest.raises(BackendError, match="not supported on PyTorch") as caught:
        engine.Torch.load(vision, "torch:cpu", Options())
    assert "edge convert" in caught.value.hint


@pytest.mark.slow
def test_the_numbers_of_the_published_code(reference, tmp_path):
    """A random checkpoint of GLM-4V in its published format."""
    checkpoint = reference / "glm-4v-tiny-random"
    folder = edge.convert(checkpoint, tmp_path / "model", recipe="bf16")
    wanted, picture = np.load(checkpoint / "expected.npz"), Picture.open(checkpoint / "picture.png")
    with edge.Model(folder, device="CPU", options=EXACT, in_process=True) as model:
        message = Message("user", "What is in this picture?", pictures=(picture,))
        assert model.count_tokens(message) == len(wanted["logits"])
        prompt = model.prompt(message)
        with closing(model.backend._vision._reader.read([picture])) as reading:
            while not reading.wait(1):
                continue
            assert np.abs(reading.features()[0] - wanted["features"][0]).max() < 1e-4
        ids, first = reply(model.backend, prompt, len(wanted["greedy_ids"]))
        assert ids == wanted["greedy_ids"].tolist()
        logits = wanted["logits"][-1].astype(np.float64)
        assert abs(first - (logits.max() - np.log(np.exp(logits).sum()))) < 1e-3


@pytest.mark.slow
def test_a_converted_checkpoint_chats_about_a_picture(tmp_path):
    """In int4, with the tower in int8."""
    tiny = write_vision_checkpoint(tmp_path / "checkpoint")
    folder = edge.convert(tiny, tmp_path / "model", recipe="int4")
    with edge.Chat(folder, device="CPU") as chat:
        replies = [chat.send("What is this?", pictures=[A], max_tokens=8, temperature=0.0, seed=1)]
        replies.append(chat.send("And now?", max_tokens=8))
        assert all(reply.usage.completion_tokens for reply in replies)
        chat.reset()
        assert chat.send("What is this?", max_tokens=8).usage.completion_tokens


def test_the_folder_s_own_facts(folder):
    assert folder.manifest.vision.image_size == SIDE
    assert edge.ModelFolder.open(folder.path).manifest == folder.manifest
    assert Message("user", "", pictures=(A,)).pictures == (A,)


def test_a_benchmark_of_pictures(folder, text_folder):
    """Each run reads a picture that the engine does not know."""
    read = benchmark(folder, prompt_tokens=16, new_tokens=4, runs=2, picture=A)
    assert read.picture is not None
    assert read.picture.low <= read.picture.median <= read.picture.high < read.ttft.high
    assert read.prompt_tokens > TOKENS
    with pytest.raises(RequestError, match="reads no pictures"):
        benchmark(text_folder, prompt_tokens=16, new_tokens=4, picture=A)
