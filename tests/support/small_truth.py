"""Crops of discs and squares with their truth: two shapes that a model of a few thousand weights can learn."""

import numpy as np

from eomt_core.training.batch import Batch

BACKGROUND, DISC, SQUARE = range(3)


def draw_batch(step: int, count: int = 4, size: int = 32, instances: bool = False) -> Batch:
    """Crops with a disc and a square each, in colours of their own; the same ones for the same step.

    Labels are classes, or with `instances` 1 and 2 for the two objects.
    """
    rng = np.random.default_rng((7, step))
    pixels = rng.random((count, 3, size, size), dtype=np.float32) * 0.3
    labels = np.full((count, size, size), BACKGROUND, np.int32)
    rows, cols = np.mgrid[:size, :size]
    for crop in range(count):
        for shape in (DISC, SQUARE):
            radius = rng.integers(size // 8, size // 4)
            row, col = rng.integers(radius, size - radius, 2)
            far = np.hypot(rows - row, cols - col) if shape == DISC else np.maximum(abs(rows - row), abs(cols - col))
            labels[crop][far <= radius] = shape
            pixels[crop, shape - 1][far <= radius] += 0.6
    return Batch(pixels, labels)
