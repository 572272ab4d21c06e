"""RESOLVE: which segments are one object. Once per run, in arrays, in integers.

A signed clustering: links join segments, the likeliest first, unless that would put two segments into one object that
touch in a tile. Without the second part one wrong link in a row of houses makes the row one house, and every view
more is one chance more for such a link. It is Kruskal's algorithm with mutual exclusion, the Mutex Watershed of Wolf et
al. (ECCV 2018) with exclusions that are given.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


class Edges(NamedTuple):
    """m pairs of n things: `first`, `second` (m,) int64, places below n."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]


AT_ONCE = 2**18
"""Links that are looked at at a time. More of them hang together in larger components, in which more is contested."""


def cluster(count: int, links: Edges, apart: Edges) -> tuple[NDArray[np.int64], int]:
    """Join `count` segments along links, in the links' order, but never two that are apart.

    Some links at a time, between the clusters that those before them have made.

    Args:
        count: n.
        links: the strongest first.
        apart: pairs that must not be joined.

    Returns:
        The first segment of each one's cluster, (n,); and how many links were refused.
    """
    firsts, refused = np.arange(count), 0
    for start in range(0, len(links.first), AT_ONCE):
        some = _between(firsts, Edges(*(ends[start : start + AT_ONCE] for ends in links)))
        if some.first.size:
            apart = _between(firsts, apart)
            refused += _cluster_some(firsts, some, apart)
            firsts = firsts[firsts]
    return firsts, refused


def _between(firsts: NDArray[np.int64], edges: Edges) -> Edges:
    """Edges between clusters, each by its first segment, instead of between segments; none within one."""
    first, second = (firsts[ends] for ends in edges)
    across = first != second
    return Edges(first[across], second[across])


def _cluster_some(firsts: NDArray[np.int64], links: Edges, apart: Edges) -> int:
    """Let the clusters that are linked, and may be joined, have one first segment; how many links were refused.

    Most components of the links hold no two clusters that are apart, and become clusters as they are. The others are
    gone through link by link.
    """
    members = np.unique(np.concatenate(links))
    links, apart = _within(members, links), _within(members, apart)
    component = _components(len(members), links)
    joined, refused = _lowest(component), 0
    doubtful = np.zeros(len(members), bool)
    doubtful[component[apart.first[component[apart.first] == component[apart.second]]]] = True
    contested = np.flatnonzero(doubtful[component])
    if contested.size:
        found, refused = _one_by_one(len(contested), _within(contested, links), _within(contested, apart))
        joined[contested] = contested[_lowest(found)]
    firsts[members] = members[joined]
    return refused


def _within(members: NDArray[np.int64], edges: Edges) -> Edges:
    """The edges that have both ends among some places, ascending, as edges between these."""
    places = [np.searchsorted(members, ends) for ends in edges]
    known = [members.take(at, mode="clip") == ends for at, ends in zip(places, edges, strict=True)]
    both = known[0] & known[1]
    return Edges(places[0][both], places[1][both])


def _components(count: int, links: Edges) -> NDArray[np.int64]:
    graph = coo_array((np.ones(len(links.first), bool), links), shape=(count, count))
    found: NDArray[np.int64] = connected_components(graph.tocsr(), directed=False)[1].astype(np.int64)
    return found


def _lowest(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """The lowest place that carries the same label as each place."""
    lowest = np.full(len(labels), len(labels))
    np.minimum.at(lowest, labels, np.arange(len(labels)))
    return lowest[labels]


def _one_by_one(count: int, links: Edges, apart: Edges) -> tuple[NDArray[np.int64], int]:
    """Join along links unless apart; the smaller set of exclusions is always moved to the larger."""
    parent = list(range(count))
    enemies: list[set[int]] = [set() for _ in range(count)]
    for one, two in zip(apart.first.tolist(), apart.second.tolist(), strict=True):
        enemies[one].add(two)
        enemies[two].add(one)
    refused = 0
    for one, two in zip(links.first.tolist(), links.second.tolist(), strict=True):
        large, small = _root(parent, one), _root(parent, two)
        if large == small:
            continue
        if small in enemies[large]:
            refused += 1
            continue
        if len(enemies[large]) < len(enemies[small]):
            large, small = small, large
        _join(parent, enemies, large, small)
    return np.array([_root(parent, place) for place in range(count)], np.int64), refused


def _root(parent: list[int], place: int) -> int:
    while parent[place] != place:
        parent[place] = place = parent[parent[place]]
    return place


def _join(parent: list[int], enemies: list[set[int]], large: int, small: int) -> None:
    parent[small] = large
    for enemy in enemies[small]:
        enemies[enemy].discard(small)
        enemies[enemy].add(large)
    enemies[large] |= enemies[small]
    enemies[small] = set()
