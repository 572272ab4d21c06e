"""Do the tiles show? Label changes on the lines where a seam would lie, against changes everywhere else.

The seam gradient ratio is the rate of label changes between the two pixels that straddle a tile's edge or a cut midway
between two tiles, divided by the rate on all other lines; seamless is about 1. The image itself may like some lines,
and the model the borders of its patches; so the same is measured on a phantom grid, of the same spacing but moved aside
by an odd number of patches. What counts is the ratio of the two.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.tiling import Axis, TilePlan


class Seams(NamedTuple):
    """Seam gradient ratios: on the tiles' own lines, and on the phantom grid."""

    ratio: float
    phantom: float

    @property
    def relative(self) -> float:
        """What the tiles add to what the image does by itself."""
        return self.ratio / self.phantom


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
    """Seam gradient ratios of a whole mosaic's classes (H, W)."""
    own, phantom = [], []
    for image, axis in ((classes, plan.rows), (classes.T, plan.cols)):
        changes, counted = _changes(image, nodata)
        own.append(_sums(changes, counted, seam_lines(axis)))
        phantom.append(_sums(changes, counted, phantom_lines(axis)))
    return Seams(_ratio(own), _ratio(phantom))


def _changes(image: NDArray[np.unsignedinteger], nodata: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Per line, how many pixels differ from the one before it, and how many are compared; line 0 has none."""
    both = (image[1:] != nodata) & (image[:-1] != nodata)
    differ = (image[1:] != image[:-1]) & both
    return np.r_[0, differ.sum(1)], np.r_[0, both.sum(1)]


def _sums(changes: NDArray[np.int64], counted: NDArray[np.int64], lines: list[int]) -> NDArray[np.int64]:
    """Changes and pixels on the lines, changes and pixels elsewhere."""
    on = np.zeros(len(changes), bool)
    on[lines] = True
    return np.array([changes[on].sum(), counted[on].sum(), changes[~on].sum(), counted[~on].sum()])


def _ratio(sums: list[NDArray[np.int64]]) -> float:
    on, on_count, off, off_count = np.sum(sums, axis=0).astype(float)
    return float((on / max(on_count, 1)) / max(off / max(off_count, 1), np.finfo(float).tiny))
