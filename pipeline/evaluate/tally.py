"""Sums by key, for more keys than could each have a place of their own."""

import numpy as np
from numpy.typing import NDArray

PENDING = 2**20
"""Entries that wait before they are merged with the others: a merge sorts them all."""

Keys = NDArray[np.uint64]
Amounts = NDArray[np.int64]


class Tally:
    """Integer sums by 64-bit key. Memory follows the number of different keys."""

    def __init__(self) -> None:
        self._merged: tuple[Keys, Amounts] = (np.empty(0, np.uint64), np.empty(0, np.int64))
        self._pending: list[tuple[Keys, Amounts]] = []
        self._waiting = 0

    def add(self, keys: NDArray[np.unsignedinteger], amounts: NDArray[np.integer] | None = None) -> None:
        """Add to the keys' sums.

        Args:
            keys: Of any shape; a key may come more than once.
            amounts: Of the same shape; 1 each if left out.
        """
        flat = np.ravel(keys).astype(np.uint64)
        ones = np.ones(len(flat), np.int64)
        self._pending.append(_summed(flat, ones if amounts is None else np.ravel(amounts).astype(np.int64)))
        self._waiting += len(self._pending[-1][0])
        if self._waiting > max(PENDING, len(self._merged[0])):
            self._merge()

    def items(self) -> tuple[Keys, Amounts]:
        """The keys (N,) uint64, ascending, and their sums (N,) int64."""
        self._merge()
        return self._merged

    def _merge(self) -> None:
        parts = [self._merged, *self._pending]
        self._merged = _summed(np.concatenate([keys for keys, _ in parts]), np.concatenate([sums for _, sums in parts]))
        self._pending, self._waiting = [], 0


def _summed(keys: Keys, amounts: Amounts) -> tuple[Keys, Amounts]:
    """The different keys, ascending, and the sum of each one's amounts."""
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    if not len(keys):
        return keys, amounts
    first = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]])
    return keys[first], np.add.reduceat(amounts[order], first)
