"""The list of what `new:NAME` makes is true."""

import pytest

from eomt_core import EoMT
from eomt_core.catalogue import TIMM, cost_of_new
from eomt_core.encoders.refusals import why_name_refused
from eomt_core.recipes import new_model


@pytest.mark.parametrize("name", ["hybrid-tiny", "vit_tiny_patch16_224", "vit_small_patch16_dinov3_qkvb"])
def test_what_is_counted_is_what_is_made(name: str) -> None:
    """Parameters, lattice and tile are those of the model, counted without making its weights."""
    cost, model = cost_of_new(name, 64), new_model(name, 1, semantic=False, image_size=64)
    assert isinstance(model, EoMT)
    assert cost.parameters == sum(weight.numel() for weight in model.parameters())
    assert (cost.lattice, cost.tile) == (model.min_multiple, model.encoder.training_size)


def test_tiles_are_the_nearest_on_the_lattice() -> None:
    """252 pixels are nearest to 256 for patches of 14."""
    assert cost_of_new("vit_small_patch14_reg4_dinov2", 256).tile == (252, 252)


def test_flops_are_those_of_the_published_size() -> None:
    """A DINOv2 of size S at 640 pixels takes about the 136 GFLOPs of the paper's with 200 queries in 3 blocks."""
    flops = cost_of_new("vit_small_patch14_reg4_dinov2", 560).flops  # as many patches of 14 as 640 has of 16
    assert flops / 1e9 == pytest.approx(136, rel=0.12)


def test_every_name_can_be_made() -> None:
    """No name is listed that is refused."""
    assert [why_name_refused(name) for name in TIMM] == [None] * len(TIMM)
