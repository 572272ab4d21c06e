"""The reference's order at full resolution: every query is enlarged before the classes are summed.

Sixteen times the work of blending on the lattice; it goes by strips of rows, so that memory follows the width of the
window and not its area.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pipeline.mosaic.codes import Codes
from pipeline.stitch.label import CONFIDENCE_UNIT, Labels, insert
from pipeline.stitch.window import UNIT, tile_weights
from pipeline.tiling import Tile, TilePlan, Window

STRIP = 32
"""Pixel rows of a strip."""

StripReader = Callable[[Tile, slice], NDArray[np.float32] | None]
"""Gives the class scores of some pixel rows of a tile, (rows, W, K), or None for a tile that is all nodata."""


def exact(
    plan: TilePlan, window: Window, num_classes: int, read: StripReader, codes: Codes, places: int = 1
) -> list[Labels]:
    """The best class of every pixel of the window, and so many places in all, from scores of full resolution."""
    classes = np.empty((places, window.height, window.width), codes.dtype)
    confidence = np.empty(classes.shape, np.uint8)
    for top in range(0, window.height, STRIP):
        rows = slice(top, min(top + STRIP, window.height))
        strip = Window(window.row + top, window.col, rows.stop - top, window.width)
        classes[:, rows], confidence[:, rows] = _best(*_blend(plan, strip, num_classes, read), codes, places)
    return [Labels(classes[place], confidence[place]) for place in range(places)]


def _blend(
    plan: TilePlan, strip: Window, num_classes: int, read: StripReader
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weighted sums (rows, W, K) and weights (rows, W) of a strip."""
    sums = np.zeros((strip.height, strip.width, num_classes), np.float32)
    weights = np.zeros((strip.height, strip.width), np.float32)
    for tile in plan.covering(strip):
        common = tile.window.intersect(strip)
        here, there = common.within(strip), common.within(tile.window)
        scores = read(tile, there[0])
        if scores is not None:
            weight = tile_weights(plan, tile, 1)[there].astype(np.float32) / UNIT
            weights[here] += weight
            sums[here] += scores[:, there[1]] * weight[..., None]
    return sums, weights


def _best(
    sums: NDArray[np.float32], weights: NDArray[np.float32], codes: Codes, places: int
) -> tuple[NDArray[np.unsignedinteger], NDArray[np.uint8]]:
    best = np.zeros((places, *weights.shape), np.float32)
    classes = np.full(best.shape, codes.unlabelled, codes.dtype)
    for kind in range(sums.shape[-1]):
        insert(best, classes, sums[..., kind], kind)
    whole = np.maximum(np.maximum(sums.sum(-1), weights), np.finfo(np.float32).tiny)
    return classes, np.rint(CONFIDENCE_UNIT * best / whole).astype(np.uint8)
