"""Models to be trained from a random start: `new:NAME`."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from eomt_core.encoders import create_encoder
from eomt_core.encoders.stem import StemEmbed
from eomt_core.encoders.timm_vit import TimmViT
from eomt_core.eomt import EoMT
from eomt_core.errors import ModelError


@dataclass(frozen=True)
class Recipe:
    """Sizes of a small EoMT behind a convolutional stem.

    Attributes:
        stem: channels of the stem's layers, the finest first; patches are 2^(n+1) pixels for n of them.
        dim: D.
        depth: blocks of the encoder.
        num_heads: attention heads of a block.
        num_blocks: last blocks that see the queries.
        num_upscale: doublings of the patch grid.
        mask_width: channels that masks are dot products over.
        image_size: pixels a side of a training tile.
        queries: how many, where each class has not one of its own.
    """

    stem: tuple[int, ...]
    dim: int
    depth: int
    num_heads: int
    num_blocks: int
    num_upscale: int
    mask_width: int
    image_size: int
    queries: int


RECIPES = {
    "hybrid-tiny": Recipe((24, 48, 96), 192, 4, 3, 2, 2, 64, 256, 100),
    "hybrid-tiny-8": Recipe((32, 64), 128, 5, 2, 3, 2, 48, 256, 144),
}
"""Ours, by name; every other name is timm's."""


def new_model(
    name: str,
    num_classes: int,
    *,
    semantic: bool,
    in_channels: int = 3,
    image_size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> EoMT:
    """Make a model with random weights; torch's seed decides which.

    Args:
        name: one of `RECIPES`, or a timm architecture.
        num_classes: K.
        semantic: whether each class has one query of its own, else queries compete for the objects.
        in_channels: C.
        image_size: pixels a side of a training tile; default: the recipe's, or timm's.
        mean: per band, of the pixels that it will see, in [0, 1]; default: ImageNet's.
        std: likewise.

    Raises:
        ModelError: no such name, or an architecture that cannot carry queries.
    """
    recipe = RECIPES.get(name)
    if recipe is None:
        encoder = create_encoder(name, in_channels=in_channels, image_size=image_size)
        encoder = TimmViT(encoder.backbone, mean=mean, std=std)
        return EoMT(encoder, num_classes, num_classes if semantic else 100, min(4, encoder.num_blocks))
    encoder = TimmViT(_hybrid(recipe, in_channels, image_size or recipe.image_size), mean=mean, std=std)
    queries = num_classes if semantic else recipe.queries
    model = EoMT(encoder, num_classes, queries, recipe.num_blocks, recipe.num_upscale, mask_width=recipe.mask_width)
    if not semantic:
        spread_queries(model)
    return model


def _hybrid(recipe: Recipe, in_channels: int, image_size: int) -> VisionTransformer:
    patch = 2 ** (len(recipe.stem) + 1)
    if image_size % patch:
        raise ModelError(f"training size {image_size} is no multiple of {patch}, the model's lattice")
    return VisionTransformer(
        img_size=image_size,
        patch_size=patch,
        in_chans=in_channels,
        num_classes=0,
        global_pool="",
        embed_dim=recipe.dim,
        depth=recipe.depth,
        num_heads=recipe.num_heads,
        init_values=0.1,
        class_token=False,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        embed_layer=partial(StemEmbed, widths=recipe.stem),
    )


@torch.no_grad()
def spread_queries(model: EoMT) -> None:
    """Start the queries on a square grid of positions: each begins with the position embedding of its own place.

    Look-alike objects differ by where they are; queries that know a place need not first drift apart.
    """
    encoder = model.encoder
    assert isinstance(encoder, TimmViT)
    side = round(model.num_q**0.5)
    if side * side != model.num_q or encoder.num_prefix:
        return
    rows, cols = encoder.backbone.patch_embed.grid_size
    table = encoder.backbone.pos_embed.reshape(1, rows, cols, -1).permute(0, 3, 1, 2)
    places = nn.functional.interpolate(table, size=(side, side), mode="bilinear", align_corners=False)
    model.q.weight.copy_(places[0].flatten(1).T + 0.1 * model.q.weight)
