import pytest

from runtime.chat_templates import DEFAULT, ChatTemplates
from runtime.errors import CheckpointError, TemplateError
from runtime.messages import Message
from runtime.prompt import detection
from runtime.prompt.detection import detect_family
from runtime.prompt.families import FAMILIES, Family
from runtime.prompt.template import ChatTemplate

from .references import TEMPLATES


def detect(config, template):
    return detect_family(config, ChatTemplates({DEFAULT: template}))


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES.keys())
def test_templates_are_told_apart(template):
    assert detect({"model_type": template.model_type}, template.source).name == template.family


def test_no_template_is_a_base_model():
    assert detect_family({"model_type": "glm4"}, None).name == "base"


@pytest.mark.parametrize("model_type", ["llama", None, ["glm4"]])
def test_other_models_are_refused_by_name(model_type):
    with pytest.raises(CheckpointError, match="which is not GLM-4's") as caught:
        detect({"model_type": model_type}, "{{ messages }}")
    assert "glm4" in caught.value.hint


def test_a_broken_template_is_refused():
    with pytest.raises(TemplateError):
        detect({"model_type": "glm4"}, "{% if %}")


def test_a_new_family_is_one_record(monkeypatch):
    """Given to the registry it is detected, and its layout fills the checkpoint's own template."""

    def layout(messages, tools):
        return {"turns": [message.content for message in messages], "tools": [tool["name"] for tool in tools]}

    new = Family(
        name="new",
        summary="a family of this test",
        model_types=("glm5",),
        matches=lambda prompt: prompt.startswith("[tools: probe_tool]"),
        layout=layout,
        stop_tokens=("<|end|>",),
    )
    template = "[tools: {{ tools | join(', ') }}]{% for turn in turns %}<|turn|>{{ turn }}{% endfor %}"
    with pytest.raises(CheckpointError, match="not GLM-4's"):
        detect({"model_type": "glm5"}, template)
    monkeypatch.setattr(detection, "FAMILIES", FAMILIES | {"new": new})
    assert detect({"model_type": "glm5"}, template) is new
    prompt = ChatTemplate(template, new, ["<|turn|>"]).render([Message("user", "a"), Message("user", "<|turn|>b")])
    assert prompt == ("[tools: ]<|turn|>a<|turn|><", "|turn|>b")
