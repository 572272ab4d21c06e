"""How well predicted objects match the true ones: panoptic quality, and average precision at an IoU of one half.

Both know the objects as maps of ids, 0 the background, and need of them only how many pixels each pair of objects
shares; these counts are summed over blocks, so objects may be larger than a block. Classes play no part.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.evaluate.confusion import check_labels
from pipeline.evaluate.tally import Tally

IDS = 2**32 - 1
"""Ids are below it; as a true id it stands for void."""

_SHIFT, _LOW = np.uint64(32), np.uint64(2**32 - 1)

RECALLS = 101
"""Recalls, evenly from 0 to 1, at which precision is read for the average; as COCO does."""


class PanopticScores(NamedTuple):
    """Panoptic quality and its factors; NaN where there are no objects at all.

    Attributes:
        pq: sq times rq.
        sq: Mean IoU of the matched pairs, 0 without any.
        rq: Matched pairs over the mean of true and predicted objects: an F1 score.
    """

    pq: float
    sq: float
    rq: float


@dataclass(frozen=True)
class Quality:
    """Objects that match, and that do not. Add the qualities of several images to pool their objects.

    Attributes:
        matched: Pairs with an IoU above one half, of which an object can have one only (TP).
        spurious: Predicted objects without a true one (FP); those that lie mostly in void are no fault.
        missed: True objects without a predicted one (FN).
        iou_sum: Of the matched pairs.
    """

    matched: int
    spurious: int
    missed: int
    iou_sum: float

    def __add__(self, other: "Quality") -> "Quality":
        return Quality(
            self.matched + other.matched,
            self.spurious + other.spurious,
            self.missed + other.missed,
            self.iou_sum + other.iou_sum,
        )

    @property
    def scores(self) -> PanopticScores:
        """PQ, SQ and RQ."""
        weight = self.matched + (self.spurious + self.missed) / 2
        if not weight:
            return PanopticScores(*[float("nan")] * 3)
        sq, rq = self.iou_sum / max(self.matched, 1), self.matched / weight
        return PanopticScores(sq * rq, sq, rq)


def average(qualities: Iterable[Quality]) -> PanopticScores:
    """The mean of several images' scores, each image counting the same; images without objects are left out."""
    scores = [quality.scores for quality in qualities]
    known = np.array([values for values in scores if not np.isnan(values.pq)]).reshape(-1, 3)
    return PanopticScores(*(known.mean(0).tolist() if len(known) else [float("nan")] * 3))


@dataclass(frozen=True, eq=False)
class Detections:
    """Predicted objects by score, and which of them are right. Add those of several images to pool them.

    Attributes:
        scores: (N,) float64.
        right: (N,) bool: matched with a true object at an IoU of one half or more.
        truths: How many true objects there are.
    """

    scores: NDArray[np.float64]
    right: NDArray[np.bool_]
    truths: int

    def __add__(self, other: "Detections") -> "Detections":
        return Detections(
            np.concatenate([self.scores, other.scores]),
            np.concatenate([self.right, other.right]),
            self.truths + other.truths,
        )

    @property
    def average_precision(self) -> float:
        """AP50: the mean over 101 recalls of the best precision at that recall or above; NaN without true objects.

        Objects of one score come together, so that the result does not depend on their order; COCO, which takes them
        one by one, may differ there. Without different scores it is precision times the recalls that are reached.
        """
        if not self.truths:
            return float("nan")
        order = np.argsort(-self.scores, kind="stable")
        right, last = np.cumsum(self.right[order]), np.diff(self.scores[order], append=np.nan) != 0
        hits, found = right[last], np.flatnonzero(last) + 1
        precision = np.maximum.accumulate((hits / found)[::-1])[::-1]
        needed = -(-np.arange(RECALLS) * self.truths // (RECALLS - 1))  # exact, as a quotient of floats is not
        at = np.searchsorted(hits, needed)
        return float(np.append(precision, 0)[at].mean())


class _Overlaps(NamedTuple):
    """Pairs of objects that share pixels, and the objects. Areas are without void.

    Attributes:
        truths: (T,) true ids.
        found: (P,) predicted ids.
        in_void: (P,) bool: more than half of the predicted object is void.
        pairs: (N, 2) indices into `truths` and `found`.
        shared: (N,) pixels that a pair shares.
        union: (N,) pixels that a pair covers.
    """

    truths: NDArray[np.uint64]
    found: NDArray[np.uint64]
    in_void: NDArray[np.bool_]
    pairs: NDArray[np.int64]
    shared: NDArray[np.int64]
    union: NDArray[np.int64]

    @property
    def iou(self) -> NDArray[np.float64]:
        """(N,)."""
        return np.asarray(self.shared / self.union)


class Contingency:
    """Pixels by pair of true and predicted id, added block by block; memory follows the number of pairs.

    Args:
        ignore: The truth's value for pixels that are void, or None.
    """

    def __init__(self, ignore: int | None = None) -> None:
        self.ignore = ignore
        self._pairs = Tally()

    def add(self, truth: ArrayLike, predicted: ArrayLike) -> None:
        """Count pixels.

        Args:
            truth: Integers of any shape: ids from 1, 0 for background, and the value to ignore.
            predicted: Of the same shape: ids from 1, 0 for background.

        Raises:
            StrayLabel: An id that is negative, or above 32 bits; nothing was counted.
        """
        true, found = np.asarray(truth), np.asarray(predicted)
        if true.shape != found.shape:
            raise ValueError(f"truth is {true.shape}, prediction {found.shape}; they must have one shape")
        void = np.zeros(true.shape, bool) if self.ignore is None else true == self.ignore
        check_labels(true, ~void, IDS, "instance id")
        check_labels(found, np.ones(found.shape, bool), IDS, "instance id", of_prediction=True)
        keep = (found > 0) | ((true != 0) & ~void)
        ids = np.where(void, IDS, true)[keep].astype(np.uint64)
        self._pairs.add(ids << _SHIFT | found[keep].astype(np.uint64))
        self.__dict__.pop("_overlaps", None)

    @cached_property
    def _overlaps(self) -> _Overlaps:
        keys, pixels = self._pairs.items()
        true, found = keys >> _SHIFT, keys & _LOW
        known = true != IDS
        truths, true_at = np.unique(true, return_inverse=True)
        others, found_at = np.unique(found, return_inverse=True)
        true_area = _sums(true_at, pixels, len(truths))
        area, void = (_sums(found_at[part], pixels[part], len(others)) for part in (known, ~known))
        both = known & (true > 0) & (found > 0)
        shared, pairs = pixels[both], np.stack([true_at[both], found_at[both]], 1)
        union = true_area[pairs[:, 0]] + area[pairs[:, 1]] - shared
        return _Overlaps(truths, others, void > area, pairs, shared, union)

    def quality(self) -> Quality:
        """Matches at an IoU above one half, and what is left over."""
        found = self._overlaps
        match = 2 * found.shared > found.union
        spurious = (found.found > 0) & ~found.in_void
        spurious[found.pairs[match, 1]] = False
        matched = int(match.sum())
        return Quality(matched, int(spurious.sum()), self.truths - matched, float(found.iou[match].sum()))

    @property
    def truths(self) -> int:
        """How many true objects there are."""
        ids = self._overlaps.truths
        return int(((ids > 0) & (ids != IDS)).sum())

    @property
    def predictions(self) -> list[int]:
        """The predicted ids, ascending."""
        ids = self._overlaps.found
        return [int(id) for id in ids[ids > 0]]

    def detections(self, scores: Mapping[int, float] | None = None) -> Detections:
        """The predicted objects as detections, matched from the highest score down, each with the best that is left.

        Args:
            scores: By predicted id; all the same if left out.

        Raises:
            KeyError: A predicted id without a score.
        """
        found = self._overlaps
        score = np.array([scores[int(id)] if scores is not None and id else 0.0 for id in found.found])
        right = self._matched(score)
        counts = (found.found > 0) & (right | ~found.in_void)
        return Detections(score[counts], right[counts], self.truths)

    def _matched(self, score: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which predicted objects get a true one; at exactly one half, two may want the same."""
        found = self._overlaps
        near = np.flatnonzero(2 * found.shared >= found.union)
        true, other = found.pairs[near].T
        order = np.lexsort((true, -found.iou[near], other, -score[other]))
        taken, right = np.zeros(len(found.truths), bool), np.zeros(len(found.found), bool)
        for index in order:
            if not (taken[true[index]] or right[other[index]]):
                taken[true[index]] = right[other[index]] = True
        return right


def _sums(index: NDArray[np.intp], amounts: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """The amounts summed by index; in integers, which bincount's weights are not."""
    sums = np.zeros(size, np.int64)
    np.add.at(sums, index, amounts)
    return sums
