"""Where two things of one tile touch: a border, if they are two objects and not one that the model saw as two."""

import numpy as np
from numpy.typing import NDArray

REACH = 3
"""Cells from one thing to the next within which they touch."""

ENOUGH = 3
"""Contacts from which two things count as touching."""


def touching(things: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The pairs of a tile's things (h, w) that touch, along its rows and columns: the lower of each, and the higher."""
    ends = np.concatenate([_contacts(things, distance) for distance in range(1, REACH + 1)], axis=1)
    codes, counts = np.unique(ends.min(0) << 32 | ends.max(0), return_counts=True)
    pairs = codes[counts >= ENOUGH]
    return pairs >> 32, pairs & (2**32 - 1)


def _contacts(things: NDArray[np.int32], distance: int) -> NDArray[np.int64]:
    """The different things that cells `distance` apart in a row or column hold, with nothing between them, (2, m)."""
    found = []
    for lines in (things, things.T):
        near, far = lines[:-distance], lines[distance:]
        apart = (near >= 0) & (far >= 0) & (near != far)
        for step in range(1, distance):
            apart &= lines[step : len(lines) - distance + step] < 0
        found.append(np.stack([near[apart], far[apart]]))
    return np.concatenate(found, axis=1).astype(np.int64)
