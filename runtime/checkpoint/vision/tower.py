"""The image towers by kind, and the facts of one that an engine needs."""

from collections.abc import Mapping
from typing import Any

from ...folder.manifest import VisionRecord
from .eva_clip import EvaClipVision
from .glm4_1v import Glm41Vision, read_picture_size

Vision = EvaClipVision | Glm41Vision


def describe_vision(vision: Vision, processor: Mapping[str, Any]) -> VisionRecord:
    """Return the manifest's record of a tower; `processor` are the settings of the checkpoint's image processor.

    Raises CheckpointError for settings that are not supported.
    """
    if isinstance(vision, EvaClipVision):
        return VisionRecord("glm4v", image_size=vision.image_size, tokens=vision.tokens)
    return VisionRecord("glm4_1v", shifts=3, picture_size=read_picture_size(processor, vision))
