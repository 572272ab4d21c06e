"""The table: rules against each other on drawn scenes, at several overlaps, over several seeds.

A method is whatever makes a map of ids of a `Cut`. Those of `rules` start from fused tiles; ours reads queries.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pipeline.bench.stitching.bound import linked_by_truth
from pipeline.bench.stitching.errors import Errors
from pipeline.bench.stitching.metrics import Scores, score
from pipeline.bench.stitching.pieces import Fusions
from pipeline.bench.stitching.pixels import at_pixels
from pipeline.bench.stitching.predictor import Predictor
from pipeline.bench.stitching.rules import OF_STRIPS, RULES, Rule
from pipeline.bench.stitching.scene import RIVER, SHAPE, SIDE, STUFF, Truth, draw_truth
from pipeline.errors import UsageError
from pipeline.stitch.fuse import Fused, fuse
from pipeline.stitch.queries import QueryReader, Rules, TileQueries
from pipeline.stitch.whole import stitched
from pipeline.tiling import Tile, TilePlan

TILE, LATTICE = 512, 16

FUSION = Rules(stuff=STUFF)
"""How tiles are fused: the same for all."""


class Cut:
    """A scene, cut into tiles in one way, and what a model says of them.

    Args:
        truth: what there is, (H, W) pixels.
        plan: the tiles.
        predict: gives the queries of a tile.
        rules: of their fusion.
        stride: pixels a side of a cell.

    Attributes:
        away: seconds that were spent on getting queries, as if from a model.
    """

    def __init__(self, truth: Truth, plan: TilePlan, predict: QueryReader, rules: Rules, stride: int = 1) -> None:
        self.truth, self.plan, self.rules, self.stride = truth, plan, rules, stride
        self.away, self._predict = 0.0, predict

    def read(self, tile: Tile) -> TileQueries | None:
        """The queries of a tile."""
        start = time.perf_counter()
        queries = self._predict(tile)
        self.away += time.perf_counter() - start
        return queries

    @cached_property
    def fused(self) -> tuple[Fusions, float]:
        """All tiles fused at their pixels, and the seconds that it took."""
        start = time.perf_counter() - self.away
        tiles = self.plan.covering(self.plan.raster)
        read = {tile.rank: (tile, self.read(tile)) for tile in tiles}
        found = {rank: (tile, self._fuse(queries)) for rank, (tile, queries) in read.items() if queries is not None}
        return found, time.perf_counter() - self.away - start

    def _fuse(self, queries: TileQueries) -> Fused:
        """Segments of two classes, a thing and stuff of the drawn scenes: the rules ask for no more."""
        found = fuse(at_pixels(queries, self.stride), self.rules)
        stuff = np.isin(found.classes, list(self.rules.stuff))
        return replace(found, classes=np.where(stuff, RIVER, SHAPE))


class Case(Cut):
    """A drawn scene, cut in one way and seen by a simulated model; its cells are its pixels."""

    def __init__(self, truth: Truth, overlap: int, seed: int, errors: Errors | None = None, tile: int = TILE) -> None:
        plan = TilePlan(truth.ids.shape, (tile, tile), (overlap, overlap), LATTICE)
        super().__init__(truth, plan, Predictor(truth, plan, seed, errors), FUSION)


Method = Callable[[Cut], tuple[NDArray[np.int64], float]]
"""From a cut scene to the map (H, W) of ids, 0 where nothing is, and the seconds from queries to map."""


def by(rule: Rule) -> Method:
    """A rule that starts from fused tiles."""

    def run(case: Cut) -> tuple[NDArray[np.int64], float]:
        fusions, seconds = case.fused
        start = time.perf_counter()
        return rule(case.plan, fusions), seconds + time.perf_counter() - start

    return run


def ours(accepted: float) -> Method:
    """The stitching of this package, with the mean mask probability from which a pixel is an object's.

    Stuff is not scored.
    """

    def run(case: Cut) -> tuple[NDArray[np.int64], float]:
        start = time.perf_counter() - case.away
        found = stitched(case.plan, case.read, case.rules, case.stride, accepted)
        return np.maximum(found, 0), time.perf_counter() - case.away - start

    return run


def bound(case: Cut) -> tuple[NDArray[np.int64], float]:
    """What perfect links would give, where a cell is a pixel; no time is reckoned, as nobody has them."""
    return linked_by_truth(case.truth, case.plan, case.read, case.rules), math.nan


METHODS: dict[str, Method] = {
    **{name: by(rule) for name, rule in RULES.items()},
    "stitched": ours(0.5),
    "stitched, 0.3": ours(0.3),
    "perfect links": bound,
}
"""All that are compared, by the name in the table."""


@dataclass(frozen=True)
class Measurement:
    """One map: the scores of a rule at an overlap (in cells) on the scene of a seed, and the seconds it took."""

    overlap: int
    rule: str
    seed: int
    scores: Scores
    seconds: float


@dataclass(frozen=True)
class Row:
    """A rule at an overlap, over all seeds.

    Attributes:
        overlap: in cells.
        rule: its name.
        seeds: how many.
        mean: of each score of `Scores`, and of the seconds; None where there is none.
        error: the standard error of each mean; None of a single seed.
    """

    overlap: int
    rule: str
    seeds: int
    mean: dict[str, float | None]
    error: dict[str, float | None]

    @property
    def line(self) -> str:
        """For people: means, and after each its standard error where there is one."""
        words = (f"{_LABELS[name]} {_with_error(self.mean[name], self.error[name])}" for name in self.mean)
        return f"overlap {self.overlap:>3}   {self.rule:<13} {'   '.join(words)}"


_LABELS = {
    "pq": "PQ",
    "sq": "SQ",
    "rq": "RQ",
    "seam_pq": "seam PQ",
    "big_iou": "big IoU",
    "over_merge": "merged",
    "over_split": "split",
    "seam_ratio": "SGR",
    "seam_cells": "seams",
    "shift_pq": "shift PQ",
    "crossed": "crossed",
    "seconds": "s",
}


def _with_error(mean: float | None, error: float | None) -> str:
    if mean is None:
        return "-"
    return f"{mean:.1f}" if error is None else f"{mean:.1f} ± {error:.1f}"


def check_rules(names: Sequence[str]) -> tuple[str, ...]:
    """The names, or those of all rules where none are given.

    Raises:
        UsageError: a name that is not in the table.
    """
    for name in names:
        if name not in METHODS:
            raise UsageError(f"--rule {name}: there is none; give {', '.join(METHODS)}")
    return tuple(names) or tuple(METHODS)


def measure_stitching(
    seeds: Sequence[int],
    overlaps: Sequence[int],
    rules: Sequence[str] = tuple(METHODS),
    side: int = SIDE,
    tile: int = TILE,
    errors: Errors | None = None,
) -> Iterator[Measurement]:
    """Measure rules on the scenes of some seeds, seed by seed.

    Args:
        seeds: of scenes and errors.
        overlaps: in cells.
        rules: names of `METHODS`; those that need an overlap are left out where there is none.
        side: cells a side of a scene.
        tile: cells a side of a tile.
        errors: of the simulated model.
    """
    for seed in seeds:
        truth = draw_truth(seed, side)
        for overlap in overlaps:
            case = Case(truth, overlap, seed, errors, tile)
            for rule in rules:
                if overlap or rule not in OF_STRIPS:
                    found, seconds = METHODS[rule](case)
                    yield Measurement(overlap, rule, seed, score(truth, found, case.plan), seconds)


def tabulate(measurements: Sequence[Measurement]) -> list[Row]:
    """One row per overlap and rule, in the order in which they were first measured."""
    groups: dict[tuple[int, str], list[Measurement]] = {}
    for measurement in measurements:
        groups.setdefault((measurement.overlap, measurement.rule), []).append(measurement)
    return [_row(overlap, rule, group) for (overlap, rule), group in groups.items()]


def _row(overlap: int, rule: str, group: list[Measurement]) -> Row:
    values = [{**asdict(measurement.scores), "seconds": measurement.seconds} for measurement in group]
    columns = {name: np.array([value[name] for value in values], float) for name in values[0]}
    mean = {name: _known(float(column.mean())) for name, column in columns.items()}
    error = {name: _known(_standard_error(column)) for name, column in columns.items()}
    return Row(overlap, rule, len(group), mean, error)


def _standard_error(column: NDArray[np.float64]) -> float:
    return float(column.std(ddof=1) / math.sqrt(len(column))) if len(column) > 1 else math.nan


def _known(value: float) -> float | None:
    """None for what is no number: JSON has no other word for it."""
    return round(value, 3) if math.isfinite(value) else None
