"""What all tiles together say of each object: the mean of its masks, and of their scores.

Blending comes after matching: an object's outline is the mean of what all its tiles say, so no tile's edge shows.
"""

from collections.abc import Iterator
from itertools import groupby
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.stitch.objects import Objects
from pipeline.stitch.queries import CERTAIN, LOGIT_UNIT, LOGIT_ZERO, SURE, probabilities
from pipeline.stitch.views import Mark, View, Views
from pipeline.tiling import Window

FINE_LOGIT = 256
"""A blended logit is counted in so many parts."""

LOWEST = -LOGIT_ZERO / LOGIT_UNIT
"""The logit of cells that an object's masks do not reach."""


class Consensus(NamedTuple):
    """An object, or all of a stuff class, on a window of cells.

    Attributes:
        number: objects from 1, stuff classes c as -1 - c.
        vote: 0 to 1; of stuff 1.
        cells: on the global lattice.
        logits: (h, w) int32, of the mean mask probability, in units of 1 / `FINE_LOGIT`.
        sureness: (h, w) int32, the mean score of the tiles that see it, in units of 1 / `SURE`.
    """

    number: int
    vote: float
    cells: Window
    logits: NDArray[np.int32]
    sureness: NDArray[np.int32]


def consensuses(views: Views, objects: Objects, inside: Window) -> Iterator[Consensus]:
    """All objects and stuff of a window of cells, by number, each on as much of it as its masks reach."""
    seen = views.covering(inside)
    parts = sorted((part for view in seen for part in _parts(views, view, objects)), key=lambda part: part.number)
    for number, group in groupby(parts, key=lambda part: part.number):
        vote = int(objects.votes[number - 1]) / SURE if number > 0 else 1.0
        blended = _blend(list(group), seen, inside, alone=number < 0)
        if blended is not None:
            yield Consensus(number, vote, *blended)


class _Part(NamedTuple):
    """What one tile says of an object: its masks of it, and the best of their scores."""

    number: int
    view: View
    marks: tuple[Mark, ...]
    score: int


def _parts(views: Views, view: View, objects: Objects) -> Iterator[_Part]:
    """The objects and stuff of a view, each once."""
    keys = view.keys(np.arange(len(view.fused)))
    stuff = np.array([kind in views.rules.stuff for kind in view.fused.classes.tolist()], bool)
    numbers = np.where(stuff, -1 - view.fused.classes, objects.numbers_of(keys))
    for number in np.unique(numbers[numbers != 0]).tolist():
        segments = np.flatnonzero(numbers == number).tolist()
        marks = tuple(mark for segment in segments for mark in view.marks[segment])
        yield _Part(number, view, marks, int(view.fused.scores[segments].max()))


def _blend(
    parts: list[_Part], seen: list[View], inside: Window, alone: bool
) -> tuple[Window, NDArray[np.int32], NDArray[np.int32]] | None:
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
    return cells, _logits(strength / np.maximum(scores * CERTAIN, 1)), sureness.astype(np.int32)


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


def _logits(probs: NDArray[np.float64]) -> NDArray[np.int32]:
    low = 1 / (1 + np.exp(-LOWEST))
    clipped = probs.clip(low, 1 - low)
    logits: NDArray[np.int32] = np.rint(FINE_LOGIT * np.log(clipped / (1 - clipped))).astype(np.int32)
    return logits
