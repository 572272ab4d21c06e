"""A trained model made ready for other classes or more bands."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from eomt_core.encoders.stem import Stem
from eomt_core.encoders.timm_vit import TimmViT
from eomt_core.errors import ModelError
from eomt_core.mask_transformer import MaskTransformer


@torch.no_grad()
def with_bands(model: MaskTransformer, bands: int) -> MaskTransformer:
    """Widen the patch embedding to C = `bands`; new channels start as the mean of the old ones.

    Raises:
        ModelError: the model takes more bands than that.
    """
    encoder = model.encoder
    if not isinstance(encoder, TimmViT):
        return _as_it_is(model, bands)
    more = bands - encoder.in_channels
    if more < 0:
        raise ModelError(
            f"the model takes {encoder.in_channels} bands, got {bands}; give as many with --bands, or more"
        )
    if not more:
        return model
    proj = encoder.backbone.patch_embed.proj
    first: Any = proj.layers[0].conv if isinstance(proj, Stem) else proj
    first.weight = nn.Parameter(_extended(first.weight, more, axis=1))
    first.in_channels = bands
    if isinstance(proj, Stem):
        proj.in_channels = bands
    encoder.in_channels = bands
    encoder.pixel_mean = _extended(encoder.pixel_mean, more, axis=1)
    encoder.pixel_std = _extended(encoder.pixel_std, more, axis=1)
    return model


def _as_it_is(model: MaskTransformer, bands: int) -> MaskTransformer:
    if bands != model.encoder.in_channels:
        raise ModelError(f"the model takes {model.encoder.in_channels} bands, got {bands}; give as many with --bands")
    return model


def _extended(tensor: Tensor, more: int, axis: int) -> Tensor:
    mean = tensor.mean(axis, keepdim=True)
    return torch.cat([tensor, *[mean] * more], dim=axis)


@torch.no_grad()
def with_classes(model: MaskTransformer, old: Sequence[str], new: Sequence[str], *, one_each: bool) -> MaskTransformer:
    """Drop the class head where the classes differ; those of the same name keep their row.

    Args:
        model: any mask transformer.
        old: K names, those of its classes.
        new: the names that it is to have.
        one_each: whether each class has one query of its own, which the numbers do not tell: queries that compete may
            happen to be as many as the classes. Then the queries are part of what is dropped: a class of the same name
            keeps its query, any other starts from the mean of all.
    """
    if tuple(old) == tuple(new):
        return model
    rows = [old.index(name) if name in old else None for name in new]
    head = model.class_head
    model.class_head = nn.Linear(head.in_features, len(new) + 1)
    model.class_head.weight[-1], model.class_head.bias[-1] = head.weight[-1], head.bias[-1]
    for index, row in enumerate(rows):
        if row is not None:
            model.class_head.weight[index], model.class_head.bias[index] = head.weight[row], head.bias[row]
    model.num_classes = len(new)
    if one_each:
        for name in ("q", "q_place"):
            if (table := getattr(model, name, None)) is not None:
                setattr(model, name, _queries(table.weight, rows))
        model.num_q = len(new)
    return model


def _queries(weight: Tensor, rows: Sequence[int | None]) -> nn.Embedding:
    """Queries for the classes in `rows`: the old one of that number, or a little beside the mean of all."""
    spread = 0.1 * weight.std()
    made = [weight.mean(0) + spread * torch.randn_like(weight[0]) if row is None else weight[row] for row in rows]
    queries = nn.Embedding(len(rows), weight.shape[1])
    queries.weight.copy_(torch.stack(made))
    return queries
