"""The NPU's pipeline by emulation, held against the CPU's on the same folder."""

import random
import shutil
import time
from contextlib import closing
from dataclasses import replace
from threading import Thread

import pytest

from edge.demo.training.dialogues import LONG, make_dialogue
from edge.demo.training.prompt import render
from runtime.backends.backend import Options, Request
from runtime.backends.openvino.paged.batched import OpenVINO
from runtime.backends.openvino.single_request.npu import EMULATED, NPU, lengths
from runtime.chat import Chat
from runtime.errors import DeviceError, PromptTooLong
from runtime.events import Finish, Text
from runtime.folder.model_folder import ModelFolder
from runtime.model import Model
from runtime.sampling import Sampling, SamplingParams

STOPS = ("<|endoftext|>", "<|user|>", "<|observation|>")
GREEDY = SamplingParams(max_new_tokens=60)
CHAT = Sampling(max_new_tokens=60)
EXACT = Options(kv_precision="f16", precision="f32", context=2048, reply_tokens=256)


def disk_free(path: str) -> str:
    """Free disk space of a path, in GB."""
    return "12.5 GB"


def weather(city: str, days: int = 1) -> dict[str, int]:
    """The weather in a city."""
    return {"degrees": 20 + days + len(city)}


@pytest.fixture(scope="module")
def npu(npu_folder):
    loaded = NPU.load(npu_folder, EMULATED, EXACT)
    yield loaded
    loaded.close()


@pytest.fixture(scope="module")
def pair(npu_folder, npu):
    """The same folder on the emulated NPU and on the CPU, both in f32."""
    cpu = OpenVINO.load(npu_folder, "CPU", EXACT)
    yield Model(npu_folder, backend=npu), Model(npu_folder, backend=cpu)
    cpu.close()


TURNS = [
    "Who are you?",
    "How much disk is free on /home?",
    "洗手间在哪里？",
    "What is the weather in Rome?",
    "And in Oslo, for 3 days?",
    "Thank you. How much disk is free on /?",
    "What is 6 times 7?",
    "Goodbye",
]


def called(reply):
    return [(call.name, call.arguments, call.complete) for call in reply.tool_calls]


@pytest.mark.slow
@pytest.mark.parametrize("strict", [False, True])
def test_a_chat_of_many_turns_with_tools_says_what_the_cpu_says(pair, strict):
    chats = [Chat(model, tools=[disk_free, weather], strict=strict, sampling=CHAT, max_rounds=3) for model in pair]
    for turn in TURNS:
        ours, cpus = (chat.send(turn) for chat in chats)
        assert (ours.text, called(ours), ours.finish_reason) == (cpus.text, called(cpus), cpus.finish_reason)
        assert ours.usage.prompt_tokens == cpus.usage.prompt_tokens
        assert ours.usage.completion_tokens == cpus.usage.completion_tokens
    assert [(said.role, said.content) for said in chats[0].history] == [
        (said.role, said.content) for said in chats[1].history
    ]


@pytest.mark.slow
def test_a_required_call_is_held_to_its_grammar(pair):
    replies = [Chat(model, tools=[weather], sampling=CHAT, max_rounds=1) for model in pair]
    ours, cpus = (chat.send("What is the weather in Rome?", tool_choice="required") for chat in replies)
    assert called(ours) == called(cpus)
    assert ours.tool_calls[0].name == "weather"


@pytest.mark.slow
def test_prompts_of_one_chunk_and_more_say_what_the_cpu_says(pair):
    """A chunk has 1,024 tokens. The dialogues are of a kind that the model has learned: where it only guesses, two
    tokens are as good as one another, and the emulation's rounding decides."""
    npu, cpu = (model.backend for model in pair)
    rng, counts = random.Random(3), []
    while len(counts) < 6:
        prompt = (render(make_dialogue(rng, held_out_split=False, size=LONG)),)
        count = npu.count_tokens(prompt)
        if count > npu.max_prompt_tokens or (len(counts) > 2 and count < 1024):
            continue
        counts.append(count)
        texts = [
            "".join(p.text for p in engine.generate(Request(prompt, STOPS, GREEDY)) if not isinstance(p, Finish))
            for engine in (npu, cpu)
        ]
        assert texts[0] == texts[1]
    assert max(counts) > 1024


@pytest.mark.slow
def test_lengths_are_chosen_at_load_and_kept(npu):
    assert npu.max_prompt_tokens == 2048 - 256
    words = "1 " * 2000
    with pytest.raises(PromptTooLong, match=r"at most 1,792 fit"):
        list(npu.generate(Request((words,), STOPS)))
    while npu.count_tokens((words,)) > npu.max_prompt_tokens:
        words = words[:-2]
    *_, finish = npu.generate(Request((words,), ()))  # nothing stops it but the room
    assert finish.reason == "length"
    assert finish.usage.prompt_tokens + finish.usage.completion_tokens == 2048


@pytest.mark.parametrize(
    ("options", "context", "wanted"),
    [
        (Options(), 32768, (3072, 1024)),
        (Options(), 2048, (1536, 512)),
        (Options(context=8192), 32768, (7168, 1024)),
        (Options(context=1024, reply_tokens=100), 32768, (924, 100)),
    ],
)
def test_lengths(options, context, wanted):
    assert lengths(options, context) == wanted


def test_a_reply_without_room_for_a_prompt_is_refused():
    with pytest.raises(DeviceError, match="leaves no room for a prompt"):
        lengths(Options(context=512, reply_tokens=512), 32768)


@pytest.mark.slow
def test_one_request_at_a_time_and_the_others_wait(npu):
    prompts = [f"[gMASK]<sop><|user|>\nWhat is {i} times 7?<|assistant|>" for i in range(3)]

    def say(prompt):
        return [p.text for p in npu.generate(Request((prompt,), STOPS, GREEDY)) if not isinstance(p, Finish)]

    alone = [say(prompt) for prompt in prompts]
    together = {}
    threads = [Thread(target=lambda i=i: together.__setitem__(i, say(prompts[i]))) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [together[i] for i in range(3)] == alone


def test_a_reply_that_nobody_reads_on_does_not_block_the_next(npu):
    open_reply = npu.generate(Request(("1 2 3",), (), GREEDY))
    next(open_reply)
    *_, finish = npu.generate(Request(("4 5 6",), (), GREEDY))
    assert finish.usage.completion_tokens == 60
    open_reply.close()


def test_closing_stops_the_engine(npu):
    request = Request(("1 2 3",), (), SamplingParams(max_new_tokens=1500))
    with closing(npu.generate(request)) as parts:
        next(parts)
    start = time.process_time()
    next(npu.generate(replace(request, sampling=SamplingParams(max_new_tokens=1))))
    assert time.process_time() - start < 5


def test_the_second_turn_reads_only_what_is_new(npu):
    """With the prefix cache, a prompt seen before costs a fraction; by CPU seconds, the second of two."""
    prompt = "[gMASK]<sop><|user|>\n" + "9 8 7 6 " * 210 + "<|assistant|>"
    seconds = []
    for _ in range(2):
        start = time.process_time()
        list(npu.generate(Request((prompt,), STOPS, SamplingParams(max_new_tokens=1))))
        seconds.append(time.process_time() - start)
    assert seconds[1] < seconds[0]


def test_a_cache_in_another_precision_is_refused(npu_folder):
    with pytest.raises(DeviceError, match="f16, not u8"):
        NPU.load(npu_folder, EMULATED, Options(kv_precision="u8"))


def test_a_folder_that_is_not_fit_is_refused(npu_folder, tmp_path):
    folder = tmp_path / "int8"
    shutil.copytree(npu_folder.path, folder)
    ir = folder / "openvino_model.xml"
    ir.write_text(ir.read_text().replace('element_type="i4"', 'element_type="i8"'))
    with pytest.raises(DeviceError, match="is not suitable for an NPU: 0 of the decoder's") as caught:
        NPU.load(ModelFolder(folder, npu_folder.manifest), EMULATED, Options())
    assert "int4-npu" in caught.value.hint


@pytest.mark.slow
def test_a_model_on_the_emulation_by_name(npu_folder):
    with Chat(npu_folder, device="NPUW:CPU", options=EXACT, sampling=CHAT) as chat:
        assert chat.model.choice is not None
        assert "emulated" in chat.model.choice.reason
        events = list(chat.stream("Who are you?"))
        assert any(isinstance(event, Text) for event in events)
