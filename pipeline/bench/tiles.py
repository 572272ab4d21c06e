"""How good a model is at other tile sizes, overlaps and views than those of its training: its card's table."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from eomt_core.describe import describe_model
from pipeline.config import RunConfig
from pipeline.evaluate import Evaluation, evaluate_mosaic
from pipeline.run import segment_raster
from pipeline.truth.pairs import Pair

FACTORS = (0.75, 1.5, 2.0)
"""Tile sizes against the training size."""

WIDE = (0.75, 1.5)
"""Rows and columns of a tile that is no square, likewise."""

OVERLAPS = ("0", "0.5")
"""Besides the default."""


Views = Literal["none", "flips", "d4"]


@dataclass(frozen=True)
class TilesRow:
    """One way of running a model, scored over all scenes together.

    Attributes:
        tile_size: rows and columns.
        overlap: as `--overlap` takes it.
        tta: views that are averaged.
        miou: mean IoU.
        iou: per class.
        accuracy: share of the pixels that are right.
        seams: of each scene, the seam gradient ratio against that of a phantom grid.
        seconds: of all runs together.
    """

    tile_size: tuple[int, int]
    overlap: str
    tta: str
    miou: float
    iou: tuple[float, ...]
    accuracy: float
    seams: tuple[float, ...]
    seconds: float


def ways(config: RunConfig, tta: Sequence[Views]) -> Iterator[RunConfig]:
    """The training size first, then other overlaps, other sizes, and other views."""
    info = describe_model(config.model)
    rows, cols = info.architecture.image_size
    lattice = info.architecture.min_multiple
    base = replace(config, tile_size=(rows, cols))
    yield base
    for overlap in OVERLAPS:
        yield replace(base, overlap=overlap)
    for down, right in (*((factor, factor) for factor in FACTORS), WIDE):
        yield replace(base, tile_size=(_near(rows * down, lattice), _near(cols * right, lattice)))
    for views in tta:
        yield replace(base, tta=views)


def _near(length: float, lattice: int) -> int:
    return max(1, round(length / lattice)) * lattice


def measure_tiles(pairs: Sequence[Pair], config: RunConfig) -> TilesRow:
    """Run a model over all scenes in one way, and score it."""
    assert config.tile_size is not None
    with TemporaryDirectory(prefix="eomt-batch-bench-") as folder:
        found = [_measure(pair, Path(folder) / f"{pair.stem}.zarr", config) for pair in pairs]
    confusion = reduce(add, (evaluation.confusion for evaluation, _ in found if evaluation.confusion is not None))
    seams = tuple(round(evaluation.seams.relative, 3) for evaluation, _ in found if evaluation.seams is not None)
    return TilesRow(
        config.tile_size,
        config.overlap,
        config.tta,
        round(confusion.miou, 4),
        tuple(round(float(value), 4) for value in confusion.iou),
        round(confusion.accuracy, 4),
        seams,
        round(sum(seconds for _, seconds in found), 1),
    )


def _measure(pair: Pair, output: Path, config: RunConfig) -> tuple[Evaluation, float]:
    report = segment_raster(pair.image, output, config)
    return evaluate_mosaic(output, pair.labels, kind="classes"), sum(report.seconds.values())
