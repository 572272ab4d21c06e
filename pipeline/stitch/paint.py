"""RENDER, of objects: blend the masks of each object over the tiles that see it, and give each pixel to the strongest.

Blending comes after matching: an object's outline is the mean of what all its tiles say, so no tile's edge shows. An
object wins or loses as a whole, by its vote, instead of being cut where one tile's word begins to count for more.
"""

from collections.abc import Iterator
from itertools import groupby
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.stitch.blend import cells_of
from pipeline.stitch.label import enlarge
from pipeline.stitch.links import KEY_BITS
from pipeline.stitch.objects import Objects
from pipeline.stitch.queries import CERTAIN, LOGIT_UNIT, LOGIT_ZERO, SURE, probabilities
from pipeline.stitch.views import Mark, View, Views
from pipeline.tiling import Window

FAINT = 0.15
"""The least strength of an object in a pixel: below it nothing is said."""

NOTHING = 0.001
"""A strength below it is none: else all of an object's box would have one, and boxes depend on the tiles looked at."""

FINE_LOGIT = 256
"""A blended logit is counted in so many parts."""

LOWEST = -LOGIT_ZERO / LOGIT_UNIT
"""The logit of cells that an object's masks do not reach."""


class Painted(NamedTuple):
    """The pixels of a window.

    Attributes:
        numbers: (H, W) int64: objects from 1, stuff classes c as -1 - c, 0 where nothing is accepted.
        strengths: (H, W) float32, of the strongest, accepted or not, 0 to 1.
    """

    numbers: NDArray[np.int64]
    strengths: NDArray[np.float32]


class _Part(NamedTuple):
    """What one tile says of an object: its masks of it, and the best of their scores."""

    number: int
    view: View
    marks: tuple[Mark, ...]
    score: int


def paint(views: Views, objects: Objects, window: Window, mask_threshold: float) -> Painted:
    """Paint a window of pixels. It depends on the tiles around it alone, not on how the mosaic is cut into windows.

    Args:
        views: the tiles.
        objects: what their segments belong to.
        window: of pixels.
        mask_threshold: mean mask probability from which a pixel is the strongest object's.
    """
    canvas = _Canvas(views, window)
    seen = views.covering(canvas.inside)
    parts = sorted((part for view in seen for part in _parts(views, view, objects)), key=lambda part: part.number)
    for number, group in groupby(parts, key=lambda part: part.number):
        blended = _blend(list(group), seen, canvas.inside, alone=number < 0)
        vote = int(objects.votes[number - 1]) if number > 0 else SURE
        if blended is not None:
            canvas.add(number, blended, vote / SURE, mask_threshold)
    return canvas.painted(window)


def _parts(views: Views, view: View, objects: Objects) -> Iterator[_Part]:
    """The objects and stuff of a view, each once."""
    keys = np.uint64(view.rank << KEY_BITS) | np.arange(len(view.fused), dtype=np.uint64)
    stuff = np.array([kind in views.rules.stuff for kind in view.fused.classes.tolist()], bool)
    numbers = np.where(stuff, -1 - view.fused.classes, objects.numbers_of(keys))
    for number in np.unique(numbers[numbers != 0]).tolist():
        segments = np.flatnonzero(numbers == number).tolist()
        marks = tuple(mark for segment in segments for mark in view.marks[segment])
        yield _Part(number, view, marks, int(view.fused.scores[segments].max()))


class _Blended(NamedTuple):
    """An object on a window of cells.

    Attributes:
        cells: on the global lattice.
        logits: (h, w) int64, of the mean mask probability, in units of 1 / `FINE_LOGIT`.
        sureness: (h, w) int64, the mean score of the tiles that see it, in units of 1 / `SURE`.
    """

    cells: Window
    logits: NDArray[np.int64]
    sureness: NDArray[np.int64]


def _blend(parts: list[_Part], seen: list[View], inside: Window, alone: bool) -> _Blended | None:
    """Average an object over the tiles that see it, or (`alone`: stuff) over all; None where none of it is inside.

    In integers, so that the order of the tiles changes nothing.
    """
    cells = _around([mark.cells for part in parts for mark in part.marks]).intersect(inside)
    if not cells.height or not cells.width:
        return None
    strength, scores, weights = np.zeros((3, cells.height, cells.width), np.int64)
    for part in parts:
        common = part.view.window.intersect(cells)
        here, weight = common.within(cells), part.view.weights[common.within(part.view.window)]
        strength[here] += weight * _strongest(part, common)
        scores[here] += weight * part.score
        weights[here] += 0 if alone else weight
    for view in seen if alone else ():
        common = view.window.intersect(cells)
        weights[common.within(cells)] += view.weights[common.within(view.window)]
    sureness = (scores + weights // 2) // np.maximum(weights, 1)
    return _Blended(cells, _logits(strength / np.maximum(scores * CERTAIN, 1)), sureness)


def _around(boxes: list[Window]) -> Window:
    """The window around windows, one cell larger on every side."""
    top, left = min(box.row for box in boxes) - 1, min(box.col for box in boxes) - 1
    bottom, right = max(box.bottom for box in boxes) + 1, max(box.right for box in boxes) + 1
    return Window(top, left, bottom - top, right - left)


def _strongest(part: _Part, cells: Window) -> NDArray[np.int64]:
    """The largest score times mask probability of a part's masks, on some cells that its tile sees."""
    best = np.zeros((cells.height, cells.width), np.int64)
    for mark in part.marks:
        common = mark.cells.intersect(cells)
        here = best[common.within(cells)]
        np.maximum(here, probabilities()[mark.codes[common.within(mark.cells)]] * mark.score, out=here)
    return best


def _logits(probs: NDArray[np.float64]) -> NDArray[np.int64]:
    low = 1 / (1 + np.exp(-LOWEST))
    clipped = probs.clip(low, 1 - low)
    logits: NDArray[np.int64] = np.rint(FINE_LOGIT * np.log(clipped / (1 - clipped))).astype(np.int64)
    return logits


class _Canvas:
    """The pixels of the cells that a window touches, while objects are added to them.

    Attributes:
        cells: those cells.
        inside: the cells around them too, as far as the lattice goes.
    """

    def __init__(self, views: Views, window: Window) -> None:
        plan, self.stride = views.plan, views.stride
        self.cells = cells_of(window, self.stride)
        row, col, height, width = self.cells
        lattice = Window(0, 0, plan.rows.edge // self.stride, plan.cols.edge // self.stride)
        self.inside = Window(row - 1, col - 1, height + 2, width + 2).intersect(lattice)
        shape = height * self.stride, width * self.stride
        self._numbers, self._best = np.zeros(shape, np.int64), np.zeros(shape)

    def add(self, number: int, blended: _Blended, vote: float, mask_threshold: float) -> None:
        """Give an object the pixels where it is stronger than all before it."""
        common = blended.cells.intersect(self.cells)
        if not common.height or not common.width:
            return
        probs = 1 / (1 + np.exp(-self._enlarged(blended, blended.logits, common) / FINE_LOGIT))
        strength = vote * self._enlarged(blended, blended.sureness, common) / SURE * probs
        strength[strength < NOTHING] = 0
        place = tuple(slice(part.start * self.stride, part.stop * self.stride) for part in common.within(self.cells))
        better = strength > self._best[place]
        accepted = (probs >= mask_threshold) & (strength >= FAINT)
        self._best[place][better] = strength[better]
        self._numbers[place][better] = np.where(accepted, number, 0)[better]

    def _enlarged(self, blended: _Blended, values: NDArray[np.int64], common: Window) -> NDArray[np.float64]:
        """Values of cells at the pixels of some of them; beyond the last cells they stay as they are."""
        rows, cols = common.within(blended.cells)
        around = np.pad(values, 1, mode="edge")[rows.start : rows.stop + 2, cols.start : cols.stop + 2]
        return enlarge(around, self.stride) / (2 * self.stride) ** 2

    def painted(self, window: Window) -> Painted:
        """The window's own pixels."""
        row, col = window.row - self.cells.row * self.stride, window.col - self.cells.col * self.stride
        place = slice(row, row + window.height), slice(col, col + window.width)
        return Painted(self._numbers[place], self._best[place].astype(np.float32))
