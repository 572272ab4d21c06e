"""Sets of numbers that are joined step by step."""


class DisjointSets:
    """Each number from 0 on in a set of its own, at first."""

    def __init__(self, count: int) -> None:
        self._above = list(range(count))
        self._size = [1] * count

    def first(self, index: int) -> int:
        """The smallest member of the set that a number is in."""
        while self._above[index] != index:
            self._above[index] = self._above[self._above[index]]
            index = self._above[index]
        return index

    def join(self, one: int, other: int, most: int | None = None) -> None:
        """Make one set of the two that hold these numbers, unless it had more members than `most`."""
        low, high = sorted((self.first(one), self.first(other)))
        size = self._size[low] + self._size[high]
        if low != high and (most is None or size <= most):
            self._above[high], self._size[low] = low, size

    def numbers(self) -> list[int]:
        """The set of each number, counted from 0 in the order of their first members."""
        found: dict[int, int] = {}
        return [found.setdefault(self.first(index), len(found)) for index in range(len(self._above))]
