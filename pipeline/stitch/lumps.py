"""Lumps: segments of one tile that are two objects for another tile, which sees all of them.

A model takes two touching objects for one now and then. Linked to one of the two, such a segment would blur the border
between them and hide the other; nothing is lost without it, as the other tile sees both.
"""

import numpy as np
from numpy.typing import NDArray

from pipeline.stitch.strips import Strip
from pipeline.stitch.views import View

HELD = 0.75
"""The share of each of the two objects, as far as both tiles see it, that a lump holds."""

SEEN = 0.98
"""The share of a lump that the other tile must see: what it does not see would be lost."""


def lumps_between(view: View, other: View, first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.uint64]:
    """The keys of another tile's segments that hold two things of a view which are apart.

    Args:
        view: the tile that tells things apart.
        other: the tile that may not.
        first: (c,) a thing of each pair that is apart.
        second: (c,) the other one.
    """
    strip = Strip.of(view, other)
    cells = strip.cells()
    mine, theirs = cells.sum(1)[1:, None], cells.sum(0)[1:]
    holds = (cells[1:, 1:] >= HELD * mine) & (mine > 0)
    both = (holds[first] & holds[second]).any(0)
    whole = theirs >= SEEN * other.fused.areas
    return other.keys(np.flatnonzero(both & whole & ~np.bool_(strip.touch)))
