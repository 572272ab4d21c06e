"""Noise for textures: random grids enlarged smoothly, and frames turned, bent or rolled into rings."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Field = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]


def smooth_noise(shape: tuple[int, int], scale: float, rng: np.random.Generator) -> Field:
    """Noise (H, W) of mean about 0 and deviation about 1 whose bumps are `scale` pixels wide."""
    rows, cols = (int(np.ceil(size / scale)) + 4 for size in shape)
    grid = Image.fromarray(rng.normal(0, 1.4, (rows, cols)).astype(np.float32))
    top, left = rng.uniform(1, 2, 2)
    box = (left, top, left + shape[1] / scale, top + shape[0] / scale)
    return np.asarray(grid.resize((shape[1], shape[0]), Image.Resampling.BICUBIC, box=box), np.float32)


def fractal(
    shape: tuple[int, int], scale: float, rng: np.random.Generator, octaves: int = 4, roughness: float = 0.6
) -> Field:
    """Noise (H, W) of deviation about 1: `octaves` layers, each half as wide and `roughness` times as strong."""
    weights = roughness ** np.arange(octaves)
    weights /= np.sqrt((weights**2).sum())
    total = np.zeros(shape, np.float32)
    for octave, weight in enumerate(weights):
        total += np.float32(weight) * smooth_noise(shape, max(scale / 2**octave, 1.5), rng)
    return total


def turned(rows: Field, cols: Field, angle: float) -> tuple[Field, Field]:
    """Coordinates along and across a direction, from rows and columns (H, W) each."""
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return rows * cos + cols * sin, cols * cos - rows * sin


def ringed(rows: Field, cols: Field, centre: NDArray[np.float64], radius: float) -> tuple[Field, Field]:
    """Distance from a centre, and length along the ring of `radius`, from rows and columns (H, W) each."""
    down, right = rows - np.float32(centre[0]), cols - np.float32(centre[1])
    return np.hypot(down, right), np.arctan2(right, down) * np.float32(radius)


def pick(table: NDArray[Any], *ids: NDArray[Any]) -> NDArray[Any]:
    """Rows of a table of random values: equal ids get equal rows, and neighbours have nothing in common."""
    mixed = np.zeros(ids[0].shape, np.int64)
    for number in ids:
        mixed = (mixed * 7919 + number.astype(np.int64) * 104729 + 12289) % 1000003
    return np.asarray(table[mixed % len(table)])
