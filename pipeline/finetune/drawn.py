"""Drawn landscapes that join a training: more of roads and roofs than a handful of labelled scenes can show."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline.errors import UsageError
from pipeline.scenes import CLASSES, draw_scene, write_scene, write_truth
from pipeline.truth.pairs import Pair

FIRST_SEED = 1000
"""Of the scenes for training; those below it are for the demo and for tests."""

SIDE = 1024
"""Pixels a side."""

SHARE = 0.25
"""Of all crops that are taken from drawn scenes."""


@contextmanager
def drawn_pairs(count: int, classes: tuple[str, ...] | None) -> Iterator[list[Pair]]:
    """Draw so many scenes into files that are there as long as the context is.

    Raises:
        UsageError: The training has other classes than drawn scenes have.
    """
    if count and classes != CLASSES:
        raise UsageError(f"--drawn {count}: drawn scenes have other classes; give --classes {','.join(CLASSES)}")
    with TemporaryDirectory(prefix="eomt-batch-drawn-") as folder:
        yield [_draw(Path(folder), FIRST_SEED + index) for index in range(count)]


def _draw(folder: Path, seed: int) -> Pair:
    scene = draw_scene(SIDE, seed)
    pair = Pair(f"drawn-{seed}", folder / f"{seed}-image.tif", folder / f"{seed}-labels.tif")
    write_scene(pair.image, scene)
    write_truth(pair.labels, scene)
    return pair


def drawn_weight(weights: list[float], count: int) -> float:
    """The weight of each of `count` drawn scenes beside real scenes of the given weights."""
    return sum(weights) * SHARE / (1 - SHARE) / count
