"""A drawn truth of objects on the lattice of cells: all that makes stitching hard, in known numbers.

There are fields that touch and are larger than a tile, long thin lines, rows of houses wall to wall, rings, and many
small shapes, some of them in a field. Every object is connected. The ground below is of four classes of stuff.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.bench.stitching import shapes
from pipeline.bench.stitching.distances import Distances
from pipeline.scenes.noise import smooth_noise
from pipeline.tiling import Window

FIELD, LINE, HOUSE, RING, SHAPE = THINGS = range(5)
GROUNDS = range(5, 8)
RIVER = 8
STUFF = frozenset((*GROUNDS, RIVER))
CLASSES = 9

SIDE = 4096
"""Cells a side for which `COUNTS` are."""

COUNTS = {FIELD: 21, LINE: 28, HOUSE: 70, RING: 24, SHAPE: 1300}
"""Objects of each class; of houses, rows of them."""

TRIES = 150
"""Places that are tried for an object before it is left out."""

SPACING = (390, 660)
"""Cells from the middle of a field to the next one's."""

IN_FIELDS = 0.4
"""Share of the shapes that may lie in a field."""

GAP = 2
"""Cells between an object and others, besides those that touch on purpose."""


@dataclass(frozen=True, eq=False)
class Truth:
    """Objects and the ground below them.

    Attributes:
        ids: (H, W) int32, objects from 1 to N, 0 elsewhere.
        kinds: (N + 1,) int64, the class of each object; the first is of no object.
        ground: (H, W) uint8, the class of stuff, also where an object lies.
    """

    ids: NDArray[np.int32]
    kinds: NDArray[np.int64]
    ground: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.kinds) - 1

    @cached_property
    def boxes(self) -> list[Window]:
        """The box of each object; the first is empty, so that ids are places."""
        found = ndimage.find_objects(self.ids)
        return [Window(0, 0, 0, 0), *(_window(rows, cols) for rows, cols in found)]

    @cached_property
    def areas(self) -> NDArray[np.int64]:
        """Cells of each object, (N + 1,)."""
        return np.bincount(self.ids.ravel(), minlength=len(self.kinds))

    @cached_property
    def touching(self) -> list[tuple[int, int]]:
        """Pairs of objects that touch, the lower id first, ascending."""
        pairs = [_meeting(self.ids[:-1], self.ids[1:]), _meeting(self.ids[:, :-1], self.ids[:, 1:])]
        return [(int(one), int(other)) for one, other in np.unique(np.concatenate(pairs), axis=0)]

    @cached_property
    def distances(self) -> Distances:
        """How far cells are from each object's outline."""
        return Distances(self.ids, self.boxes)


def _window(rows: slice, cols: slice) -> Window:
    return Window(rows.start, cols.start, rows.stop - rows.start, cols.stop - cols.start)


def _meeting(here: NDArray[np.int32], there: NDArray[np.int32]) -> NDArray[np.int32]:
    """Pairs (n, 2) of what meets in two arrays of ids."""
    apart = (here != there) & (here > 0) & (there > 0)
    return np.unique(np.sort(np.stack([here[apart], there[apart]], 1), axis=1), axis=0)


def draw_truth(seed: int, side: int = SIDE) -> Truth:
    """Draw a square of `side` cells; how many objects there are goes with its area."""
    canvas = _Canvas(side, np.random.default_rng((seed, 0)))
    for draw in (_draw_fields, _draw_lines, _draw_houses, _draw_rings, _draw_shapes):
        draw(canvas)
    return Truth(canvas.ids, np.array(canvas.kinds), _ground(side, np.random.default_rng((seed, 1))))


class _Canvas:
    """The ids while objects are drawn, each on free ground or in one field."""

    def __init__(self, side: int, rng: np.random.Generator) -> None:
        self.side, self.rng = side, rng
        self.ids = np.zeros((side, side), np.int32)
        self.kinds = [-1]

    def count(self, kind: int) -> int:
        """How many of a class there should be."""
        return max(1, round(COUNTS[kind] * (self.side / SIDE) ** 2))

    def new(self, kind: int) -> int:
        """The id of a further object."""
        self.kinds.append(kind)
        return len(self.kinds) - 1

    def place(self, stamp: Callable[[], shapes.Stamp], kind: int, in_fields: bool) -> None:
        """Draw a stamp where nothing is in its way, if such a place is found."""
        for _ in range(TRIES):
            made = stamp()
            rows, cols = made.depth.shape
            if max(rows, cols) >= self.side:
                continue
            row, col = self.rng.integers(0, (self.side - rows, self.side - cols))
            here = self.ids[row : row + rows, col : col + cols]
            if self._free(here[made.depth > -GAP], in_fields):
                self._stamp(here, made, kind)
                break

    def _free(self, below: NDArray[np.int32], in_fields: bool) -> bool:
        first = int(below[0])
        return (first == 0 or (in_fields and self.kinds[first] == FIELD)) and bool((below == first).all())

    def _stamp(self, here: NDArray[np.int32], made: shapes.Stamp, kind: int) -> None:
        for part in np.unique(made.parts[made.depth > 0]).tolist():
            here[(made.depth > 0) & (made.parts == part)] = self.new(kind)


def _draw_fields(canvas: _Canvas) -> None:
    """Neighbouring cells of a Voronoi diagram; where fields touch there is no gap."""
    lines = _field_lines(canvas)
    grid = np.stack(np.meshgrid(lines, lines, indexing="ij"), -1)
    sites = (grid + canvas.rng.uniform(-140, 140, grid.shape)).reshape(-1, 2)
    inside = np.flatnonzero(((sites > 0) & (sites < canvas.side)).all(1))
    centres = canvas.rng.uniform(0.2, 0.8, (2, 2)) * canvas.side
    order = np.argsort(np.linalg.norm(sites[inside, None] - centres, axis=2).min(1))
    for site in inside[order[: canvas.count(FIELD)]]:
        _draw_field(canvas, sites[site], np.delete(sites, site, 0))


def _field_lines(canvas: _Canvas) -> NDArray[np.float64]:
    """Where rows and columns of fields lie, from before the canvas to behind it."""
    steps = canvas.rng.uniform(SPACING[0], SPACING[1], canvas.side // SPACING[0] + 4)
    return np.asarray(np.cumsum(steps) - 1.5 * steps[0] - canvas.rng.uniform(0, 200))


def _draw_field(canvas: _Canvas, site: NDArray[np.float64], others: NDArray[np.float64]) -> None:
    near = others[np.linalg.norm(others - site, axis=1) < 1800]
    top, left = np.maximum(site - 620, 0).astype(int)
    bottom, right = np.minimum(site + 620, canvas.side).astype(int)
    rows, cols = np.ogrid[top:bottom, left:right]
    inside = np.ones((bottom - top, right - left), bool)
    for other in near:
        middle, away = (site + other) / 2, other - site
        inside &= (rows - middle[0]) * away[0] + (cols - middle[1]) * away[1] < 0
    canvas.ids[top:bottom, left:right][inside] = canvas.new(FIELD)


def _draw_lines(canvas: _Canvas) -> None:
    """Curves around the fields, never across each other."""
    for _ in range(canvas.count(LINE)):
        for _ in range(TRIES):
            length, width = canvas.rng.uniform(350, 1700), canvas.rng.uniform(6, 24)
            path = shapes.curve(min(length, 0.6 * canvas.side), canvas.side, canvas.rng)
            if path is not None and not canvas.ids[tuple(path.astype(int).T)].any() and _draw_line(canvas, path, width):
                break


def _draw_line(canvas: _Canvas, path: NDArray[np.float64], width: float) -> bool:
    """Draw one, unless something is in its way."""
    (top, left), mask = shapes.stroke(path, width, canvas.side)
    here = canvas.ids[top : top + mask.shape[0], left : left + mask.shape[1]]
    if here[ndimage.binary_dilation(mask, iterations=GAP)].any():
        return False
    here[mask] = canvas.new(LINE)
    return True


def _draw_houses(canvas: _Canvas) -> None:
    for _ in range(canvas.count(HOUSE)):
        canvas.place(lambda: shapes.terrace(canvas.rng), HOUSE, in_fields=False)


def _draw_rings(canvas: _Canvas) -> None:
    for _ in range(canvas.count(RING)):
        canvas.place(lambda: shapes.ring(canvas.rng), RING, in_fields=False)  # it would cut a field in two


def _draw_shapes(canvas: _Canvas) -> None:
    """The largest first, as small ones find a place anywhere."""
    count = canvas.count(SHAPE)
    for size in np.sort(shapes.sizes(count, canvas.rng))[::-1].tolist():
        canvas.place(_shape_of(size, canvas.rng), SHAPE, in_fields=bool(canvas.rng.random() < IN_FIELDS))


def _shape_of(size: float, rng: np.random.Generator) -> Callable[[], shapes.Stamp]:
    return lambda: shapes.shape(size, rng)


def _ground(side: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Wide patches of three classes, and a river from one side to the other."""
    first, second = smooth_noise((side, side), 430, rng), smooth_noise((side, side), 430, rng)
    ground = (GROUNDS.start + (first > 0.3) + (second > 0.5)).astype(np.uint8)
    across = np.arange(side)
    middle = side * rng.uniform(0.3, 0.7) + sum(_waves(across, rng))
    ground[np.abs(across[:, None] - middle) < rng.uniform(20, 45)] = RIVER
    return ground


def _waves(across: NDArray[np.int64], rng: np.random.Generator) -> Iterator[NDArray[np.float64]]:
    for length in (2100, 900, 400):
        yield length / 12 * np.sin(2 * np.pi * (across / length + rng.random()))
