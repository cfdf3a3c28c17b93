"""GLM-4.1V's and GLM-4.6V's families: detected by their templates, prompts with pictures, replies with marks."""

import pytest

np = pytest.importorskip("numpy")
pytest.importorskip("PIL")

from runtime.chat_templates import DEFAULT, ChatTemplates  # noqa: E402
from runtime.errors import ModelFolderError, RequestError  # noqa: E402
from runtime.events import Reasoning, Text, ToolCall  # noqa: E402
from runtime.folder.manifest import VisionRecord  # noqa: E402
from runtime.messages import Message  # noqa: E402
from runtime.picture_size import PictureSize  # noqa: E402
from runtime.pictures import Picture  # noqa: E402
from runtime.prompt.detection import adapt_family, detect_family  # noqa: E402
from runtime.prompt.picture_tokens import picture_tokens  # noqa: E402
from runtime.prompt.template import ChatTemplate  # noqa: E402
from runtime.reply.calls.syntaxes import create_syntaxes  # noqa: E402
from runtime.reply.reply_parser import ReplyParser  # noqa: E402

from .references import VISION  # noqa: E402

A, B = (Picture.open(np.full((60, 90, 3), shade, np.uint8)) for shade in (0, 9))
TOOL = {"name": "snap", "description": "Takes a photo", "parameters": {"type": "object", "properties": {}}}
CONFIG = {"model_type": "glm4v", "vision_config": {}}
BEGIN, END = "<|begin_of_image|>", "<|end_of_image|>"


def family_of(name):
    templates = ChatTemplates({DEFAULT: VISION[name].source})
    return adapt_family(detect_family(CONFIG, templates), templates)


def render(name, messages, tools=()):
    special = ("<|user|>", "<|assistant|>", "<|image|>", BEGIN, END)
    return ChatTemplate(VISION[name].source, family_of(name), special).render(messages, tools)


def texts(prompt):
    return "".join("[picture]" if isinstance(piece, Picture) else piece for piece in prompt)


@pytest.mark.parametrize("name", VISION)
def test_detection(name):
    family = family_of(name)
    assert family.name == VISION[name].family
    assert family.system
    assert family.tools == (name == "own 4.6v")
    assert family.reasoning.open == "<think>"


@pytest.mark.parametrize("name", VISION)
def test_pictures_in_any_turn(name):
    messages = [
        Message("system", "Be brief."),
        Message("user", "Compare <|image|>: ", pictures=(A, B), picture_places=(0, 8)),
        Message("assistant", "Alike."),
        Message("user", "And this?", pictures=(A,), picture_places=(9,)),
    ]
    prompt = render(name, messages)
    assert [piece for piece in prompt if isinstance(piece, Picture)] == [A, B, A]
    found = texts(prompt)
    assert found.count(f"{BEGIN}[picture]{END}") == 3
    assert f"Compare {BEGIN}[picture]{END}<|image|>: " in found.replace(f"{END}\n", END).replace(f"\n{BEGIN}", BEGIN)
    assert found.startswith("[gMASK]<sop><|system|>\nBe brief.<|user|>\n")
    assert found.endswith("<|assistant|>\n")


def test_calls_and_pictures_in_results():
    call = ToolCall("snap", '{"zoom": 2, "name": "a"}', "1")
    messages = [
        Message("user", "Look."),
        Message("assistant", "", "I should.", tool_calls=(call,)),
        Message("tool", "Done: ", tool_call_id="1", pictures=(A,), picture_places=(6,)),
    ]
    found = texts(render("own 4.6v", messages, [TOOL]))
    assert found.endswith(
        "<|user|>\nLook.<|assistant|>\n<think>I should.</think>\n<tool_call>snap\n"
        "<arg_key>zoom</arg_key>\n<arg_value>2</arg_value>\n<arg_key>name</arg_key>\n<arg_value>a</arg_value>\n"
        f"</tool_call><|observation|>\n<tool_response>\nDone: {BEGIN}[picture]{END}\n</tool_response><|assistant|>\n"
    )


def test_limits():
    chat = [Message("user", "?"), Message("assistant", "!", pictures=(A,), picture_places=(0,))]
    for name in VISION:
        family = family_of(name)
        with pytest.raises(RequestError, match="role assistant"):
            family.pictures.require_supported(name, chat, ())
    with pytest.raises(RequestError, match="supports no tools"):
        family_of("own 4.1v").pictures.require_supported("GLM-4.1V", chat[:1], [TOOL])


REPLIES = {
    "thought and answer": ("<think>Hm.</think><answer>Yes.</answer>", "Hm.", "Yes."),
    "on lines": ("<think>\nHm.\n</think>\n<answer>\nYes.\nNo.</answer>", "Hm.\n", "Yes.\nNo."),
    "ended by its stop token": ("<think>Hm.</think>\n<answer>Yes.", "Hm.", "Yes."),
    "without marks": ("<think>Hm.</think>\nYes.", "Hm.", "Yes."),
    "other tags": ("<think>Hm.</think><answers> </ans> <", "Hm.", "<answers> </ans> <"),
    "a box": ("<think>Hm.</think><answer><|begin_of_box|>4<|end_of_box|></answer>", "Hm.", None),
    "nothing but a thought": ("<think>Hm.</think><answer></answer>", "Hm.", ""),
}


@pytest.mark.parametrize("reply", REPLIES)
def test_marks_of_answers(reply):
    reply, reasoning, answer = REPLIES[reply]
    answer = "<|begin_of_box|>4<|end_of_box|>" if answer is None else answer
    for cut in range(len(reply) + 1):
        for chunks in ([reply[:cut], reply[cut:]], [*reply[:cut], reply[cut:]]):
            parser = ReplyParser((), "<|assistant|>", family_of("own 4.1v").reasoning)
            events = [event for chunk in chunks for event, _ in parser.feed(chunk)]
            events += [event for event, _ in parser.finish()]
            assert "".join(e.text for e in events if isinstance(e, Reasoning)) == reasoning
            assert "".join(e.text for e in events if isinstance(e, Text)) == answer, chunks


def test_calls_of_the_family():
    family = family_of("own 4.6v")
    parser = ReplyParser(create_syntaxes(family, [TOOL]), family.call_start, family.reasoning)
    events = [event for event, _ in parser.feed("<think>So.</think>\nOne moment.\n<tool_call>snap\n</tool_call>")]
    events += [event for event, _ in parser.finish()]
    assert [(e.name, e.arguments) for e in events if isinstance(e, ToolCall)] == [("snap", "{}")]
    assert "".join(e.text for e in events if isinstance(e, Text)) == "One moment.\n"


def test_picture_tokens():
    tokens = picture_tokens(
        VisionRecord("glm4_1v", shifts=3, picture_size=PictureSize(28, 2, 112 * 112, 28 * 28 * 15000))
    )
    assert tokens.size(A) == (84, 112)  # grown to the least size
    assert tokens.count(A) == 12
    numbers = tokens.shifts([3, A, 2])
    assert numbers.shape == (17, tokens.numbers)
    assert numbers[:3, 0].tolist() == [8.0] * 3  # twelve tokens take four positions
    assert not numbers[-2:].any()
    for size in (None, PictureSize(0, 2, 1, 2), PictureSize(28, 2, 5, 2)):
        with pytest.raises(ModelFolderError, match="sizes of pictures"):
            picture_tokens(VisionRecord("glm4_1v", shifts=3, picture_size=size))
