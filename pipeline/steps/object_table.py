"""`objects.parquet`: one row per object of the mosaic.

Every output block counts its own pixels of each object (`areas/ROW-COL.npz`); the table adds these up.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.steps.journal import AREAS
from pipeline.steps.link import load, read_objects, save
from pipeline.stitch.queries import SURE
from pipeline.storage.paths import AnyPath, whole
from pipeline.tiling import OutputBlock

FILE = "objects.parquet"


class Extents(NamedTuple):
    """Where m objects lie, and how large they are, as far as one block or the whole mosaic shows them.

    Attributes:
        numbers: (m,) int64, ascending, from 1.
        areas: (m,) int64, pixels.
        boxes: (m, 4) int64, top, left, bottom, right, of the mosaic's pixels; bottom and right are exclusive.
    """

    numbers: NDArray[np.int64]
    areas: NDArray[np.int64]
    boxes: NDArray[np.int64]


def measure(numbers: NDArray[np.integer], row: int, col: int) -> Extents:
    """The extents of the objects of a block of ids (H, W), 0 for none, whose first pixel is at a row and column."""
    rows, cols = np.nonzero(numbers)
    found, at = np.unique(numbers[rows, cols], return_inverse=True)
    tops, bottoms = _range(at, rows + row, len(found))
    lefts, rights = _range(at, cols + col, len(found))
    areas = np.bincount(at, minlength=len(found))
    return Extents(found.astype(np.int64), areas, np.stack([tops, lefts, bottoms + 1, rights + 1], 1))


def _range(at: NDArray[np.int64], values: NDArray[np.int64], count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The smallest and the largest value by place."""
    low, high = np.full(count, np.iinfo(np.int64).max), np.full(count, -1)
    np.minimum.at(low, at, values)
    np.maximum.at(high, at, values)
    return low, high


def save_extents(folder: AnyPath, block: OutputBlock, extents: Extents) -> AnyPath:
    """Write a block's extents into the run folder."""
    return save(folder / AREAS / f"{block.name}.npz", extents._asdict())


def add_up(parts: Iterable[Extents], count: int) -> Extents:
    """The extents of the objects 1..count in all blocks together; of those that have no pixel, an area of 0."""
    areas, boxes = np.zeros(count, np.int64), np.zeros((count, 4), np.int64)
    boxes[:, :2] = np.iinfo(np.int64).max
    for part in parts:
        at = part.numbers - 1
        areas[at] += part.areas
        boxes[at, :2] = np.minimum(boxes[at, :2], part.boxes[:, :2])
        boxes[at, 2:] = np.maximum(boxes[at, 2:], part.boxes[:, 2:])
    return Extents(np.arange(1, count + 1), areas, boxes)


def count_objects(folder: AnyPath) -> int | None:
    """Rows of the table; None where there is none yet."""
    path = folder / FILE
    if not path.exists():
        return None
    with path.open("rb") as file:
        return int(pq.read_metadata(file).num_rows)


def write_objects(folder: AnyPath, classes: Sequence[str], blocks: Iterable[OutputBlock]) -> AnyPath:
    """Write the table of a finished run: id, class, name, score, area in pixels, and box.

    An object that others hide everywhere has no row. Only these blocks count: another layout may have left others.
    """
    objects = read_objects(folder)
    parts = (Extents(**load(folder / AREAS / f"{block.name}.npz")) for block in blocks)
    extents = add_up(parts, len(objects.classes))
    shown = extents.areas > 0
    kinds = objects.classes[shown]
    sides = dict(zip(("top", "left", "bottom", "right"), extents.boxes[shown].T, strict=True))
    table = pa.table({
        "id": extents.numbers[shown].astype(np.uint32),
        "class": kinds.astype(np.uint16),
        "name": pa.array(classes).take(pa.array(kinds)),
        "score": (objects.scores[shown] / SURE).astype(np.float32),
        "area": extents.areas[shown],
        **sides,
    })  # fmt: skip
    with whole(folder / FILE) as file:
        pq.write_table(table, file, compression="zstd")
    return folder / FILE
