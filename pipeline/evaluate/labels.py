"""The truth that a mosaic is measured against: a raster of class ids or instance ids on the mosaic's own grid."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.mosaic.mosaic import Mosaic
from pipeline.rasters.raster import MAX_BLOCK_BYTES, RasterSpec, Reader
from pipeline.tiling import Window
from pipeline.truth.label_raster import open_label_raster, read_values, without_nodata

Kind = Literal["classes", "instances"]
"""What the numbers are."""

Ignore = int | None | Literal["file"]
"""The value of pixels that are left out; None leaves out none, `file` is what the file says."""

VOID = int(np.iinfo(np.int64).min)
"""Stands for every pixel that is left out: no number of a file, which a training's `IGNORE` may be."""


@dataclass(frozen=True)
class Labels:
    """A raster of labels that fits a mosaic; nothing of it is read yet.

    Attributes:
        raster: The file.
        ignore: The value that is left out, or None.
    """

    raster: RasterSpec
    ignore: int | None

    def read(self, reader: Reader, window: Window) -> NDArray[np.int64]:
        """The labels of a window (h, w), VOID where they are left out.

        Raises:
            BlockError: They cannot be read.
        """
        values, unsaid = read_values(reader, window, self.ignore)
        labels: NDArray[np.int64] = values.astype(np.int64)
        labels[unsaid] = VOID
        return labels


def open_labels(
    path: Path | str,
    mosaic: Mosaic,
    kind: Kind,
    ignore: Ignore = "file",
    *,
    allow_vrt: bool = False,
    max_block_bytes: int = MAX_BLOCK_BYTES,
) -> Labels:
    """Look at labels, and check that they lie on the mosaic's grid.

    Args:
        path: A raster of one band of integers.
        mosaic: What will be compared.
        kind: What the numbers are.
        ignore: `file`: the file's nodata, else the mosaic's code for it (255); for instances the file's nodata unless
            it is 0, the background, else none.
        allow_vrt: Whether the file may name other files, below its own folder.
        max_block_bytes: Larger blocks are not decoded.

    Raises:
        InputError: The file cannot be read, holds no labels, or lies on another grid or in another CRS.
    """
    raster = open_label_raster(
        path, mosaic.place(), str(mosaic.path), allow_vrt=allow_vrt, max_block_bytes=max_block_bytes
    )
    chosen = _of_file(raster, mosaic, kind) if ignore == "file" else ignore
    # The file's nodata is weighed in that choice; a mask or alpha says by itself where labels are.
    return Labels(without_nodata(raster) if raster.mask == "nodata" else raster, chosen)


def _of_file(raster: RasterSpec, mosaic: Mosaic, kind: Kind) -> int | None:
    nodata = None if raster.mask != "nodata" or raster.nodata is None else int(raster.nodata)
    if kind == "instances":
        return nodata or None
    return mosaic.nodata if nodata is None else nodata
