"""The objects of a run: what was joined, with class, score, and how many of those who could see it did."""

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.stitch.links import LIKE, Conflicts, Links, Pairs, Segments
from pipeline.stitch.queries import SURE, Rules
from pipeline.stitch.resolve import Edges, cluster
from pipeline.stitch.window import UNIT

OTHER_CLASS_NEEDS = 0.5
"""Likeness from which segments of different classes are one object."""

VOTE = 0.5
"""The least vote of an object: below it most of the tiles that could see it did not."""

COUNTERS = 2**22
"""Sums of a cluster and a class that are made at a time: so many classes may have any number of clusters."""


class Objects(NamedTuple):
    """N objects, in the order of the tiles that first see them, and what their n segments belong to.

    Attributes:
        classes: (N,) int64.
        scores: (N,) int64 in units of 1 / `SURE`: those of its segments, by their shares.
        votes: (N,) int64 in units of 1 / `SURE`.
        keys: (n,) uint64 of segments, ascending.
        numbers: (n,) int64, the object of each segment, from 1; 0 where it was dropped.
    """

    classes: NDArray[np.int64]
    scores: NDArray[np.int64]
    votes: NDArray[np.int64]
    keys: NDArray[np.uint64]
    numbers: NDArray[np.int64]

    def numbers_of(self, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        """The objects of some segments; 0 where they have none."""
        places = np.searchsorted(self.keys, keys)
        found = np.zeros(len(keys), np.int64)
        known = places < len(self.keys)
        known[known] = self.keys[places[known]] == keys[known]
        found[known] = self.numbers[places[known]]
        return found


def resolve(links: Links, rules: Rules, cell: int) -> Objects:
    """Join segments to objects.

    Args:
        links: of all tiles, in any order.
        rules: merge_threshold and min_area count here.
        cell: pixels of a cell's area.
    """
    segments, pairs, apart = _ordered(links)
    count = len(segments.keys)
    strong = pairs.likeness >= np.where(pairs.alike, rules.merge_threshold, OTHER_CLASS_NEEDS) * LIKE
    edges = _edges(segments, pairs)
    lumps = np.isin(segments.keys, links.lumps.keys)
    strong &= ~(lumps[edges.first] | lumps[edges.second])
    first, _ = cluster(count, _strongest_first(edges, pairs.likeness, strong), _edges(segments, apart))
    root = first == np.arange(count)
    cluster_of = (np.cumsum(root) - 1)[first]
    facts = _facts(segments, pairs, edges, lumps, cluster_of, int(root.sum()))
    kept = ~lumps[root] & (facts.votes >= VOTE * SURE) & (facts.areas * cell >= rules.min_area * UNIT)
    numbers = np.where(kept, np.cumsum(kept), 0)[cluster_of]
    return Objects(facts.classes[kept], facts.scores[kept], facts.votes[kept], segments.keys, numbers)


def _ordered(links: Links) -> tuple[Segments, Pairs, Conflicts]:
    """The links, segments by their keys."""
    if np.all(links.segments.keys[1:] > links.segments.keys[:-1]):
        return links.segments, links.pairs, links.conflicts
    order = np.argsort(links.segments.keys)
    columns: list[Any] = [column[order] for column in links.segments]
    return Segments(*columns), links.pairs, links.conflicts


def _edges(segments: Segments, pairs: Pairs | Conflicts) -> Edges:
    """Pairs of keys as pairs of places."""
    places = (np.searchsorted(segments.keys, keys) for keys in (pairs.first, pairs.second))
    return Edges(*places)


def _strongest_first(edges: Edges, likeness: NDArray[np.integer], strong: NDArray[np.bool_]) -> Edges:
    """The strong ones of some edges, of equal ones those of lower places first."""
    first, second = (ends[strong] for ends in edges)
    order = np.lexsort((second, first, -likeness[strong]))
    return Edges(first[order], second[order])


class _Facts(NamedTuple):
    """Of clusters (N,); `areas` in cells times `UNIT`."""

    classes: NDArray[np.int64]
    scores: NDArray[np.int64]
    votes: NDArray[np.int64]
    areas: NDArray[np.int64]


def _facts(
    segments: Segments,
    pairs: Pairs,
    edges: Edges,
    lumps: NDArray[np.bool_],
    cluster_of: NDArray[np.int64],
    count: int,
) -> _Facts:
    """What segments and pairs say of clusters; a lump's tile has seen, in part, each object that it holds."""

    def summed(values: NDArray[np.int64]) -> NDArray[np.int64]:
        return _sums(cluster_of, values, count)

    areas = summed(segments.shares)
    scores = _quotient(summed(segments.shares * segments.scores), areas)
    inside = cluster_of[edges.first] == cluster_of[edges.second]
    agreed = summed(segments.own) + 2 * _sums(cluster_of[edges.first[inside]], pairs.shared[inside], count)
    for ends, others in ((edges.first, edges.second), (edges.second, edges.first)):
        seen = lumps[others]
        agreed += _sums(cluster_of[ends[seen]], pairs.shared[seen], count)
    votes = np.minimum(SURE, _quotient(agreed * SURE, areas * UNIT))
    return _Facts(_classes(segments, cluster_of, count), scores, votes, areas)


def _classes(segments: Segments, cluster_of: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Each cluster's likeliest class, every segment counting by area and score; the lower of equal ones."""
    kinds = int(segments.classes.max(initial=0)) + 1
    some = max(1, COUNTERS // kinds)
    order = np.argsort(cluster_of, kind="stable")
    bounds = np.searchsorted(cluster_of[order], np.arange(0, count + some, some))
    classes = np.zeros(count, np.int64)
    for low, (start, stop) in zip(range(0, count, some), pairwise(bounds), strict=True):
        totals = np.zeros((min(some, count - low), kinds), np.int64)
        members = order[start:stop]
        weights = segments.areas[members] * segments.scores[members]
        for kind, prob in zip(segments.classes[members].T, segments.class_probs[members].T, strict=True):
            np.add.at(totals, (cluster_of[members] - low, kind), weights * prob)
        classes[low : low + some] = totals.argmax(1)
    return classes


def _sums(at: NDArray[np.int64], values: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Sums of integers by place, (count,), exact."""
    found = np.zeros(count, np.int64)
    np.add.at(found, at, values)
    return found


def _quotient(number: NDArray[np.int64], divisor: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rounded; of nothing 0."""
    return (number + divisor // 2) // np.maximum(divisor, 1)
