"""A chat with pictures on the paged engine, in GLM-4.1V's shape: tokens are transformers', alone and in a batch."""

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

np = pytest.importorskip("numpy")
pytest.importorskip("PIL")
pytest.importorskip("torch")
pytest.importorskip("transformers")

import edge  # noqa: E402
from convert.pipeline import convert  # noqa: E402
from runtime.backends.backend import Options, Request  # noqa: E402
from runtime.backends.openvino.paged.batched import OpenVINO  # noqa: E402
from runtime.chat_templates import DEFAULT, ChatTemplates  # noqa: E402
from runtime.messages import Message  # noqa: E402
from runtime.picture_size import PictureSize  # noqa: E402
from runtime.pictures import Picture  # noqa: E402
from runtime.prompt.detection import adapt_family, detect_family  # noqa: E402
from runtime.prompt.template import ChatTemplate  # noqa: E402
from runtime.sampling import SamplingParams  # noqa: E402

from . import glm4_1v  # noqa: E402
from .references import VISION  # noqa: E402

pytestmark = pytest.mark.slow
EXACT = Options(precision="f32", kv_precision="f32", activation_group=0, threads=1)
IMAGE, VOCAB, TOKENS = 2479, 2480, 20
A, B = (Picture.open(glm4_1v.random_picture(*size, seed)) for size, seed in (((140, 84), 1), ((50, 333), 2)))
FIRST = [Message("system", "Be brief."), Message("user", "What is this? And this?", pictures=(A, B))]
SECOND = [*FIRST, Message("assistant", "A boat."), Message("user", "Compare with ", pictures=(A,))]
TEXT = [Message("user", "Who are you?")]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A checkpoint's folder, and transformers' model of it."""
    folder = tmp_path_factory.mktemp("glm4_1v")
    return folder, glm4_1v.write(folder, vocab=VOCAB, image=IMAGE)


@pytest.fixture(scope="module")
def reference(checkpoint):
    return checkpoint[1]


@pytest.fixture(scope="module")
def engine(checkpoint, tmp_path_factory):
    *_, last = convert(checkpoint[0], tmp_path_factory.mktemp("converted") / "folder", "bf16")
    with closing(OpenVINO.load(last.result, "CPU", EXACT)) as loaded:
        yield loaded


@pytest.mark.parametrize("recipe", ["int8", "int4"])
def test_conversion(checkpoint, recipe, tmp_path):
    """The tower is int8 in both, and verified; the manifest has what the engine needs."""
    *_, last = convert(checkpoint[0], tmp_path / "folder", recipe)
    folder = last.result
    vision = folder.manifest.vision
    assert (folder.manifest.family, vision.tower, vision.shifts) == ("glm4_1v", "glm4_1v", 3)
    assert vision.picture_size == PictureSize(28, 2, 112 * 112, 28 * 28 * 15000)
    assert 0 < vision.nbytes <= (folder.path / "openvino_image_model.bin").stat().st_size
    with edge.Chat(folder) as chat:
        assert chat.send("What is this?", pictures=[A], max_new_tokens=5).usage.completion_tokens in range(1, 6)


def render(messages):
    templates = ChatTemplates({DEFAULT: VISION["own 4.1v"].source})
    family = adapt_family(detect_family({"model_type": "glm4v", "vision_config": {}}, templates), templates)
    return ChatTemplate(templates, family, ("<|user|>",)).render(messages)


def reply(engine, messages):
    sampling = SamplingParams(max_new_tokens=TOKENS, temperature=0.0, logprobs=True)
    found = engine.generate(Request(render(messages), (), sampling))
    return [part.logprob.id for part in found if getattr(part, "logprob", None)]


def expected(model, engine, messages):
    """transformers' greedy tokens, from pictures that its own processor resizes."""
    import torch

    prompt = render(messages)
    pictures = [piece for piece in prompt if isinstance(piece, Picture)]
    ids = torch.tensor([[id if id >= 0 else IMAGE for id in engine.encode(prompt)]])
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if pictures:
        pixels = glm4_1v.image_processor()(images=[picture.pixels() for picture in pictures], return_tensors="pt")
        inputs |= {"mm_token_type_ids": (ids == IMAGE).int(), **pixels}
    settings = {"do_sample": False, "max_new_tokens": TOKENS, "min_new_tokens": TOKENS}
    return model.generate(**inputs, **settings)[0, ids.shape[1] :].tolist()


@pytest.mark.parametrize("messages", [TEXT, FIRST, SECOND], ids=["text", "two pictures", "a later turn"])
def test_greedy_tokens(reference, engine, messages):
    wanted = expected(reference, engine, messages)
    assert reply(engine, messages) == wanted
    assert reply(engine, messages) == wanted  # from the prefix cache


def test_a_batch(engine):
    chats = [TEXT, FIRST, SECOND, TEXT]
    alone = [reply(engine, chat) for chat in chats]
    with ThreadPoolExecutor(len(chats)) as pool:
        assert list(pool.map(lambda chat: reply(engine, chat), chats)) == alone


def test_histories_at_other_positions(reference, engine):
    """The prefix cache tells a history from the same one at other positions, where its picture is somewhat larger."""
    story = "Tell me a story about a boat and a ferry in the harbour. " * 6
    for size in ((112, 112), (112, 140), (112, 112), (140, 140)):
        chat = [Message("user", story), Message("user", "And this?", pictures=(glm4_1v_picture(size),))]
        assert reply(engine, chat) == expected(reference, engine, chat)


def glm4_1v_picture(size):
    return Picture.open(glm4_1v.random_picture(*size))


def test_a_call_of_a_model_that_calls_in_tags(tmp_path):
    """GLM-4.6V's family, converted: a required call beside a picture has valid arguments, however weak the model is."""
    glm4_1v.write(tmp_path / "checkpoint", "glm4_6v", vocab=VOCAB, image=IMAGE, depth=1)
    *_, last = convert(tmp_path / "checkpoint", tmp_path / "folder", "int8")
    assert last.result.manifest.family == "glm4_6v"
    schema = {"type": "object", "properties": {"zoom": {"enum": [1, 2]}, "name": {"enum": ["a", "b"]}}}
    tool = {"name": "snap", "description": "", "parameters": schema | {"required": ["zoom", "name"]}}
    constraint = edge.Constraint.for_tools([tool], "required", strict=True)
    messages = [Message("user", "Look: ", pictures=(A,))]
    with edge.Model(last.result) as model:
        family = model.family
        assert (family.name, family.tools, family.system) == ("glm4_6v", True, True)
        events = model.reply(messages, [tool], edge.Sampling(max_new_tokens=400), constraint)
        found = edge.Reply.from_events(events)
    arguments = json.loads(found.tool_calls[0].arguments)
    assert found.tool_calls[0].complete
    assert arguments["zoom"] in (1, 2)
    assert arguments["name"] in ("a", "b")
