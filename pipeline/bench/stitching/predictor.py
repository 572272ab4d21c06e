"""A simulated model: queries of a tile of a drawn truth, with errors that depend on seed and tile alone.

Every object of every tile has a random generator of its own, so that what one tile says of it tells nothing of what
the next one says. The lattice of cells is the truth's: a cell is a pixel of the plan.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.bench.stitching.distances import CAP
from pipeline.bench.stitching.errors import Errors
from pipeline.bench.stitching.scene import CLASSES, RIVER, STUFF, THINGS, Truth
from pipeline.scenes.noise import smooth_noise
from pipeline.stitch.queries import LOGIT_UNIT, LOGIT_ZERO, TileQueries
from pipeline.tiling import Tile, TilePlan, Window

EDGE = 28
"""Cells from a tile's edge over which what is worse there falls to a third."""

GRAIN = 14
"""Cells across the bumps of an outline."""

BEND = 0.4
"""Deviation of an outline at the most, in half the object's width: noise bends objects, it does not unmake them."""

SPLITTABLE = 80
"""Cells across what is seen from which it may be split."""

TINY, WHOLE = 8, 48
"""Cells across an object at which a third is left of what is worse for small ones; and that are as good as all."""


class Query(NamedTuple):
    """One query's mask, cut to a box.

    Attributes:
        cells: the box, on the truth.
        codes: (h, w) uint8.
        probs: (`CLASSES` + 1,) float32.
    """

    cells: Window
    codes: NDArray[np.uint8]
    probs: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class _Sight:
    """What a tile sees of some object, or of two that it takes for one.

    Attributes:
        cells: the box that is looked at, inside the tile.
        distance: (h, w) float32, to the outline, above 0 inside.
        kind: the class.
        across: cells across what is seen, as of a square.
        size: that of the whole object.
    """

    cells: Window
    distance: NDArray[np.float32]
    kind: int
    across: float
    size: float

    @property
    def small(self) -> float:
        """0 to 1."""
        return float(np.exp(-self.size / TINY))

    @property
    def sliver(self) -> float:
        """0 to 1."""
        return 1 - min(1.0, self.across / min(self.size, WHOLE))


class Predictor:
    """Reads the queries of tiles, by falling score.

    Args:
        truth: what there is.
        plan: its shape must be the truth's.
        seed: of the errors.
        errors: how many.
    """

    def __init__(self, truth: Truth, plan: TilePlan, seed: int, errors: Errors | None = None) -> None:
        self.truth, self.plan, self.seed = truth, plan, seed
        self.errors = errors or Errors()

    def __call__(self, tile: Tile) -> TileQueries:
        """The queries of a tile; cells beyond the truth are not valid."""
        window = tile.window.intersect(self.plan.raster)
        edge = _edge(self.plan, tile)[: window.height, : window.width]
        things = [query for sight, rng in self._sights(tile, window) for query in self._seen(sight, rng, window, edge)]
        false = list(self._false(tile, window))
        _give_way(things, false)
        queries = [*things, *false]
        queries += self._stuff(tile, window, queries)
        some = [query for query in queries if query.codes.any()]
        return _collected(tile.window, window, sorted(some, key=lambda query: -float(query.probs.max())))

    def _rng(self, tile: Tile, *numbers: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, tile.rank, *numbers))

    def _sights(self, tile: Tile, window: Window) -> Iterator[tuple[_Sight, np.random.Generator]]:
        """Each object that the tile sees, or that it joins with one that touches it."""
        seen = np.bincount(self.truth.ids[window.slices].ravel(), minlength=len(self.truth.kinds))
        left = set((np.flatnonzero(seen[1:]) + 1).tolist())
        for one, other in self.truth.touching:
            if one in left and other in left and self._rng(tile, one, other).random() < self.errors.joined:
                left -= {one, other}
                yield self._sight(window, seen, (one, other)), self._rng(tile, one)
        for number in sorted(left):
            yield self._sight(window, seen, (number,)), self._rng(tile, number)

    def _sight(self, window: Window, seen: NDArray[np.int64], objects: tuple[int, ...]) -> _Sight:
        truth = self.truth
        boxes = [truth.distances.box(number) for number in objects]
        cells = _around(boxes).intersect(window)
        if len(objects) == 1:
            distance = truth.distances.of(objects[0], cells)
        else:
            distance = truth.distances.of_joined(objects, cells)
        sizes = (float(np.sqrt(areas[list(objects)].sum())) for areas in (seen, truth.areas))
        largest = max(objects, key=lambda number: truth.areas[number])
        return _Sight(cells, distance, int(truth.kinds[largest]), *sizes)

    def _seen(
        self, sight: _Sight, rng: np.random.Generator, window: Window, edge: NDArray[np.float32]
    ) -> Iterator[Query]:
        """The queries of one object: none, one, or more."""
        errors = self.errors
        miss = errors.miss + errors.miss_small * sight.small + errors.miss_sliver * sight.sliver
        if rng.random() < miss:
            return
        split = errors.split + errors.split_large * min(1.0, max(sight.cells[2:]) / max(window[2:]))
        whole = sight.across < SPLITTABLE or rng.random() >= split
        parts = (sight.distance,) if whole else _halves(sight, rng)
        probs = self._probs(sight, rng)
        for part in parts:
            yield self._query(sight, part, probs, rng, edge[sight.cells.within(window)])
        if rng.random() < errors.duplicate:
            weaker = probs * np.float32(rng.uniform(0.7, 0.98))
            weaker[-1] += 1 - weaker.sum()
            yield self._query(sight, sight.distance, weaker, rng, edge[sight.cells.within(window)])

    def _probs(self, sight: _Sight, rng: np.random.Generator) -> NDArray[np.float32]:
        """Class probabilities, (`CLASSES` + 1,): the best class, another, and "no object"."""
        errors = self.errors
        other = int(rng.choice([kind for kind in THINGS if kind != sight.kind]))
        wrong = rng.random() < errors.wrong + errors.wrong_sliver * sight.sliver
        lack = errors.doubt * abs(rng.normal()) + errors.doubt_sliver * sight.sliver * rng.random()
        best, second = (other, sight.kind) if wrong else (sight.kind, other)
        return _probs(best, 1 - min(lack, 0.45), second)

    def _query(
        self,
        sight: _Sight,
        distance: NDArray[np.float32],
        probs: NDArray[np.float32],
        rng: np.random.Generator,
        edge: NDArray[np.float32],
    ) -> Query:
        """Bend and shift an outline, more so at the tile's edges."""
        errors, most = self.errors, BEND * float(distance.max())
        deviation = np.minimum(errors.noise + (errors.edge_noise - errors.noise) * edge, most)
        bumps = smooth_noise(distance.shape, GRAIN, rng)
        bias = np.float32(min(errors.edge_bias, most) * rng.normal())
        return Query(sight.cells, _codes(distance + deviation * bumps + bias * edge), probs)

    def _false(self, tile: Tile, window: Window) -> Iterator[Query]:
        """Blobs where nothing is, or something else."""
        rng = self._rng(tile, 0)
        for _ in range(rng.poisson(self.errors.false)):
            row, col = (window.row, window.col) + rng.random(2) * window[2:]
            radius = np.exp(rng.uniform(*np.log((4, 25))))
            side = int(radius) + CAP
            cells = Window(int(row) - side, int(col) - side, 2 * side, 2 * side).intersect(window)
            rows, cols = np.ogrid[cells.row : cells.bottom, cells.col : cells.right]
            distance = radius - np.hypot(rows - row, cols - col) * (1 + 0.2 * smooth_noise(cells[2:], GRAIN, rng))
            kind, other = rng.choice(THINGS, 2, replace=False).tolist()
            yield Query(cells, _codes(distance), _probs(kind, 1 - rng.uniform(0.02, 0.18), other))

    def _stuff(self, tile: Tile, window: Window, things: list[Query]) -> Iterator[Query]:
        """Classes of stuff: what the things leave of them."""
        strongest = np.zeros(window[2:], np.uint8)
        for query in things:
            here = strongest[query.cells.within(window)]
            np.maximum(here, query.codes, out=here)
        ground = self.truth.ground[window.slices]
        for kind in np.unique(ground).tolist():
            lack = self.errors.doubt * abs(self._rng(tile, len(self.truth) + kind).normal())
            other = min(STUFF - {kind}) if kind == RIVER else RIVER
            codes = np.where(ground == kind, 255 - strongest, 0).astype(np.uint8)
            yield Query(window, codes, _probs(kind, 1 - min(lack, 0.15), other))


def _edge(plan: TilePlan, tile: Tile) -> NDArray[np.float32]:
    """Where a tile (h, w) sees badly: 1 at its edges, 0 far from them; the raster's border is none."""
    ramps = []
    for axis, index in ((plan.rows, tile.row), (plan.cols, tile.col)):
        place = np.arange(axis.tile) + 0.5
        before = place if index else np.full(axis.tile, np.inf)
        behind = axis.tile - place if index < len(axis.origins) - 1 else np.full(axis.tile, np.inf)
        ramps.append(np.exp(-np.minimum(before, behind) / EDGE))
    return np.asarray(np.maximum(ramps[0][:, None], ramps[1]), np.float32)


def _around(boxes: list[Window]) -> Window:
    top, left = min(box.row for box in boxes), min(box.col for box in boxes)
    bottom, right = max(box.bottom for box in boxes), max(box.right for box in boxes)
    return Window(top, left, bottom - top, right - left)


def _probs(best: int, score: float, second: int) -> NDArray[np.float32]:
    probs = np.zeros(CLASSES + 1, np.float32)
    probs[best], probs[second], probs[-1] = score, (1 - score) / 2, (1 - score) / 2
    return probs


def _codes(distance: NDArray[np.floating]) -> NDArray[np.uint8]:
    """A cell from the outline is one in logits."""
    return np.asarray(np.rint(LOGIT_UNIT * distance + LOGIT_ZERO).clip(0, 255), np.uint8)


def _halves(sight: _Sight, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What is seen, cut in two across its longest direction."""
    rows, cols = np.nonzero(sight.distance > 0)
    if len(rows) < 2:
        return sight.distance, sight.distance
    _, axes = np.linalg.eigh(np.cov(rows, cols))
    down, right = axes[:, -1]
    along = np.arange(sight.cells.height)[:, None] * down + np.arange(sight.cells.width) * right
    cut = np.quantile(rows * down + cols * right, rng.uniform(0.3, 0.7))
    away = (along - cut).astype(np.float32)
    return np.minimum(sight.distance, away), np.minimum(sight.distance, -away)


def _give_way(things: list[Query], false: list[Query]) -> None:
    """Where something false is seen, nothing else is."""
    for query in things:
        for other in false:
            common = query.cells.intersect(other.cells)
            here = query.codes[common.within(query.cells)]
            np.minimum(here, 255 - other.codes[common.within(other.cells)], out=here)


def _collected(tile: Window, window: Window, queries: list[Query]) -> TileQueries:
    masks = np.zeros((len(queries), tile.height, tile.width), np.uint8)
    boxes = np.zeros((len(queries), 4), np.int64)
    for mask, box, query in zip(masks, boxes, queries, strict=True):
        mask[query.cells.within(tile)] = query.codes
        row, col = query.cells.row - tile.row, query.cells.col - tile.col
        rows, cols = (np.flatnonzero(query.codes.any(axis)) for axis in (1, 0))
        box[:] = row + rows[0], col + cols[0], row + rows[-1] + 1, col + cols[-1] + 1
    valid = np.zeros((tile.height, tile.width), bool)
    valid[window.within(tile)] = True
    probs = np.stack([query.probs for query in queries]) if queries else np.zeros((0, CLASSES + 1), np.float32)
    return TileQueries(masks, probs, valid, boxes)
