"""Encoders by name: what turns pixels into tokens."""

from typing import Any

import timm
import torch
from timm.models.eva import Eva
from torch import nn

from eomt_core.encoders.protocol import Encoder
from eomt_core.encoders.refusals import why_name_refused
from eomt_core.encoders.timm_eva import of_timm
from eomt_core.encoders.timm_vit import TimmViT
from eomt_core.errors import ModelError

__all__ = ["Encoder", "TimmViT", "create_encoder", "lattice_of", "sketch_encoder", "wrap"]


def create_encoder(
    name_or_module: str | nn.Module,
    *,
    image_size: int | tuple[int, int] | None = None,
    patch_size: int | None = None,
    in_channels: int = 3,
    pretrained: bool = False,
    **options: Any,
) -> TimmViT:
    """Make an encoder by its timm name, and test it.

    Args:
        name_or_module: a timm name such as `vit_small_patch14_reg4_dinov2`, or a model (`wrap`; nothing else applies).
        image_size: pixels, or rows and columns, that the position table is made for; default: the architecture's.
        patch_size: pixels per patch; pretrained kernels are resampled.
        in_channels: C, the bands of the input.
        pretrained: fetch the weights that timm names.
        **options: further arguments of the architecture, such as `embed_dim`, `depth`, `num_heads`.

    Raises:
        ModelError: timm does not know the name, or the architecture cannot carry queries.
    """
    if isinstance(name_or_module, nn.Module):
        return wrap(name_or_module)
    recipe = {"name": name_or_module, "image_size": image_size, "patch_size": patch_size, "in_channels": in_channels}
    chosen = {key: size for key, size in (("img_size", image_size), ("patch_size", patch_size)) if size is not None}
    backbone = _create_backbone(name_or_module, in_chans=in_channels, pretrained=pretrained, **chosen, **options)
    return _tested(backbone, {**recipe, **options})


def sketch_encoder(name: str, image_size: int | None = None) -> TimmViT:
    """Make an encoder by its timm name on torch's meta device, untested: all but numbers, in a second for the largest.

    Raises:
        ModelError: as `create_encoder`.
    """
    with torch.device("meta"):
        encoder = of_timm(_create_backbone(name, **({"img_size": image_size} if image_size else {})))
    encoder.backbone.reset_classifier(0, "")
    return encoder


def lattice_of(name: str) -> int:
    """Tell the lattice of a timm architecture.

    Raises:
        ModelError: as `create_encoder`.
    """
    return sketch_encoder(name).min_multiple


def wrap(backbone: nn.Module) -> TimmViT:
    """Make an encoder of a timm model that exists already, and test it.

    Raises:
        ModelError: the architecture cannot carry queries.
    """
    return _tested(backbone, None)


def _create_backbone(name: str, **options: Any) -> nn.Module:
    if not timm.is_model(name):
        raise ModelError(f"timm {timm.__version__} knows no architecture {name!r}; timm.list_models() lists its names")
    reason = why_name_refused(name)
    if reason is not None:
        raise ModelError(reason)
    if timm.model_entrypoint(name).__module__ == Eva.__module__:
        options["dynamic_img_size"] = True  # else its rotary positions are those of one grid
    try:
        backbone: nn.Module = timm.create_model(name, num_classes=0, **options)
    except (TypeError, AssertionError) as error:
        raise ModelError(f"{name} cannot be made as an encoder: {error}") from error
    return backbone


def _tested(backbone: nn.Module, recipe: dict[str, Any] | None) -> TimmViT:
    encoder = of_timm(backbone)
    # A pooling head is never run here: left in, it would be weights without a gradient in every file.
    encoder.backbone.reset_classifier(0, "")
    encoder.recipe = recipe
    encoder.self_test()
    return encoder
