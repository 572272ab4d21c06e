"""Which thresholds a model of objects does best with, on images that it was trained on, so that no others choose."""

from collections.abc import Callable, Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluate import Quality
from pipeline.finetune.validation import quality_of, tiles_of
from pipeline.truth.samples import TrainingScene

SCORES = (0.5, 0.7, 0.8, 0.84, 0.86, 0.88, 0.9, 0.92)
OVERLAPS = (0.4, 0.6, 0.8)
MASK = 0.5

IMAGES = 32
"""Images that are looked at, evenly chosen."""

Thresholds = tuple[float, float, float]
"""Score, overlap and mask threshold; see `eomt_core.postprocess.panoptic`."""

Objects = Callable[[NDArray[np.float32], Sequence[Thresholds]], list[NDArray[np.int32]]]
"""From pixels (C, H, W) and several thresholds to object ids (H, W) by each."""


def choose_thresholds(
    scenes: Sequence[TrainingScene], objects: Objects, tile: tuple[int, int], lattice: int
) -> Thresholds:
    """Return the score and overlap threshold of the highest panoptic quality, and the usual mask threshold.

    Args:
        scenes: with their truth.
        objects: the model.
        tile: rows and columns of a tile, for scenes that are not seen whole.
        lattice: pixels that sizes must be multiples of.
    """
    choices: list[Thresholds] = [(score, overlap, MASK) for score, overlap in product(SCORES, OVERLAPS)]
    found = {choice: Quality(0, 0, 0, 0.0) for choice in choices}
    for scene, window in tiles_of(scenes[:: max(1, len(scenes) // IMAGES)], tile, lattice)[:IMAGES]:
        pixels, truth = scene.read(window)
        for choice, ids in zip(choices, objects(pixels, choices), strict=True):
            found[choice] += quality_of(truth, ids)
    return max(choices, key=lambda choice: np.nan_to_num(found[choice].scores.pq))
