"""What models that can be made weigh and take, counted without making their weights."""

from typing import NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from eomt_core.errors import ModelError
from eomt_core.families import build_family
from eomt_core.family import PRESETS, FamilyArchitecture
from eomt_core.mask_transformer import MaskTransformer
from eomt_core.windows import valid_sides


class Cost(NamedTuple):
    """What a model of one class at its training size takes.

    Attributes:
        name: what stands behind `new:`.
        parameters: numbers in the weights.
        tile: rows and columns of the tile.
        flops: of one tile, 2 per multiplication and addition.
        lattice: rows and columns of tiles are multiples of it.
        sides: of valid square tiles up to 1024 pixels, where not every multiple is one; else empty.
    """

    name: str
    parameters: int
    tile: tuple[int, int]
    flops: int
    lattice: int
    sides: tuple[int, ...]


def cost_of(name: str) -> Cost:
    """Count for one of `PRESETS`, on torch's meta device.

    Raises:
        ModelError: there is no such preset, or its library is not installed.
    """
    if name not in PRESETS:
        raise ModelError(f"{name} is none of {', '.join(PRESETS)}")
    a = PRESETS[name]
    model = _without_weights(a)
    parameters = sum(weight.numel() for weight in model.parameters())
    sides = tuple(valid_sides(a.windows, a.strides, 1024)) if a.spatial else ()
    return Cost(name, parameters, a.image_size, _flops(model, a, a.image_size), a.min_multiple, sides)


def flops_of(a: FamilyArchitecture, tile: tuple[int, int]) -> int:
    """Count the FLOPs of one tile of that size.

    Raises:
        ModelError: the library is not installed, or the tile does not fit.
    """
    return _flops(_without_weights(a), a, tile)


def _without_weights(a: FamilyArchitecture) -> MaskTransformer:
    """A model as it infers, on torch's meta device."""
    with torch.device("meta"):
        model = build_family(a).eval().requires_grad_(False)
        model.set_mask_probs((0.0,) * model.num_blocks)
    return model


def _flops(model: MaskTransformer, a: FamilyArchitecture, tile: tuple[int, int]) -> int:
    """Count without torch's fused attention layer, whose products the counter does not see."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.device("meta"), FlopCounterMode(display=False) as counter:
            model(torch.empty(1, a.in_channels, *tile))
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
    return int(counter.get_total_flops())
