"""The configurations that `benchmarks.make_checkpoint` writes are those of the shapes it was asked for."""

import pytest

from benchmarks.make_checkpoint import TINY, config
from edge.catalogue import CATALOGUE
from edge.demo import CHECKPOINT
from runtime.checkpoint.architecture import Architecture, read_architecture

SHAPES = {entry.name: entry.architecture for entry in CATALOGUE.values()} | {"tiny": TINY}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_configuration_is_read_as_its_shape(shape: Architecture):
    assert read_architecture(config(shape, "bf16", CHECKPOINT)) == shape
