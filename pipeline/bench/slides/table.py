"""The table: rules that join objects against each other on a slide, and against each image in a forward of its own.

The grid of tiles begins in the middle of an image, so that cuts run through the images. All rules start from the same
inference; a second one, its grid moved by half a stride, tells how much of an answer is owed to the grid.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from pipeline.bench.slides.infer import infer
from pipeline.bench.slides.slide import Slide
from pipeline.bench.stitching.metrics import Scores, crossing, score
from pipeline.bench.stitching.rules import OF_STRIPS, RULES
from pipeline.bench.stitching.table import Measurement, Method, by, ours
from pipeline.config import RunConfig
from pipeline.evaluate import Contingency

ALONE = "each alone"
"""The row of images in forwards of their own."""

METHODS: dict[str, Method] = {
    **{name: by(rule) for name, rule in RULES.items()},
    "stitched": ours(0.5),
    "stitched, 0.3": ours(0.3),
}
"""All rules that are compared, by the name in the table."""


@dataclass(frozen=True)
class SlideScores(Scores):
    """Of one map of a slide, in percent.

    Attributes:
        shift_pq: panoptic quality of the map against the one that the moved grid gives; NaN where no grid is.
        crossed: true objects that a cut crosses, the same for all rules.
    """

    shift_pq: float
    crossed: float


def measure_slide(slide: Slide, overlaps: Sequence[str], config: RunConfig) -> Iterator[Measurement]:
    """Measure all rules, overlap by overlap.

    Args:
        slide: the images.
        overlaps: as `--overlap` takes them.
        config: the model, and where it runs.

    Raises:
        UsageError: options that do not go together.
        RunError: a run failed.
    """
    for overlap in overlaps:
        with TemporaryDirectory(prefix="eomt-batch-bench-") as folder:
            yield from _measure(slide.shifted, Path(folder), replace(config, overlap=overlap))


def _measure(slide: Slide, folder: Path, config: RunConfig) -> Iterator[Measurement]:
    first = infer(slide, folder / "first.zarr", config)
    step = first.plan.rows.stride // 2, first.plan.cols.stride // 2
    moved = infer(slide.from_pixel(*step), folder / "moved.zarr", config)
    overlap = first.plan.rows.overlap
    crossed = 100 * len(crossing(first.truth.ids, first.plan)) / max(1, len(first.truth))

    def measured(rule: str, found: NDArray[np.int64], shift_pq: float, seconds: float) -> Measurement:
        scores = SlideScores(**asdict(score(first.truth, found, first.plan)), shift_pq=shift_pq, crossed=crossed)
        return Measurement(overlap, rule, 0, scores, seconds)

    yield measured(ALONE, slide.alone, math.nan, math.nan)
    for rule, method in METHODS.items():
        if overlap or rule not in OF_STRIPS:
            found, seconds = method(first)
            yield measured(rule, found, 100 * _likeness(found[step[0] :, step[1] :], method(moved)[0]), seconds)


def _likeness(found: NDArray[np.int64], other: NDArray[np.int64]) -> float:
    """Panoptic quality of one map against another."""
    pairs = Contingency()
    pairs.add(found, other)
    return pairs.quality().scores.pq
