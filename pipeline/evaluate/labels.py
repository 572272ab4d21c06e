"""The truth that a mosaic is measured against: a raster of class ids or instance ids on the mosaic's own grid."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.georeference import Georeference
from pipeline.mosaic import Mosaic
from pipeline.raster import MAX_BLOCK_BYTES, RasterSpec, Reader, open_raster
from pipeline.source import shown
from pipeline.tiling import Window

Kind = Literal["classes", "instances"]
"""What the numbers are."""

Ignore = int | None | Literal["file"]
"""The value of pixels that are left out; None leaves out none, `file` is what the file says."""

VOID = int(np.iinfo(np.int64).min)
"""Stands for every pixel that is left out, whatever the file has there."""

NEAR = 0.01
"""Pixels that the corners of two grids may lie apart: what is lost when a transform is written as text."""


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
        values, valid = reader.read(window)
        labels: NDArray[np.int64] = values[0].astype(np.int64)
        # The file's nodata value is weighed in `ignore`; a mask or alpha says by itself where labels are.
        if self.raster.mask in ("dataset", "alpha"):
            labels[~valid] = VOID
        if self.ignore is not None:
            labels[labels == self.ignore] = VOID
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
    raster = open_raster(path, bands="1", needed=1, allow_vrt=allow_vrt, max_block_bytes=max_block_bytes)
    bands = raster.count - (raster.alpha is not None)
    if bands != 1:
        raise InputError(
            f"{shown(raster.path)}: has {bands} bands, labels have one; take it out with gdal_translate -b"
        )
    if raster.dtype[0] not in "iu":
        raise InputError(
            f"{shown(raster.path)}: pixels are {raster.dtype}, labels are integers; gdal_translate -ot Byte"
        )
    _check_place(raster, mosaic)
    return Labels(raster, _of_file(raster, mosaic, kind) if ignore == "file" else ignore)


def _of_file(raster: RasterSpec, mosaic: Mosaic, kind: Kind) -> int | None:
    nodata = None if raster.mask != "nodata" or raster.nodata is None else int(raster.nodata)
    if kind == "instances":
        return nodata or None
    return mosaic.nodata if nodata is None else nodata


def _check_place(raster: RasterSpec, mosaic: Mosaic) -> None:
    labels, place = Georeference(raster.grid.shape, raster.grid.transform, raster.crs), mosaic.place()
    if labels.shape == place.shape and _near(labels, place) and _same_crs(labels, place):
        return
    raise InputError(
        f"{shown(raster.path)}: {_words(labels)}, but {mosaic.path}: {_words(place)}; bring the labels onto the "
        "mosaic's grid with gdalwarp -r near"
    )


def _near(one: Georeference, two: Georeference) -> bool:
    """Whether the corners meet. A file that does not say where it lies contradicts nothing."""
    if one.transform is None or two.transform is None:
        return True
    a, b, _, d, e, _ = one.transform
    pixel = abs(a * e - b * d) ** 0.5
    corners = np.array([[col, row, 1] for row in (0, one.shape[0]) for col in (0, one.shape[1])])
    apart = corners @ (np.reshape(one.transform, (2, 3)) - np.reshape(two.transform, (2, 3))).T
    return bool((np.hypot(*apart.T) <= NEAR * pixel).all())


def _same_crs(one: Georeference, two: Georeference) -> bool:
    if one.crs is None or two.crs is None or one.crs == two.crs:
        return True
    assert one.projection is not None
    return bool(one.projection.equals(two.projection, ignore_axis_order=True))


def _words(place: Georeference) -> str:
    """A grid and its CRS on one line."""
    rows, cols = place.shape
    text = f"{rows} x {cols} pixels (rows x columns)"
    if place.transform is not None:
        a, _, c, _, e, f = place.transform
        text += f" of {a:.10g} x {abs(e):.10g} from x {c:.12g}, y {f:.12g}"
    return f"{text} in {_crs_name(place.projection)}"


def _crs_name(projection: Any) -> str:
    if projection is None:
        return "no CRS"
    authority = projection.to_authority()
    return ":".join(authority) if authority else str(projection.name)
