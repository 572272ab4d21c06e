"""The blending window: how much a tile's word counts, from its middle to its edge."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pipeline.tiling import Axis, Tile, TilePlan

UNIT = 1024
"""The integer weight of a tile's middle. Integer sums do not depend on the order of the tiles."""


@lru_cache(maxsize=64)
def taper(axis: Axis, index: int, stride: int) -> NDArray[np.float64]:
    """Weights along one axis of a tile, (n,) in 0..1, one per `stride` pixels.

    A flat top, and a sin² (Hann) ramp over the overlap, trimmed by an eighth of it at either end: the tile's rim,
    which has seen least context, has no say where a neighbour knows better. The ramps of two neighbours sum to one.
    The raster's own border has no ramp.
    """
    overlap = axis.overlap // stride
    trim = overlap // 8
    ramp_length = max(1, overlap - 2 * trim)
    position = (np.arange(axis.tile // stride) + 0.5 - trim) / ramp_length
    ramp = np.sin(np.pi / 2 * position.clip(0, 1)) ** 2
    weights = np.ones_like(ramp)
    if overlap and index > 0:
        weights *= ramp
    if overlap and index < len(axis.origins) - 1:
        weights *= ramp[::-1]
    return weights


def tile_weights(plan: TilePlan, tile: Tile, stride: int) -> NDArray[np.uint32]:
    """Integer weights of a tile, (n, m), 1..UNIT, one per `stride` pixels.

    The floor of 1 (2⁻¹⁰) gives a value to what only a trimmed rim has seen.
    """
    rows, cols = taper(plan.rows, tile.row, stride), taper(plan.cols, tile.col, stride)
    return np.maximum(1, np.rint(UNIT * np.outer(rows, cols))).astype(np.uint32)
