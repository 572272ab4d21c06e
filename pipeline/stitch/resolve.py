"""RESOLVE: which segments are one object. Once per run, in arrays, in integers.

A signed clustering: links join segments, the likeliest first, unless that would put two segments into one object that
are known to be two. Without the second part one wrong link in a row of houses makes the row one house, and every view
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


def cluster(count: int, links: Edges, apart: Edges) -> tuple[NDArray[np.int64], int]:
    """Join `count` segments along links, in the links' order, but never two that are apart.

    Most components of the links hold no two that are apart, and are clusters as they are. The others are gone through
    link by link.

    Args:
        count: n.
        links: the strongest first.
        apart: pairs that must not be joined.

    Returns:
        The first segment of each one's cluster, (n,); and how many links were refused.
    """
    component = _components(count, links)
    firsts = _firsts(component)
    contested = np.unique(component[apart.first[component[apart.first] == component[apart.second]]])
    doubtful = np.zeros(int(component.max(initial=-1)) + 1, bool)
    doubtful[contested] = True
    inside = doubtful[component]
    if not inside.any():
        return firsts, 0
    places = np.cumsum(inside) - 1
    members = np.flatnonzero(inside)
    parts = [_within(edges, inside, places) for edges in (links, apart)]
    found, refused = _cluster_one_by_one(len(members), *parts)
    firsts[members] = members[_firsts(found)]
    return firsts, refused


def _components(count: int, links: Edges) -> NDArray[np.int64]:
    graph = coo_array((np.ones(len(links.first), bool), links), shape=(count, count))
    found: NDArray[np.int64] = connected_components(graph.tocsr(), directed=False)[1].astype(np.int64)
    return found


def _firsts(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """The first place that carries the same label as each place."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    found: NDArray[np.int64] = first[inverse]
    return found


def _within(edges: Edges, inside: NDArray[np.bool_], places: NDArray[np.int64]) -> Edges:
    kept = inside[edges.first] & inside[edges.second]
    return Edges(places[edges.first[kept]], places[edges.second[kept]])


def _cluster_one_by_one(count: int, links: Edges, apart: Edges) -> tuple[NDArray[np.int64], int]:
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
