"""glm-4-9b-chat and -chat-1m, in the original and in the -hf format."""

from .family import Family
from .layout import tools_in_system

GLM4_2024 = Family(
    name="glm4_2024",
    summary="GLM-4 of 2024: tools stand on a system message of their own",
    stop_tokens=("<|endoftext|>", "<|user|>", "<|observation|>"),
    layout=tools_in_system,
    call_start="<|assistant|>",
)
