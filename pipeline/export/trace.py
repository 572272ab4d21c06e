"""The outlines of what has one value, within one block."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.features import rasterize, shapes

from pipeline.tiling import Window

Ring = NDArray[np.int32]
"""Points (N, 2) of pixels' corners as x and y, closed: the last point is the first."""


class Region(NamedTuple):
    """Pixels of one value that are connected by their sides, in one block or in the whole mosaic.

    Attributes:
        value: Of its pixels: a class id or an instance id.
        pixels: How many.
        strength: The sum of what was asked to be summed over them.
        outline: A polygon; x are columns and y are rows of the mosaic.
    """

    value: int
    pixels: int
    strength: float
    outline: Any


def trace(
    values: NDArray[np.integer], wanted: NDArray[np.bool_], strengths: NDArray[np.integer], window: Window
) -> tuple[NDArray[np.int32], list[Region]]:
    """The regions of a block.

    Args:
        values: (H, W).
        wanted: (H, W), False where a pixel is in no region.
        strengths: (H, W), summed over each region.
        window: Where the block lies. Outlines have a point at every pixel along its border, see `densify`.

    Returns:
        The number of each pixel's region (H, W), from 1, 0 for none; and the regions.
    """
    # GDAL traces signed integers. Ids from 2**31 on become negative ones, and come back below.
    signed = values.astype(np.int32)
    found = list(shapes(signed, mask=wanted, connectivity=4))
    numbered = [(shape, number) for number, (shape, _) in enumerate(found, 1)]
    blank: NDArray[np.int32] = np.zeros(values.shape, np.int32)
    numbers: NDArray[np.int32] = rasterize(numbered, out=blank) if numbered else blank
    pixels = np.bincount(numbers.ravel(), minlength=len(found) + 1)[1:]
    sums = np.bincount(numbers.ravel(), strengths.ravel(), minlength=len(found) + 1)[1:]
    outlines = _polygons([shape["coordinates"] for shape, _ in found], window)
    parts = zip([int(value) % 2**32 for _, value in found], pixels.tolist(), sums.tolist(), outlines, strict=True)
    return numbers, [Region(*part) for part in parts]


def _polygons(found: Sequence[Any], window: Window) -> NDArray[Any]:
    """Polygons (n,) of lists of rings of points of the block."""
    rings = [ring for polygon in found for ring in polygon]
    if not rings:
        return np.empty(0, object)
    points = np.array([point for ring in rings for point in ring], np.int64)
    points, ring = densify(points, np.repeat(np.arange(len(rings)), [len(ring) for ring in rings]), window)
    lines = shapely.linearrings((points + np.array([window.col, window.row])).astype(np.float64), indices=ring)
    polygons: NDArray[Any] = shapely.polygons(
        lines, indices=np.repeat(np.arange(len(found)), [len(polygon) for polygon in found])
    )
    return polygons


def densify(
    points: NDArray[np.int64], ring: NDArray[np.int64], window: Window
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Put a point at every pixel along the border of a block, so that neighbours have the same points there.

    Args:
        points: (N, 2) of rings, one after the other, each closed; counted from the block's corner.
        ring: (N,) which one each point is of.
        window: Where the block lies.

    Returns:
        More points, and their rings.
    """
    steps = np.diff(points, axis=0, append=points[-1:])
    steps[np.diff(ring, append=-1) != 0] = 0  # from the end of a ring to the next one
    on_side = (steps == 0) & ((points == 0) | (points == [window.width, window.height]))
    lengths = np.abs(steps).sum(axis=1)
    counts = np.where(on_side.any(axis=1) & (lengths > 0), lengths, 1)
    along = np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts, counts)
    between = along[:, None] * np.repeat(np.sign(steps), counts, axis=0)
    return np.repeat(points, counts, axis=0) + between, np.repeat(ring, counts)


def without_straights(ring: Ring) -> Ring:
    """A ring of horizontal and vertical edges, without the points at which it does not turn."""
    points = ring[:-1]
    level = (np.roll(points, -1, axis=0) == points)[:, 1]
    turns = points[level != np.roll(level, 1)]
    closed: Ring = np.concatenate([turns, turns[:1]])
    return closed
