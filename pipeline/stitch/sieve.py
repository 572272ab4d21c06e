"""SIEVE: find the small parts of a map, which then take what is second best in each of their pixels.

What a part is can be told from its surroundings alone, so the mosaic does not depend on how it is cut into windows.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.tiling import Window

REACH = 256
"""Pixels a side of the largest box of a part that is sieved: at most so far around a window is looked at."""


def margin(least: int) -> int:
    """How many pixels around a window tell which of its parts are smaller than `least`: none of them is longer."""
    return min(max(0, least - 1), REACH)


def surroundings(window: Window, least: int, raster: Window) -> Window:
    """A window with the pixels around it that the sieve must see, as far as the raster goes."""
    more = margin(least)
    row, col, height, width = window
    return Window(row - more, col - more, height + 2 * more, width + 2 * more).intersect(raster)


def small_parts(numbers: NDArray[np.int64], least: int) -> NDArray[np.bool_]:
    """The pixels (H, W) of parts that are smaller than `least` and whose box fits `REACH`.

    A part is all pixels of one number that hang together by their sides; 0 is no number.
    """
    found, places = np.unique(numbers, return_inverse=True)
    small = np.zeros(numbers.shape, bool)
    for number, box in zip(found.tolist(), ndimage.find_objects(places + 1), strict=True):
        if number:
            small[box] |= _small_of(numbers[box] == number, least)
    return small


def _small_of(mask: NDArray[np.bool_], least: int) -> NDArray[np.bool_]:
    parts, count = ndimage.label(mask)
    small = np.bincount(parts.ravel(), minlength=count + 1) < least
    small[0] = False
    for part, (rows, cols) in enumerate(ndimage.find_objects(parts) if least > REACH else (), 1):
        small[part] &= max(rows.stop - rows.start, cols.stop - cols.start) <= REACH
    found: NDArray[np.bool_] = small[parts]
    return found
