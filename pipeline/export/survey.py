"""What a mosaic holds, pixel by pixel: areas of classes, and whether the tiles show."""

import math
from dataclasses import dataclass

import numpy as np

from pipeline.export.thin import SIDE, Shape, thin
from pipeline.mosaic.mosaic import Mosaic
from pipeline.stitch.seams import NO_ID, SeamCounter, Seams
from pipeline.tiling import OutputBlock, TilePlan, output_blocks

MOST = 12 * SIDE
"""Rows and columns that are looked at; of larger mosaics the middle, so that it takes no longer than half a minute."""


@dataclass(frozen=True)
class Survey:
    """What was found.

    Attributes:
        shares: Of the mosaic's pixels, by class id, the codes for unlabelled and nodata among them.
        seams: How far the tiles show; None where nobody knows how they lay.
        looked_at: Pixels that the seams were counted on: all of them, or those in the middle.
        whole: Whether that is all, and the shares are exact; else they are of evenly spread pixels.
    """

    shares: dict[int, float]
    seams: Seams | None
    looked_at: int
    whole: bool


def survey(mosaic: Mosaic, plan: TilePlan | None) -> Survey:
    """Look at a mosaic block by block.

    Args:
        mosaic: As far as it is made.
        plan: How it was cut into tiles, or None.
    """
    counts = np.zeros(2 ** (8 * mosaic.classes.dtype.itemsize), np.int64)
    ids = mosaic.instances
    seams = SeamCounter(plan, mosaic.nodata if ids is None else NO_ID) if plan else None
    for block in _middle(mosaic):
        classes = np.asarray(mosaic.classes[block.window.slices])
        counts += np.bincount(classes.ravel(), minlength=len(counts))
        if seams:
            labels = classes
            if ids is not None:
                labels = np.where(classes == mosaic.nodata, np.uint32(NO_ID), np.asarray(ids[block.window.slices]))
            seams.add(labels, block.window.row, block.window.col)
    looked_at = int(counts.sum())
    whole = looked_at == math.prod(mosaic.shape)
    if not whole:
        counts = np.bincount(thin(mosaic, "classes", _even(mosaic.shape)).ravel(), minlength=len(counts))
    shares = {int(id): float(counts[id] / counts.sum()) for id in np.flatnonzero(counts)}
    return Survey(shares, seams.seams if seams else None, looked_at, whole)


def _middle(mosaic: Mosaic) -> list[OutputBlock]:
    """The blocks of at most so many rows and columns around the middle, row by row."""
    side = mosaic.classes.chunks[0] * max(1, SIDE // mosaic.classes.chunks[0])
    most = max(1, MOST // side)
    rows, cols = (_around(-(-size // side), most) for size in mosaic.shape)
    return [block for block in output_blocks(mosaic.shape, side) if block.index[0] in rows and block.index[1] in cols]


def _around(count: int, most: int) -> range:
    start = max(0, (count - most) // 2)
    return range(start, min(count, start + most))


def _even(shape: Shape) -> Shape:
    """So many evenly spread pixels that a share is known to a part in a thousand."""
    rows, cols = (min(size, 2 * SIDE) for size in shape)
    return rows, cols
