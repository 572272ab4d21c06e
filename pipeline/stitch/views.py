"""Tiles as the stitching sees them: fused, weighed, and in their place among the others on the global lattice."""

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.stitch.fuse import NO_SEGMENT, Fused, box_of, fuse
from pipeline.stitch.queries import QueryReader, Rules, TileQueries
from pipeline.stitch.window import UNIT, tile_weights
from pipeline.tiling import Tile, TilePlan, Window

KEY_BITS = 16
"""A segment's key is its tile's rank, and its number in the tile in so many low bits."""

REMEMBERED = 160
"""Tiles that are kept: those of a tile block of 8 x 8 with all their neighbours, and some more."""


class Mark(NamedTuple):
    """One query's mask, cut to its box.

    Attributes:
        cells: the box, on the global lattice.
        codes: (h, w) uint8, see `TileQueries`.
        score: in units of 1 / `SURE`.
    """

    cells: Window
    codes: NDArray[np.uint8]
    score: int


@dataclass(frozen=True, eq=False)
class View:
    """One tile.

    Attributes:
        tile: which.
        window: the cells that it sees, counted on the global lattice.
        fused: its segments.
        marks: the masks of each segment.
        things: (h, w) int32, the segment of each cell if it is a thing, else `NO_SEGMENT`.
        weights: (h, w) int64, how much its word counts; 0 where there is no data.
    """

    tile: Tile
    window: Window
    fused: Fused
    marks: tuple[tuple[Mark, ...], ...]
    things: NDArray[np.int32]
    weights: NDArray[np.int64]

    @property
    def rank(self) -> int:
        """Of the tile."""
        return self.tile.rank

    def keys(self, segments: NDArray[np.integer]) -> NDArray[np.uint64]:
        """The keys of some segments: unlike those of all other tiles."""
        return np.uint64(self.rank << KEY_BITS) | segments.astype(np.uint64)


class Views:
    """The tiles of a run, each fused when it is first looked at.

    Args:
        plan: where they lie.
        stride: pixels a side of a cell.
        read: gives their queries.
        rules: of the fusion.
    """

    def __init__(self, plan: TilePlan, stride: int, read: QueryReader, rules: Rules) -> None:
        self.plan, self.stride, self.read, self.rules = plan, stride, read, rules
        self._known: OrderedDict[int, View | None] = OrderedDict()
        self._shares: OrderedDict[int, NDArray[np.int64]] = OrderedDict()

    def __call__(self, tile: Tile) -> View | None:
        """The view of a tile; None where it is nodata all over, or was left out."""
        with suppress(KeyError):  # another thread may forget it between a look and a grasp
            return self._known[tile.rank]
        view = self._known[tile.rank] = self._look(tile)
        _forget(self._known)
        return view

    def _look(self, tile: Tile) -> View | None:
        queries = self.read(tile)
        if queries is None:
            return None
        fused = fuse(queries, self.rules)
        stuff = np.array([int(kind) in self.rules.stuff for kind in fused.classes] + [True])
        things = np.where(stuff[fused.labels], np.int32(NO_SEGMENT), fused.labels)
        weights = tile_weights(self.plan, tile, self.stride).astype(np.int64) * queries.valid
        window = self.cells(tile.window)
        marks = tuple(tuple(_marks(window, queries, fused, segment)) for segment in fused.queries)
        return View(tile, window, fused, marks, things, weights)

    def cells(self, window: Window) -> Window:
        """A window of whole cells, counted in cells."""
        return Window(*(value // self.stride for value in window))

    def around(self, cells: Window, margin: int) -> Window:
        """A window of cells and so many around it, as far as the lattice goes."""
        row, col, height, width = cells
        lattice = Window(0, 0, self.plan.rows.edge // self.stride, self.plan.cols.edge // self.stride)
        return Window(row - margin, col - margin, height + 2 * margin, width + 2 * margin).intersect(lattice)

    def covering(self, cells: Window) -> list[View]:
        """The views that share cells with a window of cells, by rank."""
        pixels = Window(*(value * self.stride for value in cells))
        return [view for tile in self.plan.covering(pixels) if (view := self(tile)) is not None]

    def neighbours(self, view: View) -> list[View]:
        """The other views that overlap one, or touch it where tiles do not overlap, by rank."""
        row, col, height, width = view.window
        down, right = (int(axis.overlap == 0) for axis in (self.plan.rows, self.plan.cols))
        around = self.covering(Window(row - down, col - right, height + 2 * down, width + 2 * right))
        return [other for other in around if other.rank != view.rank]

    def shares(self, view: View) -> NDArray[np.int64]:
        """The part of each cell's word that a view has, (h, w) in units of 1 / `UNIT`: all views' add up to about 1."""
        with suppress(KeyError):
            return self._shares[view.rank]
        total = view.weights.copy()
        for other in self.neighbours(view):
            common = view.window.intersect(other.window)
            total[common.within(view.window)] += other.weights[common.within(other.window)]
        shares = self._shares[view.rank] = (view.weights * UNIT + total // 2) // np.maximum(total, 1)
        _forget(self._shares)
        return shares


def _forget(known: "OrderedDict[int, Any]") -> None:
    while len(known) > REMEMBERED:
        known.popitem(last=False)


def _marks(window: Window, tile: TileQueries, fused: Fused, queries: NDArray[np.int64]) -> Iterator[Mark]:
    for query in queries.tolist():
        rows, cols = box_of(tile, query)
        cells = Window(window.row + rows.start, window.col + cols.start, rows.stop - rows.start, cols.stop - cols.start)
        yield Mark(cells, tile.masks[query][rows, cols].copy(), int(fused.query_scores[query]))
