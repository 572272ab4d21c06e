"""What is known of each region or object of a mosaic, with its outline in the mosaic's CRS."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import pyarrow.parquet as pq
import shapely
from numpy.typing import NDArray

from pipeline.errors import InputError, RunError
from pipeline.export.regions import SIDE, Block, regions
from pipeline.export.trace import Region
from pipeline.mosaic.codes import CERTAIN, NO_INSTANCE
from pipeline.mosaic.mosaic import Mosaic
from pipeline.report import OnProgress, Progress
from pipeline.steps.journal import Journal
from pipeline.steps.object_table import FILE
from pipeline.storage.paths import AnyPath
from pipeline.tiling import Window

Traced = Literal["classes", "instances"]

MOST_FEATURES, MOST_POINTS = 4096, 100_000
"""At which a batch is full; a feature alone may have more points."""


class Feature(NamedTuple):
    """One polygon of a class, or one object.

    Attributes:
        id: From 1; of an object, the one in the mosaic.
        kind: The class id.
        score: From 0 to 1: the mean confidence of a region, the score of an object.
        pixels: How many.
        outline: A polygon, of an object a multipolygon; x are columns and y are rows of the mosaic.
    """

    id: int
    kind: int
    score: float
    pixels: int
    outline: Any


def trace_features(mosaic: Mosaic, array: Traced, progress: OnProgress, side: int = SIDE) -> Iterator[Feature]:
    """The features of a mosaic, each as soon as it is whole.

    Args:
        mosaic: It is complete.
        array: What to trace.
        progress: Hears of every block.
        side: Pixels a side of the blocks that are read.

    Raises:
        InputError: There is no table of the objects.
        RunError: The table and the array do not agree.
    """
    reader = _Reader(mosaic, array, progress)
    found = regions(reader, mosaic.shape, side)
    return _of_classes(found) if array == "classes" else _of_objects(found, Objects.of(mosaic))


class _Reader:
    """Reads what is to be traced, and tells of it."""

    def __init__(self, mosaic: Mosaic, array: Traced, progress: OnProgress) -> None:
        self._mosaic, self._array, self._progress = mosaic, array, progress
        self._total, self._done = mosaic.shape[0] * mosaic.shape[1], 0
        progress(Progress("export", 0, self._total, 0, None))

    def __call__(self, window: Window) -> Block:
        values = np.asarray(self._mosaic.array(self._array)[window.slices])
        self._done += window.height * window.width
        self._progress(Progress("export", self._done, self._total, self._done, str(window)))
        if self._array == "instances":
            return Block(values, values != NO_INSTANCE, np.zeros(values.shape, np.uint8))
        confidence = np.asarray(self._mosaic.confidence[window.slices])
        return Block(values, values < len(self._mosaic.class_names), confidence)


def _of_classes(found: Iterable[Region]) -> Iterator[Feature]:
    return map(_of_region, count(1), found)


def _of_region(id: int, region: Region) -> Feature:
    return Feature(id, region.value, region.strength / region.pixels / CERTAIN, region.pixels, region.outline)


@dataclass
class Objects:
    """The rows of `objects.parquet` by id; those of ids that have none say 0 pixels.

    Attributes:
        path: The table.
        kinds: (N + 1,) class ids.
        scores: (N + 1,).
        pixels: (N + 1,).
    """

    path: AnyPath
    kinds: NDArray[np.uint16]
    scores: NDArray[np.float32]
    pixels: NDArray[np.int64]

    @classmethod
    def of(cls, mosaic: Mosaic) -> Self:
        """The table of a mosaic.

        Raises:
            InputError: There is none.
        """
        path = Journal.of(mosaic.path.resolve()).folder / FILE
        if not path.exists():
            raise InputError(
                f"{path}: is not there, which has the objects' classes and scores; put it beside the .zarr"
            )
        with path.open("rb") as file:
            table = pq.read_table(file, columns=["id", "class", "score", "area"])
        ids, kinds, scores, areas = (column.to_numpy() for column in table.itercolumns())
        rows = int(ids.max(initial=0)) + 1
        made = cls(path, np.zeros(rows, np.uint16), np.zeros(rows, np.float32), np.zeros(rows, np.int64))
        made.kinds[ids], made.scores[ids], made.pixels[ids] = kinds, scores, areas
        return made


def _of_objects(found: Iterable[Region], table: Objects) -> Iterator[Feature]:
    """An object is whole as soon as its parts have as many pixels as the table says."""
    parts: dict[int, list[Any]] = {}
    missing = table.pixels.copy()
    for id, pixels, _, outline in found:
        if id >= len(missing) or missing[id] < pixels:
            raise _of_another(table)
        missing[id] -= pixels
        parts.setdefault(id, []).append(outline)
        if not missing[id]:
            kind, score = int(table.kinds[id]), float(table.scores[id])
            yield Feature(id, kind, score, int(table.pixels[id]), shapely.multipolygons(parts.pop(id)))
    if missing.any():
        raise _of_another(table)


def _of_another(table: Objects) -> RunError:
    return RunError(f"{table.path}: is not of the instances that are there; make both again with eomt-batch stitch")


def batches(features: Iterable[Feature]) -> Iterator[list[Feature]]:
    """Features by the thousand, or fewer large ones."""
    batch: list[Feature] = []
    points = 0
    for feature in features:
        batch.append(feature)
        points += int(shapely.get_num_coordinates(feature.outline))
        del feature  # nothing is held here while it is written
        if len(batch) == MOST_FEATURES or points > MOST_POINTS:
            yield _emptied(batch)
            points = 0
    if batch:
        yield _emptied(batch)


def _emptied(batch: list[Feature]) -> list[Feature]:
    """What was in a list, which is empty then."""
    taken = batch.copy()
    batch.clear()
    return taken
