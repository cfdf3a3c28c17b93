"""Messages with pictures, and the prompts that chat templates make of them."""

import asyncio
import json
from dataclasses import replace

import pytest

np = pytest.importorskip("numpy")
pytest.importorskip("PIL")

import edge  # noqa: E402
from edge.testing import Echo  # noqa: E402
from runtime.chat_templates import DEFAULT, ChatTemplates  # noqa: E402
from runtime.errors import CheckpointError, RequestError, TemplateError  # noqa: E402
from runtime.events import ToolCall  # noqa: E402
from runtime.folder.manifest import CheckpointRecord, Manifest  # noqa: E402
from runtime.folder.model_folder import ModelFolder, write_manifest  # noqa: E402
from runtime.messages import Message, with_pictures  # noqa: E402
from runtime.pictures import Picture  # noqa: E402
from runtime.prompt.detection import adapt_family, detect_family  # noqa: E402
from runtime.prompt.families import BASE  # noqa: E402
from runtime.prompt.families.glm4v import GLM4V  # noqa: E402
from runtime.prompt.families.layout import MessageLayout  # noqa: E402
from runtime.prompt.families.picture_format import PictureFormat  # noqa: E402
from runtime.prompt.template import ChatTemplate  # noqa: E402

SPECIAL = ("<|user|>", "<|assistant|>", "<|begin_of_image|>", "<|image|>", "<|end_of_image|>", "[gMASK]", "<sop>")
A, B = (Picture.open(np.full((2, 3, 3), shade, np.uint8)) for shade in (0, 9))
# Of the kind that GLM-4.1V has.
IN_PARTS = """[gMASK]<sop>{% for m in messages %}<|{{ m.role }}|>
{% if m.content is string %}{{ m.content }}{% else %}{% for part in m.content %}{% if part.type == 'image' %}\
<|begin_of_image|><|image|><|end_of_image|>{% else %}{{ part.text }}{% endif %}{% endfor %}{% endif %}{% endfor %}\
{% if add_generation_prompt %}<|assistant|>{% endif %}"""
MANY = replace(
    GLM4V,
    name="many",
    layout=MessageLayout(),
    tools=True,
    system=True,
    template=IN_PARTS,
    pictures=PictureFormat(placeholder="<|image|>", roles=("user", "tool")),
)


@pytest.fixture
def folder(tmp_path) -> ModelFolder:
    """A sealed folder of GLM-4V's family, without weights."""
    (tmp_path / "chat_template.jinja").write_text(GLM4V.template)
    special = {token: 100 + number for number, token in enumerate(SPECIAL)}
    source = CheckpointRecord("glm-4v-tiny", "ChatGLMModel", "0" * 64)
    return write_manifest(tmp_path, Manifest("glm4v", "int4", source, 4096, 1024, special))


def data_url_part(picture: Picture) -> dict:
    return {"type": "image_url", "image_url": {"url": picture.to_url()}}


def text_part(text: str) -> dict:
    return {"type": "text", "text": text}


def test_pictures_stand_before_the_text_or_in_their_places():
    message = Message("user", "What is this?", pictures=(A,))
    assert message.parts == (A, "What is this?")
    assert Message("user", "ab", pictures=(A, B), picture_places=(1, 2)).parts == ("a", A, "b", B)
    assert with_pictures("What is this?", [A]) == (message,)
    assert with_pictures("What is this?", [A.data])[0].pictures == (A,)
    assert hash(message) == hash(replace(message))


@pytest.mark.parametrize(
    ("parts", "wanted"),
    [
        ([data_url_part(A), text_part("What?")], Message("user", "What?", pictures=(A,))),
        (
            [text_part("\ud83d\ude00 and "), data_url_part(A), data_url_part(B), text_part("?")],
            Message("user", "😀 and ?", pictures=(A, B), picture_places=(6, 6)),
        ),
        ([{"type": "image_url", "image_url": A.to_url()}], Message("user", "", pictures=(A,))),
    ],
)
def test_openai_s_parts_become_pictures_and_back(parts, wanted):
    found = Message.from_json({"role": "user", "content": parts})
    assert found == wanted
    assert Message.from_json(json.loads(json.dumps(found.to_json()))) == wanted


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"type": "image_url"}, "no URL"),
        ({"type": "image_url", "image_url": {"url": "http://localhost/a.png"}}, "not fetched"),
        ({"type": "image_url", "image_url": {"url": "/etc/passwd"}}, "URL is '/etc/passwd'"),
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}, "none of the supported formats"),
        ({"type": "video_url", "video_url": {"url": "data:"}}, "type 'video_url'"),
    ],
)
def test_other_parts_are_refused(part, message):
    with pytest.raises(RequestError, match=message) as caught:
        Message.from_json({"role": "user", "content": [part]})
    assert caught.value.hint


@pytest.mark.parametrize("places", [(0,), (1, 0), (0, 5), (0, -1), (0, 1, 2)])
def test_places_fit_the_pictures(places):
    with pytest.raises(RequestError):
        Message("user", "abcd", pictures=(A, B), picture_places=places)


def test_pictures_go_with_a_text():
    with pytest.raises(RequestError, match="not text") as caught:
        with_pictures([{"role": "user", "content": "Hi"}], [A])
    assert "pictures=" in caught.value.hint


def render(family, messages, **settings):
    return ChatTemplate(family.template, family, SPECIAL).render(messages, **settings)


def test_glm4v_s_prompt():
    chat = [Message("user", "What is <|begin_of_image|>?", pictures=(A,)), Message("assistant", "A boat.")]
    assert render(GLM4V, [*chat, Message("user", "Where?")]) == (
        "[gMASK]<sop><|user|>\n",
        A,
        "What is <",
        "|begin_of_image|>?<|assistant|>\nA boat.<|user|>\nWhere?<|assistant|>",
    )
    assert render(GLM4V, [Message("user", "Hi")]) == ("[gMASK]<sop><|user|>\nHi<|assistant|>",)


def test_pictures_of_any_turn_in_parts_and_in_tools_results():
    chat = [
        Message("system", "Be brief."),
        Message("user", "a, b <|image|>", pictures=(A, B), picture_places=(1, 4)),
        Message("assistant", "", tool_calls=(ToolCall("look", "{}", "1"), ToolCall("look", "{}", "2"))),
        Message("tool", "second", tool_call_id="2", pictures=(A,)),
        Message("tool", "first", tool_call_id="1", pictures=(B,)),  # the layout puts it first
    ]
    begin, end = "<|begin_of_image|>", "<|end_of_image|>"
    text = [piece for piece in render(MANY, chat) if isinstance(piece, str)]
    assert [piece for piece in render(MANY, chat) if isinstance(piece, Picture)] == [A, B, B, A]
    assert text[0] == f"[gMASK]<sop><|system|>\nBe brief.<|user|>\na{begin}"
    assert text[1:4] == [
        f"{end}, b{begin}",
        f"{end} <",
        "|image|><|assistant|>\n{}<|assistant|>\n{}<|observation|>\n" + begin,
    ]
    assert text[-1] == f"{end}second<|assistant|>"


def test_a_template_that_leaves_out_a_picture_is_named():
    with pytest.raises(TemplateError, match="shows 0 of 1 pictures"):
        render(
            replace(MANY, template=GLM4V.template.replace("message['content']", "''")),
            [Message("user", "", pictures=(A,))],
        )


LOOK = {"name": "look", "parameters": {"type": "object", "properties": {}}}
REFUSED = {
    "two pictures": ({"pictures": [A, B]}, "supports one picture in a chat, and this one has 2"),
    "a system message": ({"system": "Be kind."}, "supports no system message"),
    "tools": ({"tools": [LOOK]}, "supports no tools"),
}


@pytest.mark.parametrize(("settings", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_glm4v_was_not_trained_for_is_refused(folder, settings, message):
    chat = edge.Chat(edge.Model(folder, backend=Echo()), system=settings.pop("system", ""))
    with pytest.raises(RequestError, match=f"glm-4v-tiny {message}") as caught:
        chat.send("What is this?", **{"pictures": [A]} | settings)
    assert caught.value.hint
    assert all(message.role == "system" for message in chat.history)


def test_a_picture_comes_first(folder):
    chat = edge.Chat(edge.Model(folder, backend=Echo(["\nHello.", "\nA boat."])))
    chat.send("Hi")
    with pytest.raises(RequestError, match="in the first message alone"):
        chat.send("What is this?", pictures=[A])
    chat.reset()
    assert chat.send("What is this?", pictures=[A.to_url()]).text == "A boat."
    with pytest.raises(RequestError, match="and this one has 2"):
        chat.send("And this?", pictures=[B])
    with pytest.raises(RequestError, match="of the role assistant"):
        chat.model.prompt([Message("assistant", pictures=(A,))])


def test_a_chat_keeps_its_picture(folder, tmp_path):
    engine = Echo(["\nA boat.", "\nRed."])
    chat = edge.Chat(edge.Model(folder, backend=engine))
    chat.send("What is this?", pictures=[A])
    chat.save(tmp_path / "chat.json")
    again = edge.Chat(chat.model)
    again.load(tmp_path / "chat.json")
    assert again.history == chat.history
    assert again.send("What colour?").text == "Red."
    assert [piece for piece in engine.requests[-1].prompt if isinstance(piece, Picture)] == [A]
    assert chat.model.count_tokens(chat.history[:1]) == len("[gMASK]<sop><|user|>\nWhat is this?<|assistant|>") + 1


def test_an_async_chat_takes_pictures(folder):
    async def run() -> str:
        async with edge.AsyncChat(edge.Model(folder, backend=Echo(["\nA boat.", "\nTwo."]))) as chat:
            first = await chat.send("What is this?", pictures=[A.data])
            return first.text + (await chat.send([{"role": "user", "content": "How many?"}])).text

    assert asyncio.run(run()) == "A boat.Two."


def test_text_models_name_the_cure(bare_folder):
    chat = edge.Chat(edge.Model(bare_folder, backend=Echo()))
    with pytest.raises(RequestError, match="tiny reads no pictures") as caught:
        chat.send("What is this?", pictures=[A])
    assert "vision model" in caught.value.hint


def test_vision_configs_have_families_of_their_own():
    config = {"model_type": "chatglm", "vision_config": {}}
    templates = ChatTemplates({DEFAULT: GLM4V.template})
    assert detect_family(config, None) is GLM4V
    assert detect_family(config, templates) is GLM4V
    assert detect_family({"model_type": "chatglm"}, None) is BASE
    adapted = adapt_family(GLM4V, templates, SPECIAL)
    assert (adapted.tools, adapted.system) == (False, False)
    with pytest.raises(CheckpointError, match="vision models of the type 'glm'"):
        detect_family({"model_type": "glm", "vision_config": {}}, None)
