"""GLM-4-9B-0414 and GLM-4-32B-0414."""

from .family import Family, renders_probe

GLM4_0414 = Family(
    name="glm4_0414",
    summary="GLM-4-0414: tools are listed before the system message",
    model_types=("glm4",),
    matches=renders_probe,
)
