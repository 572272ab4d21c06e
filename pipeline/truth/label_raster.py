"""Labels that are a raster: one band of whole numbers on the grid of what they label."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyproj.exceptions import CRSError
from rasterio.transform import Affine

from eomt_core.training.batch import IGNORE
from pipeline.errors import InputError
from pipeline.mosaic.georeference import Georeference
from pipeline.rasters.raster import MAX_BLOCK_BYTES, Reader, open_raster
from pipeline.rasters.raster_spec import RasterSpec
from pipeline.rasters.source import shown
from pipeline.tiling import Window, ceil_to

BYTE_IGNORE = 255
"""What stands for `IGNORE` in rasters of classes by default; among instances it is an id."""

LARGEST = 2**31 - 1

NEAR = 0.1
"""Pixels by which the corners of two grids may lie apart: transforms are written with few digits."""

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
        place = Georeference(image.grid.shape, image.grid.transform, image.crs)
        spec = open_label_raster(path, place, shown(image.path))
        if instances and spec.mask == "nodata" and spec.nodata == 0:  # what GDAL's tools write for the background
            spec = without_nodata(spec)
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
        found, unsaid = read_values(self._reader, window, self._ignore)
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


def open_label_raster(
    path: str | Path, place: Georeference, name: str, *, allow_vrt: bool = False, max_block_bytes: int = MAX_BLOCK_BYTES
) -> RasterSpec:
    """Look at a raster of labels, reading no pixel of it, and see whether it lies where it should.

    Args:
        path: The file.
        place: The grid of what it labels.
        name: Of what it labels.
        allow_vrt: Whether the file may name other files, below its own folder.
        max_block_bytes: Larger blocks are not decoded.

    Raises:
        InputError: The file cannot be read, holds no labels, or lies on another grid or in another CRS.
    """
    spec = open_raster(path, needed=1, allow_vrt=allow_vrt, max_block_bytes=max_block_bytes)
    _check_kind(spec)
    _check_place(spec, place, name)
    return spec


def without_nodata(spec: RasterSpec) -> RasterSpec:
    """The same raster, but the value that the file calls nodata is a value like any other."""
    return replace(spec, mask="none", nodata=None)


def read_values(reader: Reader, window: Window, ignore: int | None) -> tuple[NDArray[np.integer], NDArray[np.bool_]]:
    """Values (h, w) of a raster of labels as they are in the file, and where they say nothing.

    Raises:
        BlockError: The file cannot be read there.
    """
    pixels, valid = reader.read(window)
    values, unsaid = pixels[0], ~valid
    return values, unsaid if ignore is None else unsaid | (values == ignore)


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


def _check_place(labels: RasterSpec, place: Georeference, name: str) -> None:
    """Refuse labels that lie on another grid, as far as both say where they lie."""
    own = Georeference(labels.grid.shape, labels.grid.transform, labels.crs)
    alike = own.shape == place.shape and _same_crs(own, place)
    shift = _shift(own, place) if alike else 0.0
    if alike and shift <= NEAR:
        return
    apart = f", up to {shift:.3g} pixels beside it" if shift > NEAR else ""
    raise InputError(
        f"{shown(labels.path)}: {_words(own)}, but {name}: {_words(place)}{apart}; bring the labels onto that grid "
        "with gdalwarp -r near"
    )


def _same_crs(one: Georeference, other: Georeference) -> bool:
    if one.crs is None or other.crs is None or one.crs == other.crs:
        return True
    try:
        return bool(one.projection.equals(other.projection, ignore_axis_order=True))  # type: ignore[union-attr]
    except CRSError:  # one that PROJ does not know cannot be said to differ
        return True


def _shift(one: Georeference, other: Georeference) -> float:
    """Pixels by which the corners of two grids of one shape lie apart; 0 where one does not say where it lies."""
    if one.transform is None or other.transform is None:
        return 0.0
    rows, cols = other.shape
    corners = np.array([[0, cols, 0, cols], [0, 0, rows, rows], [1, 1, 1, 1]], np.float64)
    there = np.reshape(tuple(Affine(*one.transform)), (3, 3)) @ corners
    back = np.linalg.solve(np.reshape(tuple(Affine(*other.transform)), (3, 3)), there)
    return float(np.abs(back - corners).max())


def _words(place: Georeference) -> str:
    """A grid and its CRS on one line."""
    rows, cols = place.shape
    text = f"{rows} x {cols} pixels (rows x columns)"
    if place.transform is not None:
        a, _, c, _, e, f = place.transform
        text += f" of {a:.10g} x {abs(e):.10g} from x {c:.12g}, y {f:.12g}"
    return f"{text} in {_crs_name(place)}"


def _crs_name(place: Georeference) -> str:
    try:
        projection: Any = place.projection
    except CRSError:
        return "a CRS that PROJ does not know"
    if projection is None:
        return "no CRS"
    authority = projection.to_authority()
    return ":".join(authority) if authority else str(projection.name)
