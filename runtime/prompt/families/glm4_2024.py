"""glm-4-9b-chat and -chat-1m, in the original and in the -hf format."""

from .family import Family, renders_probe
from .layout import BUILT_IN

GLM4_2024 = Family(
    name="glm4_2024",
    summary="GLM-4 of 2024: tools stand on a system message of their own",
    model_types=("glm", "chatglm"),
    matches=renders_probe,
    built_in=BUILT_IN,
    result_picture="[Image]",  # composite_demo/src/tools/python.py of zai-org/GLM-4
    call_syntaxes=("text", "json"),
)
