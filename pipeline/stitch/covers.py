"""Covers: what one tile sees as one thing where another tile sees the border between two.

One of the two tiles is wrong: a model splits an object now and then, and takes two that touch for one.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.stitch.strips import Strip
from pipeline.stitch.views import View

HELD = 0.75
"""The share of each of two things, as far as both tiles see it, that a cover holds."""

COMMON = 0.1
"""The share of each of two things that both tiles must see: of slivers in the rim a tile knows too little."""

SEEN = 0.98
"""The share of a cover that the other tile must see to see it whole."""


class Covers(NamedTuple):
    """k segments over a border of another tile.

    Attributes:
        first: (k,) uint64, keys of the one thing at the border.
        second: (k,) uint64, of the other one.
        over: (k,) uint64, of the segment over both.
        whole: (k,) bool, whether the tile that sees the border sees all of that segment.
    """

    first: NDArray[np.uint64]
    second: NDArray[np.uint64]
    over: NDArray[np.uint64]
    whole: NDArray[np.bool_]


def covers_between(view: View, other: View, first: NDArray[np.int64], second: NDArray[np.int64]) -> Covers:
    """The segments of another view over borders of a view.

    Args:
        view: the tile that sees the borders.
        other: the tile that may not.
        first: (c,) the thing on one side of each border.
        second: (c,) the one on the other.
    """
    strip = Strip.of(view, other)
    cells = strip.cells()
    mine, theirs = cells.sum(1)[1:, None], cells.sum(0)[1:]
    enough = (mine > COMMON * view.fused.areas[:, None]) & (not strip.touch)
    holds = enough & (cells[1:, 1:] >= HELD * mine)
    border, over = np.nonzero(holds[first] & holds[second])
    whole = theirs >= SEEN * other.fused.areas
    return Covers(view.keys(first[border]), view.keys(second[border]), other.keys(over), whole[over])
