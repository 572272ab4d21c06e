"""How far cells are from the outline of an object, up to a cap: what simulated masks are made of."""

from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.tiling import Window

CAP = 24
"""Cells from which distances are all the same."""

BLOCK = 96
"""Cells a side that are looked at together: most of a large object's box is far from its outline."""


class Distances:
    """The signed distances of a truth's objects, each made when it is first asked for.

    Args:
        ids: (H, W) int32, objects from 1.
        boxes: of each object, by id.
    """

    def __init__(self, ids: NDArray[np.int32], boxes: list[Window]) -> None:
        self._ids, self._boxes = ids, boxes
        self._raster = Window(0, 0, *ids.shape)
        self._known: dict[int, NDArray[np.float16]] = {}

    def box(self, number: int) -> Window:
        """The cells up to `CAP` around an object."""
        row, col, height, width = self._boxes[number]
        return Window(row - CAP, col - CAP, height + 2 * CAP, width + 2 * CAP).intersect(self._raster)

    def of(self, number: int, cells: Window) -> NDArray[np.float32]:
        """Distances (h, w) of cells, which lie in the box, to an object's outline; above 0 inside."""
        if number not in self._known:
            self._known[number] = signed(self._ids[self.box(number).slices] == number).astype(np.float16)
        return self._known[number][cells.within(self.box(number))].astype(np.float32)

    def of_joined(self, numbers: tuple[int, ...], cells: Window) -> NDArray[np.float32]:
        """The same of several objects as if they were one, as seen by who sees only these cells."""
        return signed(np.isin(self._ids[cells.slices], numbers))


def signed(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Distances to the outline of a mask (h, w), above 0 inside, `CAP` at the most; the array's edge is no outline."""
    height, width = mask.shape
    found = np.empty(mask.shape, np.float32)
    for row, col in product(range(0, height, BLOCK), range(0, width, BLOCK)):
        top, left = max(0, row - CAP), max(0, col - CAP)
        part = mask[top : row + BLOCK + CAP, left : col + BLOCK + CAP]
        inner = slice(row - top, row - top + BLOCK), slice(col - left, col - left + BLOCK)
        found[row : row + BLOCK, col : col + BLOCK] = _signed(part, inner)
    return found


def _signed(part: NDArray[np.bool_], inner: tuple[slice, slice]) -> NDArray[np.float32] | float:
    if part.all() or not part.any():
        return CAP if part[0, 0] else -CAP
    inside, outside = ndimage.distance_transform_edt(part), ndimage.distance_transform_edt(~part)
    distance = np.where(part, inside - 0.5, 0.5 - outside)[inner]
    return np.asarray(distance.clip(-CAP, CAP), np.float32)
