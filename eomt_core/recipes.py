"""Models to be trained from a random start: `new:NAME`."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from eomt_core.checkpoint import architecture_of
from eomt_core.encoders import create_encoder, lattice_of, sketch_encoder
from eomt_core.encoders.refusals import nearest_of
from eomt_core.encoders.stem import StemEmbed
from eomt_core.encoders.timm_eva import of_timm
from eomt_core.encoders.timm_vit import TimmViT
from eomt_core.eomt import EoMT
from eomt_core.errors import ModelError
from eomt_core.families import build_family
from eomt_core.family import PRESETS
from eomt_core.mask_transformer import MaskTransformer

WAVES = 16
"""Half waves of the finest sine over a tile."""

AMPLITUDE, SPREAD = 0.5, 0.1
"""Of the sines that positions and queries start from, and of the noise that tells queries of one place apart."""


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
        layer_scale: what each block's outputs are scaled with at first; None: they are not scaled.
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
    layer_scale: float | None = 0.1


RECIPES = {
    "hybrid-tiny": Recipe((24, 48, 96), 192, 4, 3, 2, 2, 64, 256, 100),
    "hybrid-objects": Recipe((24, 48, 96), 192, 5, 6, 3, 2, 64, 256, 256, layer_scale=None),
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
) -> MaskTransformer:
    """Make a model with random weights; torch's seed decides which.

    Args:
        name: one of `RECIPES`, one of `PRESETS`, or a timm architecture.
        num_classes: K.
        semantic: whether each class has one query of its own, else queries compete for the objects.
        in_channels: C.
        image_size: pixels a side of a training tile; default: the recipe's, or timm's.
        mean: per band, of the pixels that it will see, in [0, 1]; default: ImageNet's.
        std: likewise.

    Raises:
        ModelError: no such name, or an architecture that cannot carry queries, or be saved.
    """
    if name in PRESETS:
        known = PRESETS[name]
        numbers = {
            "num_classes": num_classes,
            "num_queries": num_classes if semantic else known.num_queries,
            "in_channels": in_channels,
            "image_size": (image_size, image_size) if image_size else known.image_size,
        }
        return build_family(replace(known, **numbers), mean, std)  # type: ignore[arg-type]
    recipe = RECIPES.get(name)
    if recipe is None:
        encoder = create_encoder(name, in_channels=in_channels, image_size=image_size)
        model = _around(of_timm(encoder.backbone, mean=mean, std=std), num_classes, semantic=semantic)
        _check_saves(name, model)
        return model
    encoder = TimmViT(_hybrid(recipe, in_channels, image_size or recipe.image_size), mean=mean, std=std)
    queries = num_classes if semantic else recipe.queries
    model = EoMT(encoder, num_classes, queries, recipe.num_blocks, recipe.num_upscale, mask_width=recipe.mask_width)
    if not semantic:
        spread_queries(model)
    return model


def sketch_model(name: str, tile: int) -> MaskTransformer:
    """Make a model of one class, whose queries compete, on torch's meta device: all of it but the numbers.

    Args:
        name: one of `RECIPES`, or a timm architecture.
        tile: pixels a side of a training tile, rounded to the lattice.

    Raises:
        ModelError: as `new_model`.
    """
    if name in RECIPES:
        with torch.device("meta"):
            return new_model(name, 1, semantic=False, image_size=tile)
    lattice = lattice_of(name)
    encoder = sketch_encoder(name, round(tile / lattice) * lattice)
    with torch.device("meta"):
        return _around(encoder, 1, semantic=False)


def _around(encoder: TimmViT, num_classes: int, *, semantic: bool) -> EoMT:
    return EoMT(encoder, num_classes, num_classes if semantic else 100, min(4, encoder.num_blocks))


def _check_saves(name: str, model: EoMT) -> None:
    """Refuse before a training, not after it, what our format does not describe."""
    try:
        architecture_of(model)
    except ModelError as error:
        raise ModelError(
            f"{name} cannot be trained here: it has other parts than our files describe; the nearest that can: "
            f"{nearest_of(model.encoder.backbone)}"
        ) from error


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
        init_values=recipe.layer_scale,
        class_token=False,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        embed_layer=partial(StemEmbed, widths=recipe.stem),
    )


@torch.no_grad()
def spread_queries(model: EoMT) -> None:
    """Start positions as sines of the place, and the queries on a square grid of places.

    Look-alike objects differ by where they are; queries that know a place need not first drift apart. The table is
    learned from there on, like any other.
    """
    encoder = model.encoder
    assert isinstance(encoder, TimmViT)
    side = round(model.num_q**0.5)
    if side * side != model.num_q or encoder.num_prefix:
        return
    table = encoder.backbone.pos_embed
    table.copy_(_sines(encoder.backbone.patch_embed.grid_size, encoder.dim)[None])
    model.q.weight.copy_(_sines((side, side), encoder.dim) + SPREAD * torch.randn_like(model.q.weight))


def _sines(grid: tuple[int, int], dim: int) -> torch.Tensor:
    """Sines and cosines of rows and columns from 0 to 1, from one wave to `WAVES` of them: (h * w, D)."""
    waves = torch.logspace(0, math.log2(WAVES), dim // 4, base=2) * math.pi
    rows, cols = (((torch.arange(length) + 0.5) / length)[:, None] * waves for length in grid)
    row_part = torch.cat([rows.sin(), rows.cos()], 1)[:, None].expand(-1, grid[1], -1)
    col_part = torch.cat([cols.sin(), cols.cos()], 1)[None].expand(grid[0], -1, -1)
    return AMPLITUDE * torch.cat([row_part, col_part], 2).reshape(-1, dim)
