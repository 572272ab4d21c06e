"""Which segments are one object: those that are linked, unless more tiles see a border between them than see none."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.stitch.covers import Covers
from pipeline.stitch.links import LIKE, Borders, Links, Pairs, Segments
from pipeline.stitch.queries import Rules
from pipeline.stitch.resolve import Edges, cluster
from pipeline.stitch.reunite import Group, Votes, reunite
from pipeline.stitch.totals import likeliest_classes, total
from pipeline.stitch.views import KEY_BITS
from pipeline.stitch.window import UNIT

OTHER_CLASS_NEEDS = 0.5
"""Likeness from which segments of different classes are one object."""


@dataclass(frozen=True, eq=False)
class Grouping:
    """The clusters of n segments.

    Attributes:
        first: (n,) int64, the first segment of each one's cluster.
        lumps: (n,) bool, segments over a border that most tiles see, and of which another tile sees all. Linked to one
            side, such a segment would blur the border and hide the other side; nothing is lost without it. It is a
            cluster of its own.
    """

    first: NDArray[np.int64]
    lumps: NDArray[np.bool_]


def group(links: Links, rules: Rules, tile: int) -> Grouping:
    """Group segments; then once more without the lumps that have come to light.

    Args:
        links: the segments by ascending keys.
        rules: merge_threshold counts here.
        tile: cells of a tile.
    """
    lumps = np.zeros(len(links.segments.keys), bool)
    first = _grouped(links, rules, tile, lumps)
    places = places_of(links.segments, links.covers)
    lumps[over(links)[links.covers.whole & (first[places.first] != first[places.second])]] = True
    return Grouping(_grouped(links, rules, tile, lumps) if lumps.any() else first, lumps)


def _grouped(links: Links, rules: Rules, tile: int, lumps: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The first segment of each one's cluster, (n,), where lumps are linked to nothing and say nothing."""
    borders = places_of(links.segments, links.borders)
    first, _ = cluster(len(lumps), _links(links, rules, lumps), borders)
    two = _votes(first, borders, links.borders.first >> np.uint64(KEY_BITS))
    sides = places_of(links.segments, links.covers)
    said = ~(lumps[over(links)] | lumps[sides.first] | lumps[sides.second])
    sides = Edges(*(ends[said] for ends in sides))
    one = _votes(first, sides, links.covers.over[said] >> np.uint64(KEY_BITS))
    return _reunited(links.segments, first, two, one, tile // 2)


def over(links: Links) -> NDArray[np.int64]:
    """The places of the segments over a border, (k,)."""
    return np.searchsorted(links.segments.keys, links.covers.over)


def places_of(segments: Segments, pairs: Pairs | Borders | Covers) -> Edges:
    """Pairs of keys as pairs of places."""
    return Edges(*(np.searchsorted(segments.keys, keys) for keys in (pairs.first, pairs.second)))


def _links(links: Links, rules: Rules, lumps: NDArray[np.bool_]) -> Edges:
    """The links that are strong enough, the strongest first, of equal ones those of lower places; none of lumps."""
    needed = np.where(links.pairs.alike, rules.merge_threshold, OTHER_CLASS_NEEDS) * LIKE
    edges = places_of(links.segments, links.pairs)
    strong = (links.pairs.likeness >= needed) & ~(lumps[edges.first] | lumps[edges.second])
    first, second = (ends[strong] for ends in edges)
    order = np.lexsort((second, first, -links.pairs.likeness[strong]))
    return Edges(first[order], second[order])


def _votes(first: NDArray[np.int64], sides: Edges, voters: NDArray[np.uint64]) -> Votes:
    """The votes on borders between clusters."""
    one, other = (first[ends] for ends in sides)
    across = one != other
    return Votes(one[across], other[across], voters[across].astype(np.int64))


def _reunited(segments: Segments, first: NDArray[np.int64], two: Votes, one: Votes, large: int) -> NDArray[np.int64]:
    """The clusters after those are joined that single tiles have split; few of all have a border that is doubted."""
    doubted = np.unique(np.concatenate([one.first, one.second]))
    members = np.flatnonzero(np.isin(first, doubted))
    cluster_of = np.searchsorted(doubted, first[members])
    columns: list[Any] = [column[members] for column in segments]
    some = Segments(*columns)
    areas = (total(cluster_of, some.shares, len(doubted)) // UNIT).tolist()
    kinds = likeliest_classes(some, cluster_of, len(doubted)).tolist()
    groups = [Group(area, kind) for area, kind in zip(areas, kinds, strict=True)]
    joined = reunite(groups, _among(doubted, two), _among(doubted, one), large)
    where = np.arange(len(first))
    where[doubted] = doubted[joined]
    return where[first]


def _among(clusters: NDArray[np.int64], votes: Votes) -> Votes:
    """The votes between some clusters, ascending, which are counted from 0."""
    both = np.isin(votes.first, clusters) & np.isin(votes.second, clusters)
    first, second = (np.searchsorted(clusters, ends[both]) for ends in (votes.first, votes.second))
    return Votes(first, second, votes.voter[both])
