"""FUSE: the queries of one tile compete for its cells; those that hold their ground become its segments."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.stitch.queries import CERTAIN, SURE, Rules, TileQueries, least_code, probabilities

NO_SEGMENT = -1
"""In `Fused.labels`: a cell that no segment holds."""

SATURATED = 0.9
"""The share of a model's queries from which a tile has perhaps more objects than it can tell."""


@dataclass(frozen=True, eq=False)
class Fused:
    """The n segments of one tile, in the order of their first query.

    Attributes:
        labels: (h, w) int32, the segment that holds each cell; `NO_SEGMENT` where none does.
        queries: per segment, its queries: one, and several where stuff is merged.
        classes: (n,) int64.
        scores: (n,) int64 in units of 1 / `SURE`, of the best query.
        areas: (n,) int64, cells that it holds.
        class_probs: (n, K) float32, of the best query, without "no object".
        query_scores: (Q,) int64 in units of 1 / `SURE`, see `query_scores`.
        taking_part: how many queries competed.
    """

    labels: NDArray[np.int32]
    queries: tuple[NDArray[np.int64], ...]
    classes: NDArray[np.int64]
    scores: NDArray[np.int64]
    areas: NDArray[np.int64]
    class_probs: NDArray[np.float32]
    query_scores: NDArray[np.int64]
    taking_part: int

    def __len__(self) -> int:
        return len(self.queries)

    def saturated(self, num_queries: int) -> bool:
        """Whether nearly all of a model's queries take part: there may be more objects than it can tell."""
        return self.taking_part >= SATURATED * num_queries


def fuse(tile: TileQueries, rules: Rules) -> Fused:
    """Cut a tile into segments as `eomt_core.postprocess.panoptic` does, on its cells.

    A cell goes to the query of highest score times mask probability, the first of equal ones. A query is accepted that
    wins enough of what its mask claims; it keeps what it both wins and claims. The queries of a stuff class are one.
    """
    scores, classes = query_scores(tile, rules)
    none = tile.class_probs.shape[1] - 1
    wanted = np.flatnonzero((classes != none) & (scores > rules.score_threshold * SURE))
    owner, counts = _contest(tile, wanted, scores, least_code(rules.mask_threshold))
    won, claimed, owned = counts
    accepted = wanted[(owned > 0) & (won >= rules.overlap_threshold * claimed)]
    return _number(tile, owner, accepted, classes, scores, rules, len(wanted))


def query_scores(tile: TileQueries, rules: Rules) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Scores (n,) in units of 1 / `SURE` and best classes (n,); K is "no object".

    The outline counts only where the class alone would do: a score is rounded, so by less than one unit more.
    """
    classes = tile.class_probs.argmax(1)
    scores = tile.class_probs.max(1).astype(np.float64) if len(classes) else np.zeros(0)
    if rules.outlined:
        for query in np.flatnonzero((scores - rules.score_threshold) * SURE > -1).tolist():
            scores[query] *= _mean_inside(tile.masks[query][box_of(tile, query)])
    return np.rint(scores * SURE).astype(np.int64), classes


def box_of(tile: TileQueries, query: int) -> tuple[slice, slice]:
    """Rows and columns of the cells where a query may be."""
    top, left, bottom, right = tile.boxes[query].tolist()
    return slice(top, bottom), slice(left, right)


def _mean_inside(mask: NDArray[np.uint8]) -> float:
    """Mean probability of the cells above one half; 0 of an empty mask."""
    inside = mask[mask > least_code(0.5)]
    return float(probabilities()[inside].mean()) / CERTAIN if inside.size else 0.0


def _contest(
    tile: TileQueries, wanted: NDArray[np.int64], scores: NDArray[np.int64], least: int
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """The owner of each cell, and of each wanted query the cells that it won, claimed, and both."""
    best, owner = np.zeros(tile.valid.shape, np.int64), np.full(tile.valid.shape, NO_SEGMENT, np.int32)
    claims = np.zeros(tile.valid.shape, bool)
    claimed = np.zeros(len(tile.masks), np.int64)
    for query in wanted.tolist():
        place = box_of(tile, query)
        codes = np.where(tile.valid[place], tile.masks[query][place], np.uint8(0))
        value = probabilities()[codes] * scores[query]
        better = value > best[place]
        np.copyto(best[place], value, where=better)
        owner[place][better] = query
        claims[place][better] = codes[better] >= least
        claimed[query] = np.count_nonzero(codes >= least)
    won = np.bincount(owner[owner >= 0], minlength=len(tile.masks))
    owner[~claims] = NO_SEGMENT
    owned = np.bincount(owner[owner >= 0], minlength=len(tile.masks))
    return owner, np.stack([won, claimed, owned])[:, wanted]


def _number(
    tile: TileQueries,
    owner: NDArray[np.int32],
    accepted: NDArray[np.int64],
    classes: NDArray[np.int64],
    scores: NDArray[np.int64],
    rules: Rules,
    taking_part: int,
) -> Fused:
    """Number the segments by their first query; queries come by falling score, so that one is the best."""
    groups: dict[int, list[int]] = {}
    for query in accepted.tolist():
        stuff = int(classes[query]) in rules.stuff
        groups.setdefault(-1 - int(classes[query]) if stuff else query, []).append(query)
    table = np.full(len(tile.masks) + 1, NO_SEGMENT, np.int32)
    for index, queries in enumerate(groups.values()):
        table[queries] = index
    labels = table[owner]
    best = np.array([max(queries, key=lambda query: scores[query]) for queries in groups.values()], np.int64)
    return Fused(
        labels,
        tuple(np.array(queries) for queries in groups.values()),
        classes[best],
        scores[best],
        np.bincount(labels[labels >= 0], minlength=len(groups)),
        tile.class_probs[best, :-1],
        scores,
        taking_part,
    )
