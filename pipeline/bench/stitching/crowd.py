"""What RESOLVE takes, in seconds and memory, on links of as many segments as a raster of any size may have.

The links are drawn, and lie in files as a run would have left them. Most segments go on in the tiles to the right and
below; some are linked to another object there, and some are known to be two with their neighbour. As wrong links hang
objects together, most of them hang together somehow: more is contested than in any real raster.
"""

import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from math import isqrt
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from pipeline.steps.link import read_links, write_links
from pipeline.stitch.covers import Covers
from pipeline.stitch.links import LIKE, TOP, Borders, Links, Pairs, Segments
from pipeline.stitch.objects import resolve
from pipeline.stitch.queries import SURE, Rules
from pipeline.stitch.views import KEY_BITS
from pipeline.stitch.window import UNIT

EACH, BLOCK = 36, 64
"""Segments of a tile, and tiles of a file."""

LINKED, RIGHT, APART, COVERED = 0.7, 0.8, 0.15, 0.1
"""Shares: of segments linked to a neighbouring tile, of right links, of borders with the next, and of those covered."""

CELLS, STRIP, CELL, TILE = 300, 30, 16, 128**2
"""Cells of a segment, cells that it shares with a neighbouring tile, pixels of a cell, and cells of a tile."""

CLASSES, LIKELIEST = 133, 0.7
"""Classes that there are, and the probability of a segment's own."""


@dataclass(frozen=True)
class ResolveRow:
    """One measurement.

    Attributes:
        segments: Of all tiles.
        pairs: Of segments that may be one object.
        borders: Between segments of one tile.
        objects: That were found.
        reading: Seconds until the links are read.
        resolving: Seconds from there until they are objects.
        peak: Bytes that this process ever held: links, interpreter and all.
    """

    segments: int
    pairs: int
    borders: int
    objects: int
    reading: float
    resolving: float
    peak: int


def measure_resolve(segments: int) -> ResolveRow:
    """Draw links of about so many segments, read them, and resolve them."""
    with TemporaryDirectory() as folder:
        blocks = enumerate(draw_links(max(1, isqrt(segments // EACH))))
        files = [write_links(Path(folder) / f"{number}.npz", links) for number, links in blocks]
        start = time.perf_counter()
        links = read_links(files)
        read = time.perf_counter()
    objects = resolve(links, Rules(), CELL, TILE)
    return ResolveRow(
        segments=len(links.segments.keys),
        pairs=len(links.pairs.first),
        borders=len(links.borders.first),
        objects=len(objects.classes),
        reading=round(read - start, 2),
        resolving=round(time.perf_counter() - read, 2),
        peak=peak_memory(),
    )


def peak_memory() -> int:
    """The most bytes that this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def draw_links(side: int) -> Iterator[Links]:
    """The links of side x side tiles, file by file."""
    rng = np.random.default_rng(0)
    for first in range(0, side**2, BLOCK):
        ranks = np.arange(first, min(first + BLOCK, side**2)).repeat(EACH)
        slots = np.arange(len(ranks)) % EACH
        right, below = ranks % side < side - 1, ranks // side < side - 1
        pairs = [_pairs(rng, ranks[some], slots[some], step) for some, step in ((right, 1), (below, side))]
        apart = np.flatnonzero((slots < EACH - 1) & (rng.random(len(slots)) < APART))
        yield Links(
            _segments(ranks, slots),
            Pairs(*(np.concatenate(columns) for columns in zip(*pairs, strict=True))),
            Borders(_keys(ranks[apart], slots[apart]), _keys(ranks[apart], slots[apart] + 1)),
            _covers(rng, ranks[apart], slots[apart], right[apart]),
        )


def _covers(
    rng: np.random.Generator, ranks: NDArray[np.int64], slots: NDArray[np.int64], right: NDArray[np.bool_]
) -> Covers:
    """Segments to the right over some borders, of which half are seen whole."""
    covered = right & (rng.random(len(slots)) < COVERED)
    ranks, slots = ranks[covered], slots[covered]
    keys = (_keys(ranks, slots), _keys(ranks, slots + 1), _keys(ranks + 1, slots))
    return Covers(*keys, rng.random(len(slots)) < 0.5)


def _keys(ranks: NDArray[np.int64], slots: NDArray[np.int64]) -> NDArray[np.uint64]:
    return (ranks << KEY_BITS | slots).astype(np.uint64)


def _segments(ranks: NDArray[np.int64], slots: NDArray[np.int64]) -> Segments:
    """Segments of the same size, each slot of another class."""
    probs = LIKELIEST * (1 - LIKELIEST) ** np.arange(TOP)
    shape = len(slots), TOP
    return Segments(
        _keys(ranks, slots),
        np.full(len(slots), 0.9 * SURE, np.uint16),
        np.full(len(slots), CELLS),
        ((slots[:, None] + np.arange(TOP)) % CLASSES).astype(np.uint16),
        np.broadcast_to(np.rint(SURE * probs).astype(np.uint16), shape),
        np.full(len(slots), CELLS * UNIT * 3 // 4),
        np.full(len(slots), CELLS * UNIT**2 * 2 // 3),
    )


def _pairs(rng: np.random.Generator, ranks: NDArray[np.int64], slots: NDArray[np.int64], step: int) -> Pairs:
    """Links of some segments to those of tiles that come so many later."""
    linked = rng.random(len(slots)) < LINKED
    ranks, slots = ranks[linked], slots[linked]
    right = rng.random(len(slots)) < RIGHT
    return Pairs(
        _keys(ranks, slots),
        _keys(ranks + step, np.where(right, slots, rng.integers(0, EACH, len(slots)))),
        rng.integers(LIKE // 5, LIKE, len(slots), np.int32),
        rng.random(len(slots)) < 0.98,
        np.full(len(slots), STRIP * CELLS * UNIT),
    )
