"""What others do with the things of overlapping tiles: from tiles to one map of ids.

Each rule takes a plan and its fused tiles, and gives a map (H, W) int64 of ids from 1, 0 where nothing is. All start
from the same fused tiles; none looks at classes. "Cropped" means: each tile's word counts on its core, up to the cuts
midway between tiles; only ids are joined across.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pipeline.bench.stitching.pieces import Fusions, Pieces, core, cuts
from pipeline.tiling import TilePlan

Rule = Callable[[TilePlan, Fusions], NDArray[np.int64]]

HELD = 0.5
"""Share of the smaller of two masks that must lie in the larger one."""

ALIKE, BEST_ALIKE = 0.5, 0.3
"""IoU in the strip that two tiles share; and for those who are each other's best."""


def pasted(plan: TilePlan, tiles: Fusions) -> NDArray[np.int64]:
    """Cropped, and nothing joined."""
    return Pieces.of(plan, tiles).pasted


def touching(plan: TilePlan, tiles: Fusions) -> NDArray[np.int64]:
    """Cropped; what touches across a cut is one, as dask-image labels blocks."""
    pieces = Pieces.of(plan, tiles)
    return _joined(pieces, *_across(pieces, shrunk=False))


def touching_shrunk(plan: TilePlan, tiles: Fusions) -> NDArray[np.int64]:
    """Cropped; the same after both sides have shrunk along the cut by a cell, as cellpose stitches blocks."""
    pieces = Pieces.of(plan, tiles)
    return _joined(pieces, *_across(pieces, shrunk=True))


def owned(plan: TilePlan, tiles: Fusions) -> NDArray[np.int64]:
    """Whole pieces whose centre is in their tile's core, the best score on top, as StarDist and TIAToolbox do."""
    pieces = Pieces.of(plan, tiles)
    mine = np.flatnonzero(_centred(pieces))
    order = mine[np.lexsort((mine, -pieces.scores[mine]))]
    return pieces.laid(order, np.arange(pieces.count))


def merged_greedily(plan: TilePlan, tiles: Fusions) -> NDArray[np.int64]:
    """Whole pieces; from the best score on, each takes in those of which it shares half the smaller's mask, as SAHI."""
    pieces = Pieces.of(plan, tiles)
    common = pieces.common
    close = common.shared >= HELD * np.minimum(pieces.areas[common.first], pieces.areas[common.second])
    heads = _taken_in(pieces.scores, common.first[close], common.second[close])
    order = np.lexsort((heads, -pieces.scores[heads]))
    return pieces.laid(order[order > 0], heads)


def strip_iou(plan: TilePlan, tiles: Fusions) -> NDArray[np.int64]:
    """Cropped; pieces that agree in the strip between their tiles are one, and all that hangs together."""
    pieces = Pieces.of(plan, tiles)
    common = pieces.common
    alike = common.iou >= ALIKE
    return _joined(pieces, common.first[alike], common.second[alike])


def mutual_best(plan: TilePlan, tiles: Fusions) -> NDArray[np.int64]:
    """Cropped; the same for pieces that are each other's best in the two tiles, with less agreement."""
    pieces = Pieces.of(plan, tiles)
    common = pieces.common
    best = _best(pieces, common.first, common.second, common.iou) & _best(
        pieces, common.second, common.first, common.iou
    )
    best &= common.iou >= BEST_ALIKE
    return _joined(pieces, common.first[best], common.second[best])


RULES: dict[str, Rule] = {
    "paste": pasted,
    "touch": touching,
    "touch, shrunk": touching_shrunk,
    "centre owns": owned,
    "greedy NMM": merged_greedily,
    "strip IoU": strip_iou,
    "mutual best": mutual_best,
}
"""By the name in the table."""

OF_STRIPS = ("centre owns", "greedy NMM", "strip IoU", "mutual best")
"""Those that make no sense where tiles do not overlap."""


def _joined(pieces: Pieces, first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.int64]:
    return pieces.united(first, second)[pieces.pasted]


def _across(pieces: Pieces, shrunk: bool) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Numbers on either side of the cuts, (m,) each, where something is on both."""
    found = []
    for image, axis in ((pieces.pasted, pieces.plan.rows), (pieces.pasted.T, pieces.plan.cols)):
        lines = np.array(cuts(axis), int)
        sides = [_shrunk(image[part]) if shrunk else image[part] for part in (lines - 1, lines)]
        both = (sides[0] > 0) & (sides[1] > 0)
        found.append(np.stack([side[both] for side in sides]))
    first, second = np.concatenate(found, axis=1)
    return first, second


def _shrunk(lines: NDArray[np.int64]) -> NDArray[np.int64]:
    """Numbers along lines (m, n), 0 where the cell before or behind holds another one."""
    changes = lines[:, 1:] != lines[:, :-1]
    end = np.zeros((len(lines), 1), bool)
    return np.where(np.hstack([end, changes]) | np.hstack([changes, end]), 0, lines)


def _centred(pieces: Pieces) -> NDArray[np.bool_]:
    """Which pieces have their centre in the core of their tile, (n + 1,)."""
    sums = np.zeros((2, pieces.count))
    inside = np.zeros(pieces.count, bool)
    for piece in pieces.tiles:
        at = np.nonzero(piece.numbers)
        numbers, own = piece.numbers[at], core(pieces.plan, piece.tile)
        for axis, offset in enumerate(piece.window[:2]):
            sums[axis] += np.bincount(numbers, at[axis] + offset, minlength=pieces.count)
        present = np.unique(numbers)
        row, col = sums[:, present] / pieces.areas[present]
        inside[present] = (row >= own.row) & (row < own.bottom) & (col >= own.col) & (col < own.right)
    return inside


def _taken_in(scores: NDArray[np.int64], first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.int64]:
    """The piece that takes in each one, (n + 1,), by falling score; who was taken in takes in nobody."""
    close: list[list[int]] = [[] for _ in scores]
    for one, other in zip(first.tolist(), second.tolist(), strict=True):
        close[one].append(other)
        close[other].append(one)
    heads = np.full(len(scores), -1)
    for number in np.argsort(-scores, kind="stable"):
        if heads[number] < 0:
            free = [other for other in close[number] if heads[other] < 0]
            heads[[number, *free]] = number
    return heads


def _best(
    pieces: Pieces, one: NDArray[np.int64], other: NDArray[np.int64], iou: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Of pairs (m,), whether the other is the one's best in the other's tile, the lower number of equal ones."""
    key = one << 32 | pieces.ranks[other]
    order = np.lexsort((other, -iou, key))
    best = np.zeros(len(one), bool)
    best[order[np.unique(key[order], return_index=True)[1]]] = True
    return best
