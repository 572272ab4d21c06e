"""What a model gets wrong in its tiles, by the distance to the tile's edge, and how often; nothing is stitched.

The measured counterpart of the rates that `pipeline.bench.stitching.errors` chose for its simulated model.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import reduce
from operator import add
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.bench.slides.infer import infer
from pipeline.bench.slides.slide import Slide, truth_of
from pipeline.bench.stitching.errors import Errors
from pipeline.bench.stitching.metrics import COVERED, Overlaps, over_split
from pipeline.bench.stitching.pixels import at_pixels
from pipeline.bench.stitching.scene import Truth
from pipeline.bench.stitching.table import Cut
from pipeline.config import RunConfig
from pipeline.stitch.fuse import fuse, query_scores
from pipeline.stitch.queries import SURE, Rules, TileQueries, least_code
from pipeline.tiling import TilePlan, Window

BANDS = (0, 4, 8, 16, 32, 64)
"""Pixels from a tile's edge at which bands begin; the last one has no end."""

Counts = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Edges:
    """Counts by band, each (len(`BANDS`),); an object is in the band where the middle of what the tile sees of it lies.

    Attributes:
        objects: true ones.
        matched: those with a segment of an IoU above one half, of what the tile sees.
        iou: of the matched, summed.
        wrong: pixels that are an object's in truth alone or in the answer alone.
        union: pixels that are an object's in either.
    """

    objects: Counts
    matched: Counts
    iou: NDArray[np.float64]
    wrong: Counts
    union: Counts

    def __add__(self, other: Self) -> "Edges":
        return Edges(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))

    def rows(self) -> Iterator["Band"]:
        """One row per band."""
        for index, start in enumerate(BANDS):
            values = (getattr(self, field.name)[index] for field in fields(self))
            objects, matched, iou, wrong, union = (float(value) for value in values)
            unmatched = _share(objects - matched, objects)
            yield Band(start, int(objects), unmatched, _share(iou, matched), _share(wrong, union))


@dataclass(frozen=True)
class Band:
    """One band of distances to a tile's edge; None where nothing is in it.

    Attributes:
        start: pixels from the edge, up to where the next one starts.
        objects: true ones.
        unmatched: share of them that nothing matches.
        iou: mean of those that are matched.
        wrong: share of the pixels of objects, true or found, that are only one of the two.
    """

    start: int
    objects: int
    unmatched: float | None
    iou: float | None
    wrong: float | None

    @property
    def line(self) -> str:
        """For people."""
        end = next((str(start) for start in BANDS if start > self.start), "")
        shares = (
            f"unmatched {_percent(self.unmatched)}   IoU {_percent(self.iou)}   wrong pixels {_percent(self.wrong)}"
        )
        return f"{self.start:>3} to {end:<3} px from the edge   {self.objects:>6} objects   {shares}"


@dataclass(frozen=True)
class Faults:
    """How often a tile is wrong, in counts over all tiles.

    Attributes:
        tiles: that were looked at.
        whole: true objects that a tile sees whole, once for each tile.
        cut: those of which it sees a part.
        whole_missed: whole ones of which no half is covered by segments.
        cut_missed: parts likewise.
        split: objects and parts with two segments or more on a tenth of them each.
        touching: pairs of objects that touch.
        joined: such pairs of which one segment covers half of both.
        false: segments of which less than half is on objects.
        duplicates: queries that count and match an object that another one matches too.
    """

    tiles: int
    whole: int
    cut: int
    whole_missed: int
    cut_missed: int
    split: int
    touching: int
    joined: int
    false: int
    duplicates: int

    def __add__(self, other: Self) -> "Faults":
        return Faults(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))

    @property
    def rates(self) -> dict[str, float | None]:
        """Those of `Errors` that have a counterpart, by its names: per object, pair or, what is false, tile."""
        objects = self.whole + self.cut
        return {
            "miss": _share(self.whole_missed, self.whole),
            "miss_cut": _share(self.cut_missed, self.cut),
            "split": _share(self.split, objects),
            "duplicate": _share(self.duplicates, objects),
            "joined": _share(self.joined, self.touching),
            "false": _share(self.false, self.tiles),
        }

    @property
    def simulated(self) -> dict[str, float]:
        """What the simulated model has for the same, where it has it."""
        return {name: getattr(Errors(), name) for name in self.rates if hasattr(Errors(), name)}

    @property
    def lines(self) -> str:
        """For people."""
        counts = f"{self.tiles} tiles   {self.whole} objects whole, {self.cut} in part   {self.touching} pairs touch"
        return f"{counts}\nmeasured    {_words(self.rates)}\nsimulated   {_words(self.simulated)}"


def _words(rates: Mapping[str, float | None]) -> str:
    return "   ".join(f"{name} {'-' if rate is None else f'{rate:.3f}'}" for name, rate in rates.items())


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def _share(part: float, whole: float) -> float | None:
    return round(part / whole, 4) if whole else None


def measure_edges(slide: Slide, config: RunConfig) -> tuple[Edges, Faults]:
    """Look at all tiles of a slide, which begins in the middle of an image.

    Raises:
        UsageError: options that do not go together.
        RunError: the run failed.
    """
    with TemporaryDirectory(prefix="eomt-batch-bench-") as folder:
        return count(infer(slide.shifted, Path(folder) / "slide.zarr", config))


def count(cut: Cut) -> tuple[Edges, Faults]:
    """Count over all tiles."""
    tiles = cut.plan.covering(cut.plan.raster)
    read = ((tile.window, queries) for tile in tiles if (queries := cut.read(tile)) is not None)
    edges, faults = zip(*(_look(cut, window, at_pixels(queries, cut.stride)) for window, queries in read), strict=True)
    return reduce(add, edges), reduce(add, faults)


def _look(cut: Cut, window: Window, queries: TileQueries) -> tuple[Edges, Faults]:
    """Count over one tile: what is there, and what the model says."""
    inside = window.intersect(cut.plan.raster)
    ids = cut.truth.ids[inside.slices].astype(np.int64)
    truth, fused = truth_of(ids), fuse(queries, cut.rules)
    labels = fused.labels[: inside.height, : inside.width].astype(np.int64) + 1
    whole = np.append(False, truth.areas[1:] == cut.truth.areas[np.unique(ids[ids > 0])])
    edges = _edges(truth, labels, _bands(cut.plan, inside))
    return edges, _faults(truth, labels, whole, _twice(truth, queries, cut.rules))


def _bands(plan: TilePlan, inside: Window) -> Counts:
    """The band of each pixel (h, w) of a tile; the raster's own border is no edge."""
    rows, cols = (
        _distances(start, stop, size)
        for start, stop, size in zip(inside[:2], (inside.bottom, inside.right), plan.shape, strict=True)
    )
    return np.searchsorted(BANDS, np.minimum(rows[:, None], cols), side="right") - 1


def _distances(start: int, stop: int, size: int) -> Counts:
    """Pixels between each line and the tile's edge."""
    far = np.full(stop - start, size)
    along = np.arange(stop - start)
    return np.minimum(along if start else far, along[::-1] if stop < size else far)


def _edges(truth: Truth, labels: Counts, bands: Counts) -> Edges:
    overlaps = Overlaps.of(truth, labels)
    middles = ndimage.center_of_mass(truth.ids > 0, truth.ids, np.arange(1, len(truth) + 1))
    rows, cols = np.array(middles, float).reshape(-1, 2).round().astype(int).T
    at = np.append(0, bands[rows, cols])
    match = overlaps.matches
    true, found = truth.ids > 0, labels > 0

    def counted(values: NDArray[np.integer]) -> Counts:
        return np.bincount(values, minlength=len(BANDS))

    iou = np.zeros(len(BANDS))
    np.add.at(iou, at[overlaps.true[match]], overlaps.iou[match])
    matched, wrong, union = at[overlaps.true[match]], bands[true ^ found], bands[true | found]
    return Edges(counted(at[1:]), counted(matched), iou, counted(wrong), counted(union))


def _faults(truth: Truth, labels: Counts, whole: NDArray[np.bool_], duplicates: int) -> Faults:
    overlaps = Overlaps.of(truth, labels)
    covered = np.bincount(overlaps.true, overlaps.shared, len(truth) + 1)
    missed = covered < COVERED * truth.areas
    missed[0] = False
    on_objects = np.bincount(overlaps.found, overlaps.shared, len(overlaps.ids))
    return Faults(
        tiles=1,
        whole=int(whole.sum()),
        cut=int((~whole[1:]).sum()),
        whole_missed=int((missed & whole).sum()),
        cut_missed=int((missed & ~whole).sum()),
        split=over_split(overlaps),
        touching=len(truth.touching),
        joined=_joined(truth, overlaps),
        false=int((on_objects < COVERED * overlaps.areas).sum()),
        duplicates=duplicates,
    )


def _joined(truth: Truth, overlaps: Overlaps) -> int:
    """Touching pairs of which one segment covers half of both."""
    mostly = overlaps.shared >= COVERED * truth.areas[overlaps.true]
    owner = dict(zip(overlaps.true[mostly].tolist(), overlaps.found[mostly].tolist(), strict=True))
    return sum(one in owner and owner[one] == owner.get(other) for one, other in truth.touching)


def _twice(truth: Truth, queries: TileQueries, rules: Rules) -> int:
    """Queries that count, and match a true object that one before matches."""
    height, width = truth.ids.shape
    scores, classes = query_scores(queries, rules)
    counting = (classes < queries.class_probs.shape[1] - 1) & (scores > rules.score_threshold * SURE)
    matched: list[int] = []
    for query in np.flatnonzero(counting).tolist():
        claims = queries.masks[query, :height, :width] >= least_code(rules.mask_threshold)
        shared = np.bincount(truth.ids[claims], minlength=len(truth) + 1)
        matched += np.flatnonzero(2 * shared[1:] > (truth.areas + claims.sum() - shared)[1:]).tolist()
    return len(matched) - len(set(matched))
