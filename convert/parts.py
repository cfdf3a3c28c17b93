"""The parts of a converted model, an IR each: the weights that each has, how they are compressed, and its graph."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import openvino as ov
from openvino import PartialShape, Type
from openvino import opset13 as ops

from runtime.checkpoint.architecture import Architecture
from runtime.checkpoint.vision.tower import Vision
from runtime.folder.ir_files import DECODER, LANGUAGE, TABLE, TOWER

from .graph import EMBEDDING, Weight, build_decoder
from .recipe import RECIPES, Recipe
from .vision.embeddings_decoder import build_embeddings_decoder, build_embeddings_table
from .vision.towers import build_tower

Build = Callable[[Weight], ov.Model]


@dataclass(frozen=True, slots=True)
class ModelPart:
    """An IR: the name of its files, its tensors in the order in which they are compressed, and its graph. `exact`
    matrices are not compressed. `build_excerpt` makes the graph of the first layer alone, over the same weights."""

    name: str
    tensors: tuple[str, ...]
    recipe: Recipe
    build: Build
    build_excerpt: Build | None = None
    exact: frozenset[str] = frozenset()


def model_parts(architecture: Architecture, recipe: Recipe) -> tuple[ModelPart, ...]:
    """Return the parts of a model: one of a text model, three of a vision model."""
    names = tuple(name for name, _ in architecture.shapes())
    first_layer = replace(architecture, layers=1)
    if architecture.vision is None:
        return (
            ModelPart(
                DECODER, names, recipe, partial(build_decoder, architecture), partial(build_decoder, first_layer)
            ),
        )
    tied = architecture.tied_embeddings  # the decoder then has a copy, as its head
    tower = tuple(name for name, _ in architecture.vision.shapes())
    return (
        ModelPart(
            LANGUAGE,
            tuple(name for name in names if tied or name != EMBEDDING),
            recipe,
            partial(build_embeddings_decoder, architecture),
            partial(build_embeddings_decoder, first_layer),
        ),
        ModelPart(
            TABLE,
            (EMBEDDING,),
            replace(recipe, linear=recipe.embedding_and_head),
            partial(build_embeddings_table, architecture),
        ),
        ModelPart(
            TOWER,
            tower,
            tower_recipe(recipe),
            partial(build_tower, architecture.vision),
            exact=uncompressed_matrices(architecture.vision),
        ),
    )


def tower_recipe(recipe: Recipe) -> Recipe:
    """Return the recipe of a tower: int8 for every recipe that compresses, since a tower loses more in int4."""
    return recipe if recipe.linear is None else RECIPES["int8"]


def uncompressed_matrices(vision: Vision) -> frozenset[str]:
    """Return the tensors of a tower that stay as they are: positions, and kernels of convolutions, which are small."""
    shapes = dict(vision.shapes())
    return vision.exact_matrices | {name for name, shape in shapes.items() if len(shape) > 2}


def build_stub() -> ov.Model:
    """Build the tower that GenAI requires and never runs."""
    pixels = ops.parameter(PartialShape([1, 3, 1, 1]), Type.f32, name="pixel_values")
    pixels.output(0).set_names({"pixel_values"})
    x = ops.reshape(pixels, ops.constant(np.array([1, 1, 3], np.int64)), False)
    x.output(0).set_names({"last_hidden_state"})
    return ov.Model([ops.result(x)], [pixels], "stub")
