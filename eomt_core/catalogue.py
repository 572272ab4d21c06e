"""The models that `new:NAME` makes, as a list: every other timm name of a plain ViT or a DINOv3 will do too."""

import torch
from torch.utils.flop_counter import FlopCounterMode

from eomt_core.cost import Cost, cost_of
from eomt_core.family import PRESETS
from eomt_core.recipes import RECIPES, sketch_model

TIMM = (
    *("vit_tiny_patch16_224", "vit_small_patch16_224", "vit_base_patch16_224"),
    *("vit_small_patch14_reg4_dinov2", "vit_base_patch14_reg4_dinov2", "vit_large_patch14_reg4_dinov2"),
    *("vit_small_patch16_dinov3_qkvb", "vit_base_patch16_dinov3_qkvb", "vit_large_patch16_dinov3_qkvb"),
)
"""Some of timm's."""

NAMES = (*RECIPES, *TIMM, *PRESETS)


def cost_of_new(name: str, tile: int) -> Cost:
    """Count what one of them takes.

    Args:
        name: what stands behind `new:`.
        tile: pixels a side of a tile, rounded to the lattice; those of `PRESETS` have a tile of their own.

    Raises:
        ModelError: there is no such model, or its library is not installed.
    """
    if name in PRESETS:
        return cost_of(name)
    model = sketch_model(name, tile).eval().requires_grad_(False)
    model.set_mask_probs((0.0,) * model.num_blocks)
    size = model.encoder.training_size
    with FlopCounterMode(display=False) as counter:
        model(torch.empty(1, 3, *size, device="meta"))
    parameters = sum(weight.numel() for weight in model.parameters())
    return Cost(name, parameters, size, int(counter.get_total_flops()), model.min_multiple, ())
