"""The graphs of image towers by kind: the whole tower, and the stages by which a conversion is checked."""

from dataclasses import replace

import openvino as ov

from runtime.checkpoint.vision.eva_clip import MERGE, EvaClipVision
from runtime.checkpoint.vision.tower import Vision

from ..graph import Weight
from .eva_clip_tower import build_eva_clip_tower, eva_clip_stages
from .glm4_1v_tower import build_glm41_tower, glm41_stages
from .stage import TowerStage

_TOKENS = 4  # in the height and width of a small picture


def build_tower(vision: Vision, weight: Weight) -> ov.Model:
    """Build the tower's graph: `pixels` -> `features`."""
    if isinstance(vision, EvaClipVision):
        return build_eva_clip_tower(vision, weight)
    return build_glm41_tower(vision, weight)


def small_picture_stages(vision: Vision) -> tuple[tuple[int, int], list[TowerStage]]:
    """Return the height and width in pixels of a small picture, and the stages of a tower that reads it."""
    if isinstance(vision, EvaClipVision):
        small = replace(vision, image_size=min(_TOKENS * MERGE * vision.patch, vision.image_size))
        return (small.image_size, small.image_size), list(eva_clip_stages(small))
    rows, columns = 2 * vision.merge, 3 * vision.merge
    return (rows * vision.patch, columns * vision.patch), list(glm41_stages(vision, rows, columns))
