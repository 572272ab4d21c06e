"""Rotary positions are those of the tile, at any size; whatever is no patch is not turned."""

from typing import Any

import pytest
import timm
import torch

from eomt_core.encoders import TimmViT, create_encoder, wrap
from eomt_core.errors import ModelError

TINY: dict[str, Any] = {"embed_dim": 32, "depth": 2, "num_heads": 2}
DINOV3, CAT, MIXED = (
    "vit_small_patch16_dinov3_qkvb",
    "vit_medium_patch16_rope_reg1_gap_256",
    "vit_small_patch16_rope_mixed_224",
)


def make_encoder(name: str, size: int | tuple[int, int] = 160) -> TimmViT:
    """An encoder of width 32 and two blocks, every weight off its initial value."""
    encoder = create_encoder(name, image_size=size, **TINY).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in encoder.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator), alpha=0.1)
    return encoder


def noise(rows: int, columns: int) -> torch.Tensor:
    """Pixels of one image."""
    return torch.rand(1, 3, rows, columns, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", [DINOV3, CAT, MIXED])
def test_rotary_positions_are_those_of_the_tile(name):
    """At 128 x 224 an encoder for 160 x 160 gives what a backbone gives that timm made for 128 x 224."""
    encoder = make_encoder(name)
    backbone = timm.create_model(name, num_classes=0, img_size=(128, 224), dynamic_img_size=False, **TINY).eval()
    backbone.load_state_dict(encoder.backbone.state_dict(), strict=False)
    pixels = noise(128, 224)
    with torch.no_grad():
        wanted = backbone.fc_norm(backbone.forward_features(encoder.normalise(pixels)))
        assert torch.allclose(encoder.features(pixels), wanted, atol=1e-5)


def test_fixed_rotary_positions_fit_another_grid_silently():
    """What timm makes for 64 x 96 pixels turns 96 x 64 by the same angles: the reason why it is refused."""
    fixed = timm.create_model(CAT, img_size=(64, 96), **TINY)
    free = make_encoder(CAT, (64, 96)).backbone
    assert torch.equal(fixed.rope.get_embed(shape=[6, 4]), fixed.rope.get_embed(shape=[4, 6]))
    assert not torch.equal(free.rope.get_embed(shape=[6, 4]), free.rope.get_embed(shape=[4, 6]))
    with pytest.raises(ModelError, match=r"those of one grid.*dynamic_img_size"):
        wrap(fixed)


def test_queries_are_not_turned():
    """Queries before the prefix change nothing that patches compute among themselves, as a mask over them shows."""
    encoder = make_encoder(DINOV3)
    tokens, _, _, rotation = encoder.embed(noise(32, 48))
    queries, length = 7, tokens.shape[1]
    joined = torch.cat((torch.rand(1, queries, encoder.dim), tokens), dim=1)
    mask = torch.zeros(1, 1, queries + length, queries + length)
    mask[..., queries:, :queries] = float("-inf")
    with torch.no_grad():
        alone, among = (
            encoder.run_block(1, tokens, rotation=rotation),
            encoder.run_block(1, joined, mask, rotation),
        )
    assert torch.allclose(among[:, queries:], alone, atol=1e-6)
