"""Blend the class scores of overlapping tiles on the global lattice of cells."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.stitch.window import tile_weights
from pipeline.tiling import Tile, TilePlan, Window

FINE = 16
"""A blended score counts in sixteenths of a stored code, so that averaging two codes loses nothing that decides."""

ScoreReader = Callable[[Tile], NDArray[np.uint16] | None]
"""Gives the stored codes of a tile, (K, h, w), or None for a tile that is nodata all over and was never inferred."""


class Blended(NamedTuple):
    """Scores of a window of cells, with a rim of one cell around it, from which the pixels at its edge interpolate.

    Attributes:
        scores: (K, h + 2, w + 2), in units of 1 / FINE of a stored code.
        known: (h + 2, w + 2), 1 where any tile had a say, else 0.
    """

    scores: NDArray[np.unsignedinteger]
    known: NDArray[np.uint32]


def cells_of(window: Window, stride: int) -> Window:
    """The cells that a window of pixels touches, counted in cells."""
    row, col = window.row // stride, window.col // stride
    return Window(row, col, -(-window.bottom // stride) - row, -(-window.right // stride) - col)


def blend(plan: TilePlan, window: Window, stride: int, num_classes: int, read: ScoreReader) -> Blended:
    """Weighted means of all tiles' codes over the cells that a window of pixels touches.

    A gather: the window pulls the tiles that it needs. Sums are integers, so the result does not depend on their order
    or on how the mosaic is cut into windows.
    """
    cells = cells_of(window, stride)
    rim = Window(cells.row - 1, cells.col - 1, cells.height + 2, cells.width + 2)
    inside = rim.intersect(Window(0, 0, plan.rows.edge // stride, plan.cols.edge // stride))
    sums = np.zeros((num_classes, rim.height, rim.width), _accumulator(plan))
    weights = np.zeros((rim.height, rim.width), np.uint32)
    place = inside.within(rim)
    for tile in plan.covering(Window(*(value * stride for value in inside))):
        codes = read(tile)
        if codes is not None:
            _add(sums[:, *place], weights[place], inside, tile, codes, tile_weights(plan, tile, stride), stride)
    _divide(sums, weights)
    for array in (*sums, weights):
        _repeat_edge(array, place)
    return Blended(sums, (weights > 0).astype(np.uint32))


def _accumulator(plan: TilePlan) -> type[np.uint32] | type[np.uint64]:
    """Codes of 16 bits times weights of 10 leave 6: room for 64 tiles on one cell, which only odd overlaps pass."""
    rows, cols = (-(-axis.tile // axis.stride) + 1 for axis in (plan.rows, plan.cols))
    return np.uint32 if rows * cols < 64 else np.uint64


def _add(
    sums: NDArray[np.unsignedinteger],
    weights: NDArray[np.uint32],
    inside: Window,
    tile: Tile,
    codes: NDArray[np.uint16],
    window: NDArray[np.uint32],
    stride: int,
) -> None:
    """Add one tile's weighted codes where it meets the window."""
    place = Window(*(value // stride for value in tile.window))
    common = place.intersect(inside)
    here, there = common.within(inside), common.within(place)
    weight = window[there]
    weights[here] += weight
    # Class by class: the product of all classes at once would be as large as the sums themselves.
    for total, code in zip(sums, codes, strict=True):
        total[here] += code[there] * weight


def _divide(sums: NDArray[np.unsignedinteger], weights: NDArray[np.uint32]) -> None:
    """Turn sums into weighted means in sixteenths of a code, rounded; 0 where no tile had a say."""
    divisor = np.maximum(weights, 1).astype(np.float64) / FINE
    for total in sums:
        total[:] = np.rint(total / divisor)


def _repeat_edge(array: NDArray[np.unsignedinteger], place: tuple[slice, slice]) -> None:
    """Fill the rim that lies beyond the lattice, at most one cell a side, with the lattice's last cells."""
    rows, cols = place
    array[: rows.start, cols] = array[rows.start, cols]
    array[rows.stop :, cols] = array[rows.stop - 1, cols]
    array[:, : cols.start] = array[:, cols.start, None]
    array[:, cols.stop :] = array[:, cols.stop - 1, None]
