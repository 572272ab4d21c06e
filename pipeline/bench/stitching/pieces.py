"""The things of all tiles under numbers of their own, what they share, and maps made of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from pipeline.bench.stitching.scene import STUFF
from pipeline.stitch.fuse import Fused
from pipeline.tiling import Axis, Tile, TilePlan, Window

Fusions = Mapping[int, tuple[Tile, Fused]]
"""Tiles and their segments, by rank, ascending."""


def cuts(axis: Axis) -> list[int]:
    """The lines midway between two tiles, each named by the cell behind it; they cut a map into the tiles' cores."""
    return [(after + before + axis.tile) // 2 for before, after in pairwise(axis.origins)]


def core(plan: TilePlan, tile: Tile) -> Window:
    """The cells for which a tile is the nearest one."""
    (top, bottom), (left, right) = _between(plan.rows, tile.row), _between(plan.cols, tile.col)
    return Window(top, left, bottom - top, right - left)


def _between(axis: Axis, index: int) -> tuple[int, int]:
    bounds = [0, *cuts(axis), axis.size]
    return bounds[index], bounds[index + 1]


class Common(NamedTuple):
    """m pairs of pieces of overlapping tiles that share cells; all (m,) int64.

    Attributes:
        first: number of the piece of the tile of lower rank.
        second: of the other one.
        shared: cells that they share.
        first_there: cells of the first that both tiles see.
        second_there: cells of the second that both tiles see.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    shared: NDArray[np.int64]
    first_there: NDArray[np.int64]
    second_there: NDArray[np.int64]

    @property
    def iou(self) -> NDArray[np.float64]:
        """Of each pair, where both tiles see."""
        return np.asarray(self.shared / (self.first_there + self.second_there - self.shared))


@dataclass(frozen=True, eq=False)
class Piece:
    """One tile: its window within the raster, and the number of the thing in each cell, (h, w) int64, 0 without."""

    tile: Tile
    window: Window
    numbers: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Pieces:
    """The n things of all tiles, numbered from 1.

    Attributes:
        plan: the tiles' plan.
        tiles: one by one.
        scores: (n + 1,) int64; the first is of no thing.
        ranks: (n + 1,) int64, of each one's tile.
    """

    plan: TilePlan
    tiles: tuple[Piece, ...]
    scores: NDArray[np.int64]
    ranks: NDArray[np.int64]

    @classmethod
    def of(cls, plan: TilePlan, fusions: Fusions) -> "Pieces":
        """Number the things of fused tiles."""
        tiles, scores, ranks = [], [np.zeros(1, np.int64)], [np.full(1, -1)]
        for tile, fused in fusions.values():
            things = ~np.isin(fused.classes, list(STUFF))
            table = np.append(np.where(things, np.cumsum(things) + sum(map(len, scores)) - 1, 0), 0)
            window = tile.window.intersect(plan.raster)
            tiles.append(Piece(tile, window, table[fused.labels[: window.height, : window.width]]))
            scores.append(fused.scores[things])
            ranks.append(np.full(int(things.sum()), tile.rank))
        return cls(plan, tuple(tiles), np.concatenate(scores), np.concatenate(ranks))

    @property
    def count(self) -> int:
        """Numbers there are, n + 1."""
        return len(self.scores)

    @cached_property
    def areas(self) -> NDArray[np.int64]:
        """Cells, (n + 1,)."""
        return sum((_counts(piece.numbers, self.count) for piece in self.tiles), np.zeros(self.count, np.int64))

    @cached_property
    def pasted(self) -> NDArray[np.int64]:
        """The map (H, W) of each tile's word on its core."""
        found = np.zeros(self.plan.shape, np.int64)
        for piece in self.tiles:
            own = core(self.plan, piece.tile)
            found[own.slices] = piece.numbers[own.within(piece.window)]
        return found

    @cached_property
    def common(self) -> Common:
        """What the pieces of all pairs of overlapping tiles share."""
        by_rank = {piece.tile.rank: piece for piece in self.tiles}
        found = [
            _common(piece, by_rank[other.rank])
            for piece in self.tiles
            for other in self.plan.covering(piece.window)
            if other.rank > piece.tile.rank and other.rank in by_rank
        ]
        nothing = Common(*[np.zeros(0, np.int64)] * 5)
        return Common(*map(np.concatenate, zip(nothing, *found, strict=True)))

    def united(self, first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.int64]:
        """Join pairs of pieces and all that hangs together: the first number of each one's set, (n + 1,)."""
        graph = coo_array((np.ones(len(first), bool), (first, second)), shape=(self.count, self.count))
        part = connected_components(graph.tocsr(), directed=False)[1]
        _, lowest, at = np.unique(part, return_index=True, return_inverse=True)
        return np.asarray(lowest[at])

    def laid(self, order: NDArray[np.int64], names: NDArray[np.int64]) -> NDArray[np.int64]:
        """The map (H, W) of whole pieces, one over the other.

        Args:
            order: numbers (m,) of those that are laid, the topmost first.
            names: the id that each number gets, (n + 1,).
        """
        place = np.full(self.count, len(order))
        place[order] = np.arange(len(order))
        found = np.full(self.plan.shape, len(order))
        for piece in self.tiles:
            here = found[piece.window.slices]
            np.minimum(here, place[piece.numbers], out=here)
        return np.asarray(np.append(names[order], 0)[found])


def _counts(numbers: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    return np.bincount(numbers.ravel(), minlength=count)


def _common(piece: Piece, other: Piece) -> Common:
    strip = piece.window.intersect(other.window)
    mine = piece.numbers[strip.within(piece.window)].ravel()
    theirs = other.numbers[strip.within(other.window)].ravel()
    (firsts, mine_at), (seconds, their_at) = (np.unique(side, return_inverse=True) for side in (mine, theirs))
    size = len(firsts), len(seconds)
    table = np.bincount(mine_at * size[1] + their_at, minlength=size[0] * size[1]).reshape(size)
    one, two = np.nonzero(table * (firsts[:, None] > 0) * (seconds > 0))
    return Common(firsts[one], seconds[two], table[one, two], table.sum(1)[one], table.sum(0)[two])
