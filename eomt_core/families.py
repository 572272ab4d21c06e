"""Models of the families in `eomt_core.family`, built from their numbers."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from eomt_core.encoders.adapter import Adapter
from eomt_core.encoders.token_maps import TokenMaps
from eomt_core.eomt import EoMT
from eomt_core.family import FamilyArchitecture
from eomt_core.mask_transformer import MaskTransformer
from eomt_core.spatial import SpatialEoMT


def build_family(
    a: FamilyArchitecture, mean: Sequence[float] | None = None, std: Sequence[float] | None = None
) -> MaskTransformer:
    """Build a model with random weights.

    Args:
        a: its numbers.
        mean: per band, of the pixels that it will see, in [0, 1]; default: ImageNet's.
        std: likewise.

    Raises:
        ModelError: the extra vit-pytorch is not installed, or the numbers make no model.
    """
    a.check_installed()
    encoder = _encoder(a, mean, std)
    model: MaskTransformer
    if a.query_mode == "tokens":
        model = EoMT(encoder, a.num_classes, a.num_queries, a.num_blocks)
    else:
        maps: Any = encoder if a.spatial else TokenMaps(encoder)
        mode: Any = a.query_mode
        model = SpatialEoMT(maps, a.num_classes, a.num_queries, a.num_blocks, mode, a.width)
    model.family = a
    return model


def family_of(model: MaskTransformer) -> FamilyArchitecture | None:
    """Tell the numbers of a model that `build_family` made, as they are now; None for others."""
    if model.family is None:
        return None
    return replace(
        model.family,
        num_classes=model.num_classes,
        num_queries=model.num_q,
        parameters=sum(tensor.numel() for tensor in model.state_dict().values()),
    )


def adapter_of(model: MaskTransformer) -> tuple[Adapter, str]:
    """Return the adapter of a model's backbone, and what the names of the backbone's parameters begin with."""
    if isinstance(model.encoder, TokenMaps):
        return model.encoder.tokens, "encoder.tokens.backbone."
    assert isinstance(model.encoder, Adapter)
    return model.encoder, "encoder.backbone."


def _encoder(a: FamilyArchitecture, mean: Sequence[float] | None, std: Sequence[float] | None) -> Any:
    if a.spatial:
        from vit_pytorch.scalable_vit import ScalableViT

        from eomt_core.encoders.scalable_vit import ScalableMaps

        backbone: nn.Module = ScalableViT(
            num_classes=1,
            dim=a.dim,
            depth=a.depth,
            heads=a.num_heads,
            reduction_factor=a.reductions,
            window_size=a.windows,
            channels=a.in_channels,
        )
        return ScalableMaps(backbone, a.image_size, mean=mean, std=std)
    from vit_pytorch.simple_vit import SimpleViT
    from vit_pytorch.vit import ViT

    from eomt_core.encoders.vit_pytorch import VitPytorch

    kind = ViT if a.family == "vit-pytorch" else SimpleViT
    tokens: Any = kind(
        image_size=a.image_size,
        patch_size=a.patch_size,
        num_classes=1,
        dim=a.dim,
        depth=a.depth[0],
        heads=a.num_heads[0],
        mlp_dim=4 * a.dim,
        channels=a.in_channels,
    )
    if not a.patch_norm:
        tokens.to_patch_embedding[1] = nn.Identity()
    return VitPytorch(tokens, a.image_size, mean=mean, std=std)
