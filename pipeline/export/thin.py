"""A mosaic's arrays thinned to a picture, from the coarsest level that is large enough, block by block."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.mosaic.mosaic import Mosaic
from pipeline.tiling import output_blocks

Shape = tuple[int, int]

SIDE = 1024
"""Pixels a side that blocks have at least; whole chunks, so that each is decoded once."""


def fit(shape: Shape, side: int) -> Shape:
    """Rows and columns of a picture of so many pixels, none of its sides longer than `side`."""
    scale = min(1.0, side / max(shape))
    rows, cols = (max(1, round(size * scale)) for size in shape)
    return rows, cols


def thin(mosaic: Mosaic, name: str, shape: Shape) -> NDArray[Any]:
    """An array of the mosaic as a picture: of each pixel of the picture, the value in its middle.

    Args:
        mosaic: Read in bounded memory, whether it has coarser levels or not.
        name: Of the array.
        shape: Rows and columns of the picture, none more than the mosaic has.
    """
    level = _coarsest(mosaic, name, shape)
    array = mosaic.array(name, level)
    rows, cols = (middles(size, count) >> level for size, count in zip(mosaic.shape, shape, strict=True))
    picture: NDArray[Any] = np.empty(shape, array.dtype)
    for block in output_blocks((array.shape[0], array.shape[1]), array.chunks[0] * max(1, SIDE // array.chunks[0])):
        window = block.window
        down = slice(*np.searchsorted(rows, (window.row, window.bottom)))
        across = slice(*np.searchsorted(cols, (window.col, window.right)))
        if down.start < down.stop and across.start < across.stop:
            pixels = np.asarray(array[window.slices])
            picture[down, across] = pixels[np.ix_(rows[down] - window.row, cols[across] - window.col)]
    return picture


def _coarsest(mosaic: Mosaic, name: str, shape: Shape) -> int:
    """The last level that has a pixel for each of the picture."""
    enough = [level for level in range(mosaic.levels) if max(mosaic.array(name, level).shape) >= max(shape)]
    return enough[-1]


def middles(size: int, count: int) -> NDArray[np.int64]:
    """The pixels of `size` that lie in the middle of each of `count` equal parts."""
    return (2 * np.arange(count, dtype=np.int64) + 1) * size // (2 * count)
