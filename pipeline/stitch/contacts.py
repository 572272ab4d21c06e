"""Where two things of one tile touch: a border that other tiles see too, or that they take for the inside of one."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipeline.stitch.views import View

REACH = 3
"""Cells from one thing to the next within which they touch."""

ENOUGH = 3
"""Contacts from which two things count as touching."""


SMALL, OFTEN = 32**2, 4
"""Cells below which a thing is taken for one with its neighbour more often than for two, and how much more often."""


@dataclass(frozen=True, eq=False)
class Contacts:
    """The m contacts between c pairs of touching things of one tile, and the votes on each pair.

    Attributes:
        first: (c,) int64, the lower segment of a pair.
        second: (c,) int64, the higher.
        pair: (m,) int64, the pair of each contact.
        here: (m, 2) int64, row and column of a contact on the one side.
        there: (m, 2) int64, on the other.
        split: (c,) int64, what speaks for two objects.
        merge: (c,) int64, what speaks for one.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    pair: NDArray[np.int64]
    here: NDArray[np.int64]
    there: NDArray[np.int64]
    split: NDArray[np.int64] = field(init=False)
    merge: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        for name in ("split", "merge"):
            object.__setattr__(self, name, np.zeros(len(self.first), np.int64))

    def vote(self, view: View, other: View) -> None:
        """Let another tile say, of the contacts where it sees things on both sides, whether these are one.

        Each tile's word counts by its weight there, the own tile's for two.
        """
        offset = np.array(view.window[:2]) - other.window[:2]
        here, there = self.here + offset, self.there + offset
        seen = np.all((here >= 0) & (there >= 0) & (here < other.things.shape) & (there < other.things.shape), axis=1)
        one, two = (other.things[tuple(places[seen].T)] for places in (here, there))
        both = (one >= 0) & (two >= 0)
        pair, same = self.pair[seen][both], (one == two)[both]
        own = view.weights[tuple(self.here[seen][both].T)]
        others = other.weights[tuple(here[seen][both].T)]
        self.split[:] += self._sums(pair, own + np.where(same, 0, others))
        self.merge[:] += self._sums(pair, np.where(same, others, 0))

    def _sums(self, pair: NDArray[np.int64], values: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.bincount(pair, values, minlength=len(self.first)).astype(np.int64)

    def apart(self, areas: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which pairs are two objects: where nobody else could look, the own tile decides.

        Args:
            areas: (n,) cells of each of the tile's things.
        """
        small = np.minimum(areas[self.first], areas[self.second]) < SMALL
        split: NDArray[np.bool_] = (self.merge == 0) | (self.split * np.where(small, OFTEN, 1) >= self.merge)
        return split


def touching(things: NDArray[np.int32]) -> Contacts:
    """The contacts of a tile's things (h, w), along its rows and columns, across gaps of up to `REACH` - 1 cells."""
    found = [part for distance in range(1, REACH + 1) for part in _contacts(things, distance)]
    here, there = (np.concatenate([part[side] for part in found]) for side in range(2))
    ends = np.sort(np.stack([things[tuple(here.T)], things[tuple(there.T)]]).astype(np.int64), axis=0)
    codes, pair, counts = np.unique(ends[0] << 32 | ends[1], return_inverse=True, return_counts=True)
    enough = counts >= ENOUGH
    kept, number = enough[pair], np.cumsum(enough) - 1
    codes = codes[enough]
    return Contacts(codes >> 32, codes & (2**32 - 1), number[pair[kept]], here[kept], there[kept])


def _contacts(things: NDArray[np.int32], distance: int) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Cells `distance` apart in a row or column that hold different things, with nothing between them."""
    found = []
    for axis in range(2):
        lines = things if axis == 0 else things.T
        near, far = lines[:-distance], lines[distance:]
        apart = (near >= 0) & (far >= 0) & (near != far)
        for step in range(1, distance):
            apart &= lines[step : len(lines) - distance + step] < 0
        here = np.argwhere(apart)
        there = here + np.array([distance, 0])
        found.append((here, there) if axis == 0 else (here[:, ::-1], there[:, ::-1]))
    return found
