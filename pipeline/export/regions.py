"""The regions of a whole mosaic, traced block by block and joined across the blocks.

Rows of blocks are read from top to bottom. What does not reach the row below is done and is given away; memory holds
what does. Of that, only the outer rings matter for joining: a hole within it is final, and kept as bare points.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray

from pipeline.disjoint import DisjointSets
from pipeline.export.trace import Region, Ring, trace, without_straights
from pipeline.tiling import Window, output_blocks

SIDE = 1024
"""Pixels a side of the blocks that are traced."""

NONE = -1

Line = NDArray[np.int64]
"""Which part each pixel along a border is of, or NONE."""


class Block(NamedTuple):
    """What is traced of a window, each (H, W): values, which of them are wanted, and what is summed over a region."""

    values: NDArray[np.integer]
    wanted: NDArray[np.bool_]
    strengths: NDArray[np.integer]


Read = Callable[[Window], Block]


def regions(read: Read, shape: tuple[int, int], side: int = SIDE) -> Iterator[Region]:
    """All regions of a mosaic, each as soon as it is whole; they do not depend on the blocks, but for their order.

    Args:
        read: Gives the pixels of a window.
        shape: Rows and columns of the mosaic.
        side: Pixels a side of the blocks.
    """
    parts: list[_Part] = []
    line: Line = np.full(shape[1], NONE)
    for _, blocks in groupby(output_blocks(shape, side), lambda block: block.index[0]):
        row = _Row(parts, line)
        for block in blocks:
            yield from row.add(block.window, read(block.window))
        done, parts, line = row.close()
        yield from _given_away(done)
    yield from _given_away(parts)


def _given_away(parts: list["_Part"]) -> Iterator[Region]:
    """The regions of parts; none is held any longer, as the largest may be most of what memory holds."""
    while parts:
        yield parts.pop(0).region()


@dataclass
class _Part:
    """A region as far as it is known: its outer rings, as polygons, and the holes in it that will stay."""

    value: int
    pixels: int
    strength: float
    shells: list[Any]
    holes: list[Ring]

    @classmethod
    def of(cls, region: Region) -> "_Part":
        shell, holes = _opened(region.outline)
        return cls(region.value, region.pixels, region.strength, [shell], holes)

    def join(self, other: "_Part") -> None:
        """Take in another part of the same region."""
        self.pixels += other.pixels
        self.strength += other.strength
        self.shells += other.shells
        self.holes += other.holes

    def dissolve(self) -> None:
        """Make one outer ring of several that share edges."""
        if len(self.shells) > 1:
            shell, holes = _opened(shapely.coverage_union_all(self.shells))
            self.shells = [shell]
            self.holes += [without_straights(hole) for hole in holes]

    def region(self) -> Region:
        shell = without_straights(_points(shapely.get_exterior_ring(self.shells[0])))
        return Region(self.value, self.pixels, self.strength, shapely.Polygon(shell, self.holes))


def _opened(polygon: Any) -> tuple[Any, list[Ring]]:
    """A polygon without its holes, and those."""
    shell, *holes = shapely.get_rings(polygon)
    return shapely.polygons(shell), [_points(hole) for hole in holes]


def _points(ring: Any) -> Ring:
    points: Ring = shapely.get_coordinates(ring).astype(np.int32)
    return points


class _Row:
    """A row of blocks that is being read.

    Args:
        parts: What reaches it from above.
        above: Which part each pixel of the line above is of.
    """

    def __init__(self, parts: list[_Part], above: Line) -> None:
        self._parts = parts
        self._above = above
        self._below: Line = np.full_like(above, NONE)
        self._left: Line | None = None
        self._pairs: list[NDArray[np.int64]] = []

    def add(self, window: Window, block: Block) -> Iterator[Region]:
        """Trace the next block to the right, and give the regions that lie within it."""
        numbers, found = trace(*block, window)
        top, bottom, left, right = numbers[0], numbers[-1], numbers[:, 0], numbers[:, -1]
        reaching = np.unique(np.concatenate([top, bottom, left, right]))
        reaching = reaching[reaching > 0]
        places: Line = np.full(len(found) + 1, NONE)
        places[reaching] = len(self._parts) + np.arange(len(reaching))
        self._parts += [_Part.of(found[number - 1]) for number in reaching]
        columns = slice(window.col, window.right)
        self._meet(self._above[columns], places[top])
        if self._left is not None:
            self._meet(self._left, places[left])
        self._left, self._below[columns] = places[right], places[bottom]
        yield from (region for region, place in zip(found, places[1:], strict=True) if place == NONE)

    def _meet(self, one: Line, other: Line) -> None:
        """Note which parts lie side by side along a border."""
        both = (one != NONE) & (other != NONE)
        self._pairs.append(np.unique(np.stack([one[both], other[both]], axis=1), axis=0))

    def close(self) -> tuple[list[_Part], list[_Part], Line]:
        """The parts that are whole; those that reach the line below; and which of these each of its pixels is of."""
        sets = DisjointSets(len(self._parts))
        for one, other in np.concatenate(self._pairs).tolist():
            if self._parts[one].value == self._parts[other].value:
                sets.join(one, other)
        numbers = np.array([*sets.numbers(), NONE])  # NONE is the last one, and stays what it is
        joined = self._joined(numbers[:-1].tolist())
        below = numbers[self._below]
        reaching = np.unique(below[below != NONE])
        places: Line = np.full(len(joined) + 1, NONE)
        places[reaching] = np.arange(len(reaching))
        done = [part for part, place in zip(joined, places[:-1], strict=True) if place == NONE]
        return done, [joined[number] for number in reaching], places[below]

    def _joined(self, numbers: list[int]) -> list[_Part]:
        """One part for each number."""
        found: list[_Part] = []
        for part, number in zip(self._parts, numbers, strict=True):
            if number == len(found):
                found.append(part)
            else:
                found[number].join(part)
        for part in found:
            part.dissolve()
        return found
