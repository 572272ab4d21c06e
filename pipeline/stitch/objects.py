"""The objects of a run: what was joined, with class, score, and how many of those who could see it did."""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.stitch.grouping import Grouping, group, places_of
from pipeline.stitch.links import Links, Segments
from pipeline.stitch.queries import SURE, Rules
from pipeline.stitch.totals import likeliest_classes, total
from pipeline.stitch.window import UNIT

VOTE = 0.5
"""The least vote of an object: below it most of the tiles that could see it did not."""


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


def resolve(links: Links, rules: Rules, cell: int, tile: int) -> Objects:
    """Join segments to objects.

    Args:
        links: of all tiles, in any order.
        rules: merge_threshold and min_area count here.
        cell: pixels of a cell's area.
        tile: cells of a tile's area.
    """
    links = _ordered(links)
    return objects_of(links, group(links, rules, tile), rules, cell)


def objects_of(links: Links, grouping: Grouping, rules: Rules, cell: int) -> Objects:
    """The objects that the clusters of segments are, those of too few votes or pixels left out.

    Args:
        links: the segments by ascending keys.
        grouping: of the segments.
        rules: min_area counts here.
        cell: pixels of a cell's area.
    """
    root = grouping.first == np.arange(len(grouping.first))
    cluster_of = (np.cumsum(root) - 1)[grouping.first]
    facts = _facts(links, grouping, cluster_of, int(root.sum()))
    kept = ~grouping.lumps[root] & (facts.votes >= VOTE * SURE) & (facts.areas * cell >= rules.min_area * UNIT)
    numbers = np.where(kept, np.cumsum(kept), 0)[cluster_of]
    return Objects(facts.classes[kept], facts.scores[kept], facts.votes[kept], links.segments.keys, numbers)


def _ordered(links: Links) -> Links:
    """The links, segments by their keys."""
    keys = links.segments.keys
    if np.all(keys[1:] > keys[:-1]):
        return links
    order = np.argsort(keys)
    columns: list[Any] = [column[order] for column in links.segments]
    return replace(links, segments=Segments(*columns))


class _Facts(NamedTuple):
    """Of clusters (N,); `areas` in cells times `UNIT`."""

    classes: NDArray[np.int64]
    scores: NDArray[np.int64]
    votes: NDArray[np.int64]
    areas: NDArray[np.int64]


def _facts(links: Links, grouping: Grouping, cluster_of: NDArray[np.int64], count: int) -> _Facts:
    """What segments and pairs say of clusters; a lump's tile has seen, in part, each object that it holds."""
    segments, pairs = links.segments, links.pairs
    edges = places_of(segments, pairs)
    areas = total(cluster_of, segments.shares, count)
    scores = _quotient(total(cluster_of, segments.shares * segments.scores, count), areas)
    inside = cluster_of[edges.first] == cluster_of[edges.second]
    agreed = total(cluster_of, segments.own, count)
    agreed += 2 * total(cluster_of[edges.first[inside]], pairs.shared[inside], count)
    for ends, others in ((edges.first, edges.second), (edges.second, edges.first)):
        seen = grouping.lumps[others]
        agreed += total(cluster_of[ends[seen]], pairs.shared[seen], count)
    votes = np.minimum(SURE, _quotient(agreed * SURE, areas * UNIT))
    return _Facts(likeliest_classes(segments, cluster_of, count), scores, votes, areas)


def _quotient(number: NDArray[np.int64], divisor: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rounded; of nothing 0."""
    return (number + divisor // 2) // np.maximum(divisor, 1)
