"""The outlines of drawn objects, as stamps: how deep in the object each cell of a box lies."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SMALLEST, LARGEST = 5, 160
"""Cells across a shape."""

STEP = 2.0
"""Cells from one point of a curve to the next."""


class Stamp(NamedTuple):
    """Objects to be drawn.

    Attributes:
        depth: (h, w) float64, cells to the outline, above 0 inside; about right near the outline.
        parts: (h, w) int64, tells the objects inside apart.
    """

    depth: NDArray[np.float64]
    parts: NDArray[np.int64]


def sizes(count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Cells across some shapes: as many from 5 to 10 as from 80 to 160."""
    return np.exp(rng.uniform(np.log(SMALLEST), np.log(LARGEST), count))


def shape(size: float, rng: np.random.Generator) -> Stamp:
    """An ellipse, a rectangle or a blob, `size` cells across."""
    half, short = size / 2, size / 2 * rng.uniform(0.6, 1)
    along, across = _turned(size, rng.uniform(0, np.pi))
    kind = rng.integers(3)
    if kind == 0:
        depth = (1 - np.hypot(along / half, across / short)) * short
    elif kind == 1:
        depth = np.minimum(half * 0.9 - np.abs(along), short * 0.9 - np.abs(across))
    else:
        angle = np.arctan2(across, along)
        depth = half * (0.8 + 0.2 * np.sin(3 * angle + rng.uniform(0, 6))) - np.hypot(along, across)
    return Stamp(depth, np.zeros(depth.shape, np.int64))


def ring(rng: np.random.Generator) -> Stamp:
    """A ring 40 to 260 cells across."""
    radius, width = rng.uniform(20, 130), rng.uniform(6, 16)
    along, across = _turned(2 * radius + width, 0)
    depth = width / 2 - np.abs(np.hypot(along, across) - radius)
    return Stamp(depth, np.zeros(depth.shape, np.int64))


def terrace(rng: np.random.Generator) -> Stamp:
    """A row of 5 to 15 houses, wall to wall."""
    widths = rng.uniform(10, 24, rng.integers(5, 16))
    depths = rng.uniform(14, 30) * rng.uniform(0.8, 1.2, len(widths))
    ends = np.cumsum(widths)
    along, across = _turned(ends[-1], rng.uniform(0, np.pi))
    along = along + ends[-1] / 2
    house = np.searchsorted(ends, along).clip(0, len(widths) - 1)
    depth = np.minimum(np.minimum(along, ends[-1] - along), depths[house] / 2 - np.abs(across))
    return Stamp(depth, house)


def _turned(size: float, angle: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coordinates along and across a direction, from the middle of a box that is somewhat larger than `size`."""
    half = int(size / 2) + 5
    rows, cols = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float64)
    return rows * np.cos(angle) + cols * np.sin(angle), cols * np.cos(angle) - rows * np.sin(angle)


def curve(length: float, side: int, rng: np.random.Generator) -> NDArray[np.float64] | None:
    """Points (n, 2) of a bending line that stays on a square, or None if it would leave it."""
    count = int(length / STEP)
    bends = np.convolve(rng.normal(0, 1, count + 60), np.ones(60) / 60, "valid")[:count]
    heading = rng.uniform(0, 2 * np.pi) + np.cumsum(0.06 * bends)
    steps = STEP * np.stack([np.sin(heading), np.cos(heading)], 1)
    path = rng.uniform(0, side, 2) + np.cumsum(steps, axis=0)
    return path if ((path > 0) & (path < side)).all() else None


def stroke(path: NDArray[np.float64], width: float, side: int) -> tuple[tuple[int, int], NDArray[np.bool_]]:
    """A line of some width along points: row and column of a box in the square, and a mask (h, w) of it."""
    radius = width / 2
    top, left = np.maximum(path.min(0) - radius - 4, 0).astype(int)
    bottom, right = np.minimum(path.max(0) + radius + 4, side).astype(int)
    mask = np.zeros((bottom - top, right - left), bool)
    for row, col in path - (top, left):
        rows = slice(max(0, int(row - radius)), int(row + radius) + 2)
        cols = slice(max(0, int(col - radius)), int(col + radius) + 2)
        here = mask[rows, cols]
        down, along = np.ogrid[rows.start : rows.start + here.shape[0], cols.start : cols.start + here.shape[1]]
        here |= (down - row) ** 2 + (along - col) ** 2 < radius**2
    return (int(top), int(left)), mask
