"""What two tiles both see: the strip that they share, or the two lines of cells along which they touch."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.stitch.views import View
from pipeline.tiling import Window

Slices = tuple[slice, slice]


@dataclass(frozen=True, eq=False)
class Strip:
    """The n cells that two tiles have in common.

    Attributes:
        here: their rows and columns in the first tile.
        there: in the other tile.
        touch: whether they are none: the tiles only touch, and the cells are those on either side.
        pairs: (n,) int64, the thing of each cell in the first tile and in the other one, as one number.
        size: how many things there are in each, and one more.
    """

    here: Slices
    there: Slices
    touch: bool
    pairs: NDArray[np.int64]
    size: tuple[int, int]

    @classmethod
    def of(cls, view: View, other: View) -> "Strip":
        """The strip of two views."""
        (here, there), touch = _common(view.window, other.window)
        size = len(view.fused) + 1, len(other.fused) + 1
        pairs = (view.things[here].ravel() + 1) * np.int64(size[1]) + other.things[there].ravel() + 1
        return cls(here, there, touch, pairs, size)

    def table(self, weights: NDArray[np.int64]) -> NDArray[np.int64]:
        """Weights of the cells summed by pair of things; the first row and column are of no thing."""
        return sums(self.pairs, weights.ravel(), self.size[0] * self.size[1]).reshape(self.size)

    def cells(self) -> NDArray[np.int64]:
        """How many cells each pair of things has."""
        return np.bincount(self.pairs, minlength=self.size[0] * self.size[1]).reshape(self.size)


def sums(at: NDArray[np.integer], values: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """Sums of values by place, (length,); floats are exact up to 2^53, and a tile's sums stay far below."""
    return np.bincount(at, values, minlength=length).astype(np.int64)


def _common(window: Window, other: Window) -> tuple[tuple[Slices, Slices], bool]:
    """The cells that two windows share, in each one's own rows and columns; else those along which they touch."""
    rows = _along(window.row, window.bottom, other.row, other.bottom)
    cols = _along(window.col, window.right, other.col, other.right)
    if rows.touch and cols.touch:  # a corner proves nothing
        return ((slice(0), slice(0)), (slice(0), slice(0))), True
    return ((rows.first, cols.first), (rows.second, cols.second)), rows.touch or cols.touch


class _Range(NamedTuple):
    first: slice
    second: slice
    touch: bool


def _along(start: int, stop: int, other_start: int, other_stop: int) -> _Range:
    """What two ranges share, counted from each one's start; of ranges that touch, the cells on either side."""
    low, high = max(start, other_start), min(stop, other_stop)
    touch = low == high
    if touch:
        last, first = slice(-1, None), slice(0, 1)
        return _Range(last, first, True) if stop == other_start else _Range(first, last, True)
    return _Range(slice(low - start, high - start), slice(low - other_start, high - other_start), False)
