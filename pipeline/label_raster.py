"""Labels that are a raster: one band of whole numbers on the image's own grid."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pyproj import CRS
from pyproj.exceptions import CRSError
from rasterio.transform import Affine

from pipeline.errors import InputError
from pipeline.raster import Reader, open_raster
from pipeline.raster_spec import RasterSpec
from pipeline.source import shown
from pipeline.tiling import Window, ceil_to

IGNORE = -1
"""Pixels that say nothing: they are neither learnt from nor scored."""

BYTE_IGNORE = 255
"""What stands for `IGNORE` in rasters of classes by default; among instances it is an id."""

LARGEST = 2**31 - 1

NEAR = 0.1
"""Pixels by which the corners of image and labels may differ: transforms are written with few digits."""

SCAN_SIDE = 2048
"""Pixels a side of what is looked through at once."""


class RasterTruth:
    """Values of a raster of labels.

    Args:
        path: The file.
        image: What it labels.
        ignore: The value of pixels that say nothing.
        instances: Whether values are ids of instances.

    Raises:
        InputError: The file cannot be read, is no raster of labels, or lies on another grid.
    """

    def __init__(self, path: str | Path, image: RasterSpec, ignore: int, *, instances: bool) -> None:
        spec = open_raster(path, needed=1)
        _check_kind(spec)
        check_grid(spec, image)
        if instances and spec.mask == "nodata" and spec.nodata == 0:  # what GDAL's tools write for the background
            spec = open_raster(path, needed=1, nodata="none")
        self._ignore = None if instances and ignore == BYTE_IGNORE else ignore
        self._what = "instance id" if instances else "class"
        self._reader = Reader(spec)

    def close(self) -> None:
        """Close the handles of all threads."""
        self._reader.close()

    def windows(self) -> Iterator[Window]:
        """Windows of whole blocks that cover the raster."""
        return scan(self._reader.spec.grid.shape, self._reader.spec.block_shape)

    def read(self, window: Window) -> NDArray[np.int32]:
        """Values of a window, (h, w).

        Raises:
            BlockError: The file cannot be read there.
            InputError: A value is below 0, or too large.
        """
        pixels, valid = self._reader.read(window)
        found, unsaid = pixels[0], ~valid
        if self._ignore is not None:
            unsaid |= found == self._ignore
        if found.dtype.kind == "i" or found.dtype.itemsize >= 4:
            self._check(found[~unsaid & ((found < 0) | (found > LARGEST))])
        labels: NDArray[np.int32] = found.astype(np.int32)
        labels[unsaid] = IGNORE
        return labels

    def _check(self, strange: NDArray[np.integer]) -> None:
        if strange.size:
            value = int(strange.flat[0])
            count = int((strange == value).sum())
            raise InputError(
                f"{shown(self._reader.spec.path)}: {count} pixels have the value {value}, which is no {self._what}; "
                f"give --ignore {value} if they say nothing"
            )


def scan(shape: tuple[int, int], block: tuple[int, int]) -> Iterator[Window]:
    """Windows of whole blocks, of about `SCAN_SIDE` squared pixels each, that cover a raster once."""
    rows, cols = shape
    width = cols if block[1] >= cols else ceil_to(SCAN_SIDE, block[1])
    height = ceil_to(max(1, SCAN_SIDE**2 // min(width, cols)), block[0])
    for row in range(0, rows, height):
        for col in range(0, cols, width):
            yield Window(row, col, min(height, rows - row), min(width, cols - col))


def _check_kind(spec: RasterSpec) -> None:
    """Refuse what holds no labels."""
    name = shown(spec.path)
    bands = spec.count - (spec.alpha is not None)
    if bands > 1:
        raise InputError(f"{name}: has {bands} bands; labels are one band of indexes, not colours: convert it")
    if np.dtype(spec.dtype).kind == "f":
        raise InputError(f"{name}: pixels are {spec.dtype}; labels are whole numbers: gdal_translate -ot UInt16")
    if spec.driver == "JPEG":
        raise InputError(f"{name}: is a JPEG, which blurs labels; make it again as PNG or TIFF")


def check_grid(labels: RasterSpec, image: RasterSpec) -> None:
    """Refuse labels that lie on another grid than the image, as far as both say where they lie.

    Raises:
        InputError: They differ in size, CRS or transform.
    """
    name, other = shown(labels.path), shown(image.path)
    sizes = ["{1} x {0}".format(*spec.grid.shape) for spec in (labels, image)]
    if sizes[0] != sizes[1]:
        raise InputError(f"{name}: is {sizes[0]} pixels, {other} is {sizes[1]}; labels need the image's own grid")
    if labels.crs and image.crs and not _same_crs(labels.crs, image.crs):
        names = [CRS(crs).name for crs in (labels.crs, image.crs)]
        raise InputError(f"{name}: is in {names[0]}, {other} in {names[1]}; gdalwarp the labels onto the image's grid")
    shift = _shift(labels, image)
    if shift > NEAR:
        raise InputError(
            f"{name}: lies up to {shift:.3g} pixels beside {other}; gdalwarp the labels onto the image's grid"
        )


def _same_crs(one: str, other: str) -> bool:
    if one == other:
        return True
    try:
        return bool(CRS(one).equals(CRS(other), ignore_axis_order=True))
    except CRSError:  # one that PROJ does not know cannot be said to differ
        return True


def _shift(labels: RasterSpec, image: RasterSpec) -> float:
    """Pixels by which the corners of two rasters of one size lie apart; 0 where one does not say where it lies."""
    if labels.grid.transform is None or image.grid.transform is None:
        return 0.0
    rows, cols = image.grid.shape
    corners = np.array([[0, cols, 0, cols], [0, 0, rows, rows], [1, 1, 1, 1]], np.float64)
    there = np.reshape(tuple(Affine(*labels.grid.transform)), (3, 3)) @ corners
    back = np.linalg.solve(np.reshape(tuple(Affine(*image.grid.transform)), (3, 3)), there)
    return float(np.abs(back - corners).max())
