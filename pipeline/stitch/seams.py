"""Do the tiles show? Label changes on the lines where a seam would lie, against changes everywhere else.

The seam gradient ratio is the rate of label changes between the two pixels that straddle a tile's edge or a cut midway
between two tiles, divided by the rate on all other lines; seamless is about 1. The straight-seam length is the share of
those lines along which labels change for 8 pixels or more on end, as edges of pasted tiles do and outlines hardly ever.
The image itself may like some lines, and the model the borders of its patches; so the same is measured on a phantom
grid, of the same spacing but moved aside by an odd number of patches. What counts is the two against each other.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.tiling import Axis, TilePlan

RUN = 8
"""Changes on end along a line that make a straight seam."""

NO_ID = 2**32 - 1
"""Where seams are counted on instance ids, nodata: 0 is background there, and an outline against it counts."""


class Seams(NamedTuple):
    """How far the tiles show, on their own lines and on the phantom grid; NaN where no line was seen.

    Attributes:
        ratio: Seam gradient ratio of the tiles' own lines.
        phantom: Of the phantom grid.
        straight: Straight-seam length on the tiles' own lines, in pixels per 1000 pixels of line.
        phantom_straight: On the phantom grid.
    """

    ratio: float
    phantom: float
    straight: float
    phantom_straight: float

    @property
    def relative(self) -> float:
        """What the tiles add to what the image does by itself, as a factor of the gradient ratio."""
        return self.ratio / self.phantom if self.phantom else math.nan

    @property
    def excess(self) -> float:
        """The same in straight-seam length, pixels per 1000."""
        return self.straight - self.phantom_straight


def seam_lines(axis: Axis) -> list[int]:
    """The lines of one axis, each named by the pixel behind it: tile edges, and cuts midway between two tiles."""
    starts = axis.origins[1:]
    ends = [origin + axis.tile for origin in axis.origins[:-1]]
    cuts = [(start + end) // 2 for start, end in zip(starts, ends, strict=True)]
    return sorted({line for line in (*starts, *ends, *cuts) if 0 < line < axis.size})


def phantom_lines(axis: Axis) -> list[int]:
    """The seam lines moved by about half a stride, an odd number of lattice steps: as far from any seam as can be."""
    steps = axis.stride // axis.lattice // 2
    shift = axis.lattice * (steps + 1 - steps % 2)
    lines = seam_lines(axis)
    return sorted({line + shift for line in lines if line + shift < axis.size} - set(lines))


def seam_gradient_ratio(classes: NDArray[np.unsignedinteger], plan: TilePlan, nodata: int) -> Seams:
    """The seams of a whole mosaic's classes (H, W)."""
    counter = SeamCounter(plan, nodata)
    counter.add(classes, 0, 0)
    return counter.seams


class SeamCounter:
    """Counts seams block by block; the blocks above and to the left of a block come before it.

    Args:
        plan: How the mosaic was cut into tiles.
        nodata: The label of pixels that are compared with nothing.
    """

    def __init__(self, plan: TilePlan, nodata: int) -> None:
        rows, cols = plan.shape
        self._across = _Lines(plan.rows, cols, nodata)
        self._down = _Lines(plan.cols, rows, nodata)

    def add(self, labels: NDArray[np.integer], row: int, col: int) -> None:
        """Count a block (h, w) of labels, whose first pixel is at that row and column."""
        self._across.add(labels, row, col)
        self._down.add(labels.T, col, row)

    @property
    def seams(self) -> Seams:
        """The seams of what was counted."""
        sides = (self._across, self._down)
        own = np.sum([side.sums(seam_lines(side.axis)) for side in sides], axis=0)
        phantom = np.sum([side.sums(phantom_lines(side.axis)) for side in sides], axis=0)
        return Seams(_ratio(own), _ratio(phantom), _straight(own), _straight(phantom))


class _Lines:
    """The lines of one axis, each with its changes. Where blocks meet, it keeps what the next one needs of this one.

    Args:
        axis: The axis that the lines count along.
        length: Pixels of a line.
        nodata: The label that is compared with nothing.
    """

    def __init__(self, axis: Axis, length: int, nodata: int) -> None:
        self.axis = axis
        self._nodata = nodata
        self._changes, self._counted, self._straight, self._open = np.zeros((4, axis.size), np.int64)
        self._before = np.full(length, nodata, np.uint32)
        self._watched = np.union1d(seam_lines(axis), phantom_lines(axis)).astype(int)

    def add(self, image: NDArray[np.integer], line: int, along: int) -> None:
        """Count (lines, pixels along them), the first of which are at `line` and `along`."""
        part, lines = slice(along, along + image.shape[1]), slice(line, line + len(image))
        pairs = np.vstack([self._before[part], image])
        valid = pairs != self._nodata
        both = valid[1:] & valid[:-1]
        differ = (pairs[1:] != pairs[:-1]) & both
        self._changes[lines] += differ.sum(1)
        self._counted[lines] += both.sum(1)
        self._before[part] = image[-1]
        for watched in self._watched[(self._watched >= lines.start) & (self._watched < lines.stop)]:
            self._follow(watched, differ[watched - line])

    def _follow(self, line: int, differ: NDArray[np.bool_]) -> None:
        """Add the straight runs of a part of a line; one that reaches the part's end stays open for the next part."""
        bounds = np.flatnonzero(np.diff(differ, prepend=False, append=False))
        runs = np.r_[self._open[line], bounds[1::2] - bounds[::2]]
        if differ[0]:
            runs[1] += runs[0]
            runs[0] = 0
        self._open[line] = runs[-1] if differ[-1] else 0
        closed = runs[:-1] if differ[-1] else runs
        self._straight[line] += closed[closed >= RUN].sum()

    def sums(self, lines: list[int]) -> NDArray[np.int64]:
        """Changes and pixels on the lines, changes and pixels elsewhere, pixels of straight runs on the lines."""
        on = np.zeros(self.axis.size, bool)
        on[lines] = True
        straight = self._straight + np.where(self._open >= RUN, self._open, 0)
        changes, counted = self._changes, self._counted
        return np.array(
            [changes[on].sum(), counted[on].sum(), changes[~on].sum(), counted[~on].sum(), straight[on].sum()]
        )


def _ratio(sums: NDArray[np.int64]) -> float:
    on, on_count, off, off_count, _ = sums.tolist()
    if not on_count:
        return math.nan
    elsewhere = off / max(off_count, 1)
    return on / on_count / elsewhere if elsewhere else math.inf if on else 0.0


def _straight(sums: NDArray[np.int64]) -> float:
    _, on_count, _, _, straight = sums.tolist()
    return 1000 * straight / on_count if on_count else math.nan
