"""glm-4v-9b: one picture, before the first question; its checkpoint comes without a usable template.

Sources: tokenization_chatglm.py of glm-4v-9b; its makers on one picture, system messages and tools: zai-org/GLM-4,
issues 92, 107, 156 and 680.
"""

from .family import Family
from .picture_format import PictureFormat

GLM4V = Family(
    name="glm4v",
    summary="GLM-4V: one picture in the first message, no system message, no tools",
    model_types=("chatglm",),
    matches=lambda prompt: True,
    tools=False,
    system=False,
    pictures=PictureFormat(
        pictures=1,
        first_message=True,
        tools=False,
        system=False,
    ),
    template=(
        "[gMASK]<sop>{% for message in messages %}<|{{ message['role'] }}|>{{ message['metadata'] }}\n"
        "{{ message['content'] }}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
    ),
)
