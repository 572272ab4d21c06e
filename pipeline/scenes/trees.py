"""Single trees: round crowns in rows along streets and in clumps."""

import numpy as np
from numpy.typing import NDArray

from pipeline.scenes.canvas import BUILDING, LAND, VEGETATION, Canvas
from pipeline.scenes.noise import Field, Mask, fractal


def plant(canvas: Canvas, spots: NDArray[np.intp], radii: NDArray[np.intp]) -> None:
    """Set crowns on spots (N, 2) with radii (N,) in pixels; what grows beside a house belongs to its yard."""
    rng = canvas.rng
    own = (radii >= 3) & (canvas.classes[spots[:, 0], spots[:, 1]] != BUILDING)
    tones = np.array([0.17, 0.21, 0.14]) * rng.uniform(0.7, 1.4, (len(spots), 1))
    for radius in np.unique(radii):
        rows, cols = spots[radii == radius].T
        tint, counts = tones[radii == radius].astype(np.float32), own[radii == radius]
        for down, right in np.argwhere(np.ones((2 * radius + 1,) * 2)) - radius:
            if (square := down**2 + right**2) <= (radius + 0.3) ** 2:
                dome = 2.0 + 1.4 * float(np.sqrt(max((radius + 1) ** 2 - square, 0)))
                _set_crowns(canvas, rows + down, cols + right, tint, dome, counts)


def _set_crowns(
    canvas: Canvas,
    rows: NDArray[np.intp],
    cols: NDArray[np.intp],
    tint: NDArray[np.float32],
    dome: float,
    counts: Mask,
) -> None:
    """One pixel of many crowns."""
    on = (rows >= 0) & (cols >= 0) & (rows < canvas.shape[0]) & (cols < canvas.shape[1])
    on[on] = canvas.height[rows[on], cols[on]] < dome
    rows, cols, tint, counts = rows[on], cols[on], tint[on], counts[on]
    leaves = 1 + 0.18 * canvas.rng.standard_normal((len(rows), 1)).astype(np.float32)
    canvas.colour[rows, cols], canvas.height[rows, cols] = tint * leaves, dome
    counts &= canvas.classes[rows, cols] == LAND
    canvas.classes[rows[counts], cols[counts]] = VEGETATION


def plant_trees(canvas: Canvas) -> None:
    """Trees in yards, on lawns and beside roads, thick in some places and thin in others."""
    rng, shape = canvas.rng, canvas.shape
    thick = np.clip(1 + fractal(shape, 200, rng, 3), 0, 3)
    chance = np.zeros(shape, np.float32)
    chance[canvas.classes == BUILDING] = rng.uniform(0.002, 0.012)
    chance[canvas.classes == VEGETATION] = 0.002
    chance[canvas.height > 2.5] = 0
    _scatter(canvas, chance * thick, 2, 5)


def plant_avenues(canvas: Canvas, verge: Mask) -> None:
    """Rows of trees on a mask one or two pixels wide."""
    rng = canvas.rng
    rows, cols = np.nonzero(verge)
    keep = rng.random(len(rows)) < 0.12
    spots = np.stack([rows[keep], cols[keep]], 1)
    plant(canvas, spots, rng.integers(3, 5, len(spots)))


def _scatter(canvas: Canvas, chance: Field, low: int, high: int) -> None:
    spots = np.argwhere(canvas.rng.random(canvas.shape, np.float32) < chance)
    plant(canvas, spots, canvas.rng.integers(low, high, len(spots)))
