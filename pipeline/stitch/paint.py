"""RENDER, of objects: give each pixel to the object that is strongest there.

An object wins or loses as a whole, by its vote, instead of being cut where one tile's word begins to count for more. As
the queries of a tile must win most of what their masks claim, so must an object: what is left of one that others hide
is mostly an error. This can be told of small objects without looking at the whole raster.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.stitch.blend import cells_of
from pipeline.stitch.consensus import FINE_LOGIT, Consensus, consensuses
from pipeline.stitch.label import enlarge, insert
from pipeline.stitch.objects import Objects
from pipeline.stitch.queries import SURE
from pipeline.stitch.views import Views
from pipeline.tiling import Window

FAINT = 0.15
"""The least strength of an object in a pixel: below it nothing is said."""

NOTHING = 0.001
"""A strength below it is none: else all of an object's box would have one, and boxes depend on the tiles looked at."""

SMALL = 64
"""Cells a side of the largest boxes of objects that must win most of what they claim: so far around is looked at."""

GROUND = 0.7
"""The share of the cells of its mean mask that an object must win."""


class Painted(NamedTuple):
    """The pixels of a window.

    Attributes:
        numbers: (H, W) int64: objects from 1, stuff classes c as -1 - c, 0 where nothing is accepted.
        strengths: (H, W) float32, of the object in that place, accepted or not, 0 to 1.
    """

    numbers: NDArray[np.int64]
    strengths: NDArray[np.float32]


def paint(views: Views, objects: Objects, window: Window, mask_threshold: float, places: int = 1) -> list[Painted]:
    """Paint a window of pixels. It depends on the tiles around it alone, not on how the mosaic is cut into windows.

    Args:
        views: the tiles.
        objects: what their segments belong to.
        window: of pixels.
        mask_threshold: mean mask probability from which a pixel is the strongest object's.
        places: 1 for the strongest of each pixel, 2 for the second as well, and so on.
    """
    cells = cells_of(window, views.stride)
    found = list(consensuses(views, objects, views.around(cells, SMALL)))
    hidden = hidden_objects(views, found, cells)
    canvas = _Canvas(cells, views.stride, places)
    for consensus in found:
        if consensus.number not in hidden:
            canvas.add(consensus, mask_threshold)
    return canvas.painted(window)


def hidden_objects(views: Views, found: list[Consensus], cells: Window) -> set[int]:
    """The small ones of the objects in and around a window of cells that do not win enough of what they claim there."""
    canvas, claims = _Canvas(views.around(cells, SMALL), 1), dict[int, int]()
    for consensus in found:
        claimed = canvas.add(consensus, views.rules.mask_threshold)
        if consensus.number > 0 and max(consensus.cells[2:]) <= SMALL:
            claims[consensus.number] = claimed
    won = canvas.counts()
    return {number for number, claimed in claims.items() if won.get(number, 0) < GROUND * claimed}


class _Canvas:
    """The pixels of some cells, while objects are added to them.

    Args:
        cells: on the global lattice.
        stride: pixels a side of a cell.
        places: how many of the strongest of each pixel are kept.
    """

    def __init__(self, cells: Window, stride: int, places: int = 1) -> None:
        self.cells, self.stride = cells, stride
        shape = places, cells.height * stride, cells.width * stride
        self._numbers, self._best = np.zeros(shape, np.int64), np.zeros(shape)

    def add(self, consensus: Consensus, mask_threshold: float) -> int:
        """Rank an object in each pixel, behind those before it that are as strong; how many pixels it claims."""
        common = consensus.cells.intersect(self.cells)
        if not common.height or not common.width:
            return 0
        probs = 1 / (1 + np.exp(-self._enlarged(consensus, consensus.logits, common) / FINE_LOGIT))
        strength = consensus.vote * self._enlarged(consensus, consensus.sureness, common) / SURE * probs
        strength[strength < NOTHING] = 0
        place = tuple(slice(part.start * self.stride, part.stop * self.stride) for part in common.within(self.cells))
        accepted = (probs >= mask_threshold) & (strength >= FAINT)
        insert(self._best[:, *place], self._numbers[:, *place], strength, np.where(accepted, consensus.number, 0))
        return int(np.count_nonzero(accepted))

    def _enlarged(self, consensus: Consensus, values: NDArray[np.int32], common: Window) -> NDArray[np.float64]:
        """Values of cells at the pixels of some of them; beyond the last cells they stay as they are."""
        rows, cols = common.within(consensus.cells)
        if self.stride == 1:
            return values[rows, cols].astype(np.float64)
        around = np.pad(values, 1, mode="edge")[rows.start : rows.stop + 2, cols.start : cols.stop + 2]
        return enlarge(around, self.stride) / (2 * self.stride) ** 2

    def counts(self) -> dict[int, int]:
        """How many pixels each object has."""
        numbers, counts = np.unique(self._numbers[0], return_counts=True)
        return dict(zip(numbers.tolist(), counts.tolist(), strict=True))

    def painted(self, window: Window) -> list[Painted]:
        """The window's own pixels, by place."""
        row, col = window.row - self.cells.row * self.stride, window.col - self.cells.col * self.stride
        place = slice(row, row + window.height), slice(col, col + window.width)
        ranked = zip(self._numbers, self._best, strict=True)
        return [Painted(numbers[place], best[place].astype(np.float32)) for numbers, best in ranked]
