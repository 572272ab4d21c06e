"""PAIR: which segments of overlapping tiles may show the same object, and which of one tile touch without being one."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.stitch.contacts import touching
from pipeline.stitch.covers import Covers, covers_between
from pipeline.stitch.queries import SURE
from pipeline.stitch.strips import Strip, sums
from pipeline.stitch.views import View, Views
from pipeline.tiling import Tile

LIKE = 1_000_000
"""The integer that stands for a likeness of 1."""

HELD, HELD_COUNTS = 0.75, 0.5
"""Share of a segment that must lie in the other one for that alone to count, and how much it counts."""

OTHER_CLASS = 0.8
"""What is left of a likeness between classes that have nothing in common."""

TOP = 8
"""Classes of a segment that are remembered."""


class Segments(NamedTuple):
    """n segments of things.

    Attributes:
        keys: (n,) uint64, ascending within a tile.
        scores: (n,) uint16 in units of 1 / `SURE`.
        areas: (n,) int64, cells.
        classes: (n, `TOP`) uint16, the likeliest classes first.
        class_probs: (n, `TOP`) uint16 in units of 1 / `SURE`; 0 where there are fewer classes.
        shares: (n,) int64, its tile's shares of the word summed over its cells, in units of 1 / `UNIT`.
        own: (n,) int64, their squares summed, in units of 1 / `UNIT`².
    """

    keys: NDArray[np.uint64]
    scores: NDArray[np.uint16]
    areas: NDArray[np.int64]
    classes: NDArray[np.uint16]
    class_probs: NDArray[np.uint16]
    shares: NDArray[np.int64]
    own: NDArray[np.int64]


class Pairs(NamedTuple):
    """m pairs of segments of two tiles that share cells (or touch, where tiles do not overlap).

    Attributes:
        first: (m,) uint64, keys of the segments of the tile of lower rank.
        second: (m,) uint64, of the other.
        likeness: (m,) int32 in units of 1 / `LIKE`.
        alike: (m,) bool, whether their best class is the same.
        shared: (m,) int64, products of the two tiles' shares summed over common cells, in units of 1 / `UNIT`².
    """

    first: NDArray[np.uint64]
    second: NDArray[np.uint64]
    likeness: NDArray[np.int32]
    alike: NDArray[np.bool_]
    shared: NDArray[np.int64]


class Borders(NamedTuple):
    """Pairs of segments that touch in one tile, where they are two objects: keys, both (c,)."""

    first: NDArray[np.uint64]
    second: NDArray[np.uint64]


@dataclass(frozen=True, eq=False)
class Links:
    """All that is known of the segments of some tiles."""

    segments: Segments
    pairs: Pairs
    borders: Borders
    covers: Covers


def link(views: Views, tiles: list[Tile]) -> Links:
    """Link the segments of tiles to those of their neighbours of higher rank, wherever these belong."""
    present = [view for tile in tiles if (view := views(tile)) is not None]
    borders = [borders_of(views, view) for view in present]
    return Links(
        joined(Segments, [segments_of(views, view) for view in present]),
        joined(Pairs, [pairs for view in present for pairs in _pairs_of(views, view)]),
        joined(Borders, [seen for seen, _ in borders]),
        joined(Covers, [covers for _, covers in borders]),
    )


def segments_of(views: Views, view: View) -> Segments:
    """Describe the things of one view."""
    fused, shares = view.fused, views.shares(view)
    chosen = np.flatnonzero(np.isin(np.arange(len(fused)), view.things))
    at = view.things.ravel()
    inside, flat = at >= 0, shares.ravel()
    totals = [sums(at[inside], part[inside], len(fused)) for part in (flat, flat**2)]
    top = np.argsort(-fused.class_probs[chosen], axis=1, kind="stable")[:, :TOP]
    probs = np.rint(np.take_along_axis(fused.class_probs[chosen], top, 1) * SURE)
    classes, class_probs = (np.pad(part.astype(np.uint16), [(0, 0), (0, TOP - top.shape[1])]) for part in (top, probs))
    return Segments(
        view.keys(chosen),
        fused.scores[chosen].astype(np.uint16),
        fused.areas[chosen],
        classes,
        class_probs,
        *(part[chosen] for part in totals),
    )


def _pairs_of(views: Views, view: View) -> Iterator[Pairs]:
    shares = views.shares(view)
    for other in views.neighbours(view):
        if other.rank > view.rank:
            yield pairs_between(view, other, shares, views.shares(other))


def pairs_between(view: View, other: View, shares: NDArray[np.int64], others: NDArray[np.int64]) -> Pairs:
    """The pairs of segments of two views that share cells, and how alike they are.

    Likeness is the IoU of the two in the strip that both tiles see, each cell counting by the smaller weight; or, for
    a segment that lies in the other one, a part of the share that does. Different classes make it less. Where tiles
    only touch, the strip is the line of cells on either side.
    """
    strip = Strip.of(view, other)
    here, there = strip.here, strip.there
    table = strip.table(np.minimum(view.weights[here], other.weights[there]))
    first, second = np.nonzero(table[1:, 1:])
    alike = view.fused.classes[first] == other.fused.classes[second]
    likeness = _likeness(table, first, second) * _agreement(view, other, first, second)
    codes = np.rint(LIKE * likeness).astype(np.int32)
    shared = np.zeros_like(table) if strip.touch else strip.table(shares[here] * others[there])
    return Pairs(view.keys(first), other.keys(second), codes, alike, shared[1:, 1:][first, second])


def _likeness(table: NDArray[np.int64], first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.float64]:
    common = table[1:, 1:][first, second].astype(np.float64)
    mine, theirs = table.sum(1)[1:][first], table.sum(0)[1:][second]
    held = common / np.minimum(mine, theirs)
    likeness: NDArray[np.float64] = np.maximum(
        common / (mine + theirs - common), np.where(held >= HELD, HELD_COUNTS * held, 0)
    )
    return likeness


def _agreement(view: View, other: View, first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.float64]:
    """What is left of a likeness: the cosine of the class probabilities of pairs of segments, and never little.

    What a tile's edge cuts is often taken for something else.
    """
    mine, theirs = view.fused.class_probs[first].astype(np.float64), other.fused.class_probs[second].astype(np.float64)
    lengths = np.sqrt((mine**2).sum(1) * (theirs**2).sum(1))
    cosines = (mine * theirs).sum(1) / np.maximum(lengths, 1e-12)
    return np.asarray(np.maximum(cosines, OTHER_CLASS))


def borders_of(views: Views, view: View) -> tuple[Borders, Covers]:
    """The borders that one view sees, and what others see as one there."""
    first, second = touching(view.things)
    covers = [covers_between(view, other, first, second) for other in views.neighbours(view)]
    return Borders(view.keys(first), view.keys(second)), joined(Covers, covers)


NO_KEYS, NO_SUMS, NO_SCORES = np.zeros(0, np.uint64), np.zeros(0, np.int64), np.zeros(0, np.uint16)
NO_TOP = np.zeros((0, TOP), np.uint16)
EMPTY: dict[type, tuple[NDArray[Any], ...]] = {
    Segments: (NO_KEYS, NO_SCORES, NO_SUMS, NO_TOP, NO_TOP, NO_SUMS, NO_SUMS),
    Pairs: (NO_KEYS, NO_KEYS, np.zeros(0, np.int32), np.zeros(0, bool), NO_SUMS),
    Borders: (NO_KEYS, NO_KEYS),
    Covers: (NO_KEYS, NO_KEYS, NO_KEYS, np.zeros(0, bool)),
}

Table = TypeVar("Table", Segments, Pairs, Borders, Covers)


def joined(kind: type[Table], tables: Sequence[Table]) -> Table:
    """Tables one below the other; of none at all, an empty one."""
    return kind(*(np.concatenate(columns) for columns in zip(*(EMPTY[kind], *tables), strict=True)))
