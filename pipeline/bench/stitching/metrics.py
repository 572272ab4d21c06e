"""How good a map of ids is, as a whole, along the cuts, and of the largest objects. Classes play no part."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.bench.stitching.pieces import cuts
from pipeline.bench.stitching.scene import Truth
from pipeline.evaluate.instances import Quality
from pipeline.evaluate.tally import Tally
from pipeline.stitch.seams import SeamCounter
from pipeline.tiling import TilePlan

NEVER = 2**32 - 1
"""No id: nothing is left out where seams are counted."""

COVERED, TOUCHED = 0.5, 0.1
"""Share of a true object that an id must cover to count as merged with others; and as one of those it is split into."""

ROWS = 512
"""Rows in which seams are counted at a time."""


@dataclass(frozen=True)
class Scores:
    """Of one map, the shares in percent.

    Attributes:
        pq: panoptic quality of all objects.
        sq: mean IoU of those that match.
        rq: F1 score of matching.
        seam_pq: panoptic quality of the true objects that a cut crosses. Of the predicted ones without a match, those
            count as false that cross a cut themselves, or whose best true one is crossed: the halves of what was cut
            and not joined are among them, what was never near a cut is not.
        big_iou: mean IoU of the true objects that are longer than a tile, 0 where nothing matches; NaN without any.
        over_merge: true objects that are mostly of one id with others.
        over_split: true objects of which two ids or more have a tenth each.
        seam_ratio: label changes on the lines of tiles against elsewhere, see `pipeline.stitch.seams`.
        seam_cells: label changes on cuts where the truth does not change, per 1000 cells of cut.
    """

    pq: float
    sq: float
    rq: float
    seam_pq: float
    big_iou: float
    over_merge: int
    over_split: int
    seam_ratio: float
    seam_cells: float


@dataclass(frozen=True, eq=False)
class Overlaps:
    """m pairs of true and predicted objects that share cells.

    Attributes:
        true: (m,) int64, true ids.
        found: (m,) int64, predicted ids, as places in `ids`.
        shared: (m,) int64, cells.
        true_areas: (N + 1,) int64.
        ids: (P,) int64, predicted ids, ascending, without 0.
        areas: (P,) int64.
    """

    true: NDArray[np.int64]
    found: NDArray[np.int64]
    shared: NDArray[np.int64]
    true_areas: NDArray[np.int64]
    ids: NDArray[np.int64]
    areas: NDArray[np.int64]

    @classmethod
    def of(cls, truth: Truth, found: NDArray[np.int64]) -> "Overlaps":
        """Count a map (H, W) of ids below 2^32."""
        tally = Tally()
        tally.add(*_runs(truth.ids.ravel().astype(np.uint64) << np.uint64(32) | found.ravel().astype(np.uint64)))
        keys, cells = tally.items()
        true, ids = (keys >> np.uint64(32)).astype(np.int64), (keys & np.uint64(NEVER)).astype(np.int64)
        some = ids > 0
        names, places = np.unique(ids[some], return_inverse=True)
        areas = np.bincount(places, cells[some], minlength=len(names)).astype(np.int64)
        both = true[some] > 0
        return cls(true[some][both], places[both], cells[some][both], truth.areas, names, areas)

    @property
    def iou(self) -> NDArray[np.float64]:
        """Of each pair, (m,)."""
        return np.asarray(self.shared / (self.true_areas[self.true] + self.areas[self.found] - self.shared))

    @property
    def matches(self) -> NDArray[np.bool_]:
        """Which pairs match, (m,): an object has one match at most."""
        return self.iou > 0.5

    def quality(self, true: NDArray[np.bool_], found: NDArray[np.bool_]) -> Quality:
        """The quality of some true objects, (N + 1,), where some predicted ones, (P,), count as false."""
        match = self.matches
        right = match & true[self.true]
        false = found.copy()
        false[self.found[match]] = False
        matched = int(right.sum())
        return Quality(matched, int(false.sum()), int(true[1:].sum()) - matched, float(self.iou[right].sum()))

    def best(self) -> NDArray[np.int64]:
        """The true object that each predicted one shares most with, (P,); 0 of none."""
        order = np.lexsort((-self.true, self.shared))
        best = np.zeros(len(self.ids), np.int64)
        best[self.found[order]] = self.true[order]
        return best


def score(truth: Truth, found: NDArray[np.int64], plan: TilePlan) -> Scores:
    """Score a map (H, W) of ids from 1, 0 where nothing is."""
    overlaps = Overlaps.of(truth, found)
    whole = overlaps.quality(np.ones(len(truth) + 1, bool), np.ones(len(overlaps.ids), bool)).scores
    return Scores(
        pq=100 * whole.pq,
        sq=100 * whole.sq,
        rq=100 * whole.rq,
        seam_pq=100 * seam_quality(overlaps, truth, found, plan).scores.pq,
        big_iou=100 * big_iou(overlaps, truth, plan),
        over_merge=over_merged(overlaps),
        over_split=over_split(overlaps),
        seam_ratio=seam_ratio(found, plan),
        seam_cells=seam_cells(truth, found, plan),
    )


def _runs(keys: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Runs of equal keys, and their lengths: there are far fewer than cells."""
    starts = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]])
    return keys[starts], np.diff(starts, append=len(keys))


def seam_quality(overlaps: Overlaps, truth: Truth, found: NDArray[np.int64], plan: TilePlan) -> Quality:
    """The quality along cuts; see `Scores.seam_pq`."""
    crossed = np.zeros(len(truth) + 1, bool)
    crossed[crossing(truth.ids, plan)] = True
    false = crossed[overlaps.best()] | np.isin(overlaps.ids, crossing(found, plan))
    return overlaps.quality(crossed, false)


def crossing(ids: NDArray[np.integer], plan: TilePlan) -> NDArray[np.integer]:
    """The ids of a map (H, W) that lie on both sides of a cut, next to each other."""
    found = []
    for before, behind in _sides(ids, plan):
        found.append(before[(before == behind) & (before > 0)])
    return np.unique(np.concatenate(found))


def _sides(ids: NDArray[np.integer], plan: TilePlan) -> list[tuple[NDArray[np.integer], NDArray[np.integer]]]:
    """The cells before and behind the cuts, for rows and columns: (cuts, cells) each."""
    rows, cols = (np.array(cuts(axis), int) for axis in (plan.rows, plan.cols))
    return [(ids[rows - 1], ids[rows]), (ids.T[cols - 1], ids.T[cols])]


def big_iou(overlaps: Overlaps, truth: Truth, plan: TilePlan) -> float:
    """Mean IoU of objects longer than a tile."""
    big = np.array([box.height > plan.tile_size[0] or box.width > plan.tile_size[1] for box in truth.boxes])
    match = overlaps.matches & big[overlaps.true]
    return float(overlaps.iou[match].sum() / big.sum()) if big.any() else float("nan")


def over_merged(overlaps: Overlaps) -> int:
    """True objects that share the id that covers half of them or more with another such one."""
    mostly = overlaps.shared >= COVERED * overlaps.true_areas[overlaps.true]
    ids, true = overlaps.found[mostly], overlaps.true[mostly]
    together = np.bincount(ids, minlength=1) > 1
    return len(np.unique(true[together[ids]]))


def over_split(overlaps: Overlaps) -> int:
    """True objects with two ids or more, each on a tenth of it or more."""
    parts = overlaps.shared >= TOUCHED * overlaps.true_areas[overlaps.true]
    return int((np.bincount(overlaps.true[parts], minlength=1) > 1).sum())


def seam_ratio(found: NDArray[np.int64], plan: TilePlan) -> float:
    """The seam gradient ratio of a map (H, W)."""
    counter = SeamCounter(plan, NEVER)
    for row in range(0, len(found), ROWS):
        counter.add(found[row : row + ROWS], row, 0)
    return counter.seams.ratio


def seam_cells(truth: Truth, found: NDArray[np.int64], plan: TilePlan) -> float:
    """Label changes on cuts where the truth is quiet, per 1000 cells of cut; NaN without cuts."""
    changes = cells = 0
    for (before, behind), (one, other) in zip(_sides(found, plan), _sides(truth.ids, plan), strict=True):
        changes += int(((before != behind) & (one == other)).sum())
        cells += one.size
    return 1000 * changes / cells if cells else float("nan")
