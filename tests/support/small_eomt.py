"""A small EoMT whose weights are the same on any version of torch, and images for it."""

import math

import torch

from eomt_core import EoMT, QueryMasks
from eomt_core.encoders import create_encoder

DEPTH, BLOCKS, QUERIES, CLASSES, PREFIX = 4, 3, 5, 3, 5


def noise(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """Values in -0.5..0.5 that depend on place and seed alone, on any version of torch."""
    places = torch.arange(math.prod(shape), dtype=torch.float64) + 1000 * seed
    return (torch.sin(places * 12.9898).mul(43758.5453).frac() / 2).float().reshape(shape)


def fill(model: torch.nn.Module) -> None:
    """Replace every weight by noise mild enough that no attention saturates: then every mask shows in the answer."""
    with torch.no_grad():
        for seed, (name, weight) in enumerate(model.named_parameters()):
            spread = 0.3 if weight.ndim > 1 else 1.0
            weight.copy_(spread * noise(weight.shape, seed) + 1.0 * (".norm" in name and "weight" in name))


def make_model(patch_size: int = 16, num_blocks: int = BLOCKS, probs=None, **options) -> EoMT:
    """A model of 5 queries, 3 classes and a 2 x 2 training grid; without `probs` nothing is masked."""
    encoder = create_encoder(
        "vit_small_patch14_reg4_dinov2",
        image_size=2 * patch_size,
        patch_size=patch_size,
        embed_dim=32,
        depth=DEPTH,
        num_heads=2,
    )
    model = EoMT(encoder, CLASSES, QUERIES, num_blocks, **options).eval()
    fill(model)
    model.set_mask_probs(probs or (0.0,) * num_blocks)
    return model


def make_image(rows: int, columns: int, batch: int = 1) -> torch.Tensor:
    """Pixels for rows x columns patches of 16."""
    return noise((batch, 3, rows * 16, columns * 16), seed=99) + 0.5


def run(model: EoMT, pixels: torch.Tensor) -> QueryMasks:
    """Call a model without gradients."""
    with torch.no_grad():
        return model(pixels)
