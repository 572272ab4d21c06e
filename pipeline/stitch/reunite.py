"""Reunite what single tiles have split: groups of segments between which fewer tiles see a border than see none.

A border between two objects is seen by most tiles that it runs through, however long it is; one that a tile has made up
is seen by that tile alone. So tiles are counted, not cells: those that see it, and those that see one thing over both
sides. It is greedy additive contraction of edges (Keuper et al., ICCV 2015), where the weight of an edge between two
groups is the lead of the second over the first.
"""

from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SMALL = 32**2
"""Cells below which a thing is seldom seen as two: where as many tiles say so as say one, it is believed."""


class Votes(NamedTuple):
    """v votes on borders between groups, the same voter on the same border counting once: all (v,) int64.

    Attributes:
        first: the group on the one side.
        second: that on the other.
        voter: who says so.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    voter: NDArray[np.int64]


@dataclass(slots=True)
class Group:
    """Segments that are one object, and what is said of its borders.

    Attributes:
        area: in cells.
        kind: the class.
        two: by neighbouring group, the tiles that see a border.
        one: by neighbouring group, the tiles that see one thing over both sides.
    """

    area: int
    kind: int
    two: dict[int, set[int]] = field(default_factory=dict)
    one: dict[int, set[int]] = field(default_factory=dict)


def reunite(groups: list[Group], two: Votes, one: Votes, large: int) -> NDArray[np.int64]:
    """Join groups, those of the greatest lead first, while any are that more tiles see as one than as two.

    Args:
        groups: n, without their votes; used up.
        two: of the tiles that see a border.
        one: of the tiles that see one thing over both sides.
        large: cells from which a thing is no part of another: many tiles see it, and would all have seen a border.

    Returns:
        The first group of those that each is joined with, (n,).
    """
    _count(groups, two, one)
    parent = list(range(len(groups)))
    leads = {(a, b): lead for a in range(len(groups)) for lead, b in _leads(groups, a, large) if a < b}
    queue = [(-lead, *pair) for pair, lead in leads.items()]
    heapify(queue)
    while queue:
        lead, first, second = heappop(queue)
        leads.pop((first, second), None)
        gone = parent[first] != first or parent[second] != second
        if gone or _lead(groups, first, second, large) != -lead:
            continue  # a lead that has changed is in the queue as well
        parent[second] = first
        _join(groups, first, second)
        for more, other in _leads(groups, first, large):
            pair = (min(first, other), max(first, other))
            if leads.get(pair) != more:
                leads[pair] = more
                heappush(queue, (-more, *pair))
    for place, above in enumerate(parent):  # a group is only ever joined with one before it
        parent[place] = parent[above]
    return np.array(parent, np.int64)


def _count(groups: list[Group], two: Votes, one: Votes) -> None:
    """Give each group its votes; both sides of a border hold the same set."""
    for votes, name in ((two, "two"), (one, "one")):
        for first, second, voter in zip(*(column.tolist() for column in votes), strict=True):
            voters = getattr(groups[first], name).setdefault(second, set())
            voters.add(voter)
            getattr(groups[second], name)[first] = voters


def _leads(groups: list[Group], group: int, large: int) -> list[tuple[float, int]]:
    """The leads above 0 of a group's neighbours, with these."""
    leads = [(_lead(groups, group, other, large), other) for other in groups[group].one]
    return [(lead, other) for lead, other in leads if lead > 0]


def _lead(groups: list[Group], first: int, second: int, large: int) -> float:
    """By how many voters two groups are one; of equally many, by half a one if they may well be parts of one."""
    mine, theirs = groups[first], groups[second]
    lead = len(mine.one.get(second, ())) - len(mine.two.get(second, ()))
    smaller = min(mine.area, theirs.area)
    parts = mine.kind == theirs.kind and SMALL <= smaller < large
    return lead or (0.5 if parts else 0)


def _join(groups: list[Group], first: int, second: int) -> None:
    """Make the second group a part of the first, which takes over its votes; the class is that of the larger."""
    kept, gone = groups[first], groups[second]
    kept.kind = kept.kind if kept.area >= gone.area else gone.kind
    kept.area += gone.area
    for name in ("two", "one"):
        mine = getattr(kept, name)
        for other, voters in getattr(gone, name).items():
            theirs = getattr(groups[other], name)
            del theirs[second]
            if other != first:
                mine[other] = theirs[first] = mine.get(other, set()) | voters
        getattr(gone, name).clear()
