"""Peak memory of exports of a mosaic as large as anyone asks for: a small one, repeated."""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.bench.memory import watch
from pipeline.export.export import SUFFIXES, Exported, To
from pipeline.mosaic.codes import NO_INSTANCE
from pipeline.mosaic.mosaic import Mosaic, open_mosaic
from pipeline.rasters.raster_spec import Grid
from pipeline.steps.journal import Journal
from pipeline.steps.object_table import FILE
from pipeline.tiling import Window, output_blocks

Pixels = dict[str, NDArray[np.unsignedinteger]]
"""By array of the mosaic."""

EXPORT = "from workflows.cli import main; main()"


@dataclass(frozen=True)
class ExportRow:
    """One measurement.

    Attributes:
        to: The format.
        array: What was exported.
        pixels: Of the mosaic.
        size: Bytes of the file.
        peak: Most resident bytes of the process.
        seconds: Wall time.
    """

    to: str
    array: str
    pixels: int
    size: int
    peak: int
    seconds: float


def measure_export(mosaic: Mosaic, to: To, array: Exported) -> ExportRow:
    """Export one array in a process of its own and watch it; the file, beside the mosaic, is dropped.

    Raises:
        subprocess.CalledProcessError: It failed.
    """
    file = mosaic.path.with_name(f"{array}{SUFFIXES[to]}")
    options = ["--to", to, "--array", array, "--out", str(file), "--overwrite", "--quiet"]
    start = time.perf_counter()
    peak = watch([sys.executable, "-c", EXPORT, "export", str(mosaic.path), *options])
    row = ExportRow(
        to, array, int(np.prod(mosaic.shape)), file.stat().st_size, peak, round(time.perf_counter() - start, 1)
    )
    for made in file.parent.glob(f"{file.name}*"):
        made.unlink()
    return row


def write_repeated(source: Path, path: Path, side: int) -> Mosaic:
    """Write a mosaic of whole copies of another one, at least so many pixels a side; each copy has objects of its own.

    Args:
        source: A complete mosaic.
        path: Where; its table of objects comes into a run folder beside it.
        side: Pixels.

    Raises:
        InputError: There is no mosaic.
        OutputError: The path is taken.
    """
    small = open_mosaic(source)
    rows, cols = (-(-side // size) for size in small.shape)
    grid = Grid((rows * small.shape[0], cols * small.shape[1]), small.transform)
    large = Mosaic.create(
        path,
        grid,
        small.crs,
        classes=small.class_names,
        colours=small.colours,
        instances=small.instances is not None,
        provenance=small.provenance,
    )
    table = _table(small)
    most = pc.max(table["id"]).as_py() if table else 0
    pixels = {name: np.asarray(small.array(name)[:]) for name in small.names}
    for block in output_blocks(grid.shape, large.side):
        large.write(block.window, level=0, **_repeated(pixels, block.window, cols, most))
    large.finish()
    if table:
        folder = Journal.of(path).folder
        folder.mkdir()
        pq.write_table(_of_copies(table, rows * cols, most), folder / FILE)
    return large


def _table(mosaic: Mosaic) -> pa.Table | None:
    return None if mosaic.instances is None else pq.read_table(Journal.of(mosaic.path).folder / FILE)


def _of_copies(table: pa.Table, copies: int, most: int) -> pa.Table:
    """The table of so many copies; boxes are left out, as they would be those of the first one."""
    plain = table.select(["id", "class", "name", "score", "area"])
    id = np.asarray(plain["id"], np.uint32)
    ids = [pa.array(id + np.uint32(copy * most)) for copy in range(copies)]
    return pa.concat_tables([plain.set_column(0, "id", one) for one in ids])


def _repeated(pixels: Pixels, window: Window, cols: int, most: int) -> Pixels:
    """The pixels of a window of the copies, which lie so many side by side."""
    down, across = (np.arange(part.start, part.stop) for part in window.slices)
    height, width = pixels["classes"].shape
    found = {name: values[np.ix_(down % height, across % width)] for name, values in pixels.items()}
    if "instances" in found:
        copy = ((down // height)[:, None] * cols + across // width).astype(np.uint32)
        ids = found["instances"]
        found["instances"] = np.where(ids != NO_INSTANCE, ids + copy * np.uint32(most), ids)
    return found


def formats(names: Sequence[To], mosaic: Mosaic) -> list[tuple[To, Exported]]:
    """Each format with each array that it can take: polygons have no confidence."""
    arrays: list[Exported] = ["classes"] if mosaic.instances is None else ["classes", "instances"]
    return [(to, array) for array in arrays for to in names]
