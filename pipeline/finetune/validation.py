"""How good a model in training is on scenes that it does not learn from: every tile in its own forward."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from eomt_core.training.batch import IGNORE
from pipeline.evaluate import Confusion, Contingency, Quality
from pipeline.tiling import Window
from pipeline.truth.samples import MANY, TrainingScene

MOST_TILES = 400
"""Tiles that a validation looks at, spread over the scenes."""

WHOLE = 1024
"""Images of objects up to this many pixels a side are seen whole, as cutting would cut objects."""

SHOWN = 4
"""Tiles that the picture shows."""

Label = Callable[[NDArray[np.float32]], NDArray[np.int32]]
"""From pixels (C, H, W) to class ids or object ids (H, W)."""


class Example(NamedTuple):
    """A tile that was looked at: pixels (C, H, W), truth and answer (H, W)."""

    pixels: NDArray[np.float32]
    truth: NDArray[np.int32]
    answer: NDArray[np.int32]


class Verdict(NamedTuple):
    """A validation.

    Attributes:
        score: mIoU of classes, panoptic quality of objects.
        confusion: of classes; None for objects.
        quality: of objects, pooled over the images; None for classes.
        examples: a few tiles.
    """

    score: float
    confusion: Confusion | None
    quality: Quality | None
    examples: list[Example]


def validate(
    scenes: Sequence[tuple[str, TrainingScene]], label: Label, tile: tuple[int, int], lattice: int, num_classes: int
) -> Verdict:
    """Score a model.

    Args:
        scenes: by stem.
        label: the model.
        tile: rows and columns.
        lattice: pixels that sizes must be multiples of.
        num_classes: K.
    """
    instances = scenes[0][1].instances
    confusion, quality, examples = Confusion(num_classes, ignore=IGNORE), Quality(0, 0, 0, 0.0), []
    tiles = tiles_of([scene for _, scene in scenes], tile, lattice)
    for number, (scene, window) in enumerate(tiles):
        pixels, truth = scene.read(window)
        if len(scenes) > MANY:
            scene.close()
        answer = label(pixels)
        if instances:
            quality += quality_of(truth, answer)
        else:
            confusion.add(truth, answer)
        if number % max(1, len(tiles) // SHOWN) == 0:
            examples.append(Example(pixels, truth, answer))
    if instances:
        return Verdict(quality.scores.pq, None, quality, examples[:SHOWN])
    return Verdict(confusion.miou, confusion, None, examples[:SHOWN])


def tiles_of(
    scenes: Sequence[TrainingScene], tile: tuple[int, int], lattice: int
) -> list[tuple[TrainingScene, Window]]:
    """Tiles that cover the scenes side by side, or as many of them, evenly chosen."""
    every = [(scene, window) for scene in scenes for window in _cover(scene, tile, lattice)]
    step = -(-len(every) // MOST_TILES)
    return every[::step]


def _cover(scene: TrainingScene, tile: tuple[int, int], lattice: int) -> Iterator[Window]:
    rows, cols = scene.shape
    if scene.instances and max(rows, cols) <= WHOLE:
        yield Window(0, 0, -(-rows // lattice) * lattice, -(-cols // lattice) * lattice)
        return
    for row in range(0, rows, tile[0]):
        for col in range(0, cols, tile[1]):
            yield Window(row, col, *tile)


def quality_of(truth: NDArray[np.int32], answer: NDArray[np.int32]) -> Quality:
    """Compare two maps of object ids (H, W), where the truth is known."""
    pairs = Contingency(IGNORE)
    pairs.add(truth, answer)
    return pairs.quality()
