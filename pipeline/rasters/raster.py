"""From a path to a `RasterSpec`, and from a spec to pixels. Here alone rows and columns become GDAL's words."""

import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from rasterio.errors import CRSError
from rasterio.transform import from_gcps
from rasterio.windows import Window as GdalWindow

from pipeline.addresses import query_digest
from pipeline.errors import HostError, InputError, RunError, TransientError
from pipeline.rasters.bands import Band, choose_bands
from pipeline.rasters.raster_spec import Affine6, Grid, RasterSpec, Stamp
from pipeline.rasters.remarks import remarks
from pipeline.rasters.source import (
    CACHE_BYTES,
    GDAL_ERRORS,
    Source,
    cause,
    check_block,
    check_files,
    find_source,
    gdal_env,
    open_source,
    shown,
)
from pipeline.rasters.validity import choose_validity, is_nodata
from pipeline.tiling import Window

__all__ = ["CACHE_BYTES", "MAX_BLOCK_BYTES", "Grid", "Pixels", "RasterSpec", "Reader", "open_raster"]

MAX_BLOCK_BYTES = 256 * 2**20
MOST_PIXELS = 2**42
"""A header may say anything, and lists of tiles and blocks grow with it; this is the ground of the Earth at 6 m."""

WHOLE_IMAGE = {"WEBP", "GIF"}
"""Formats that are decoded whole, whatever block GDAL reports."""


def open_raster(
    path: str | Path,
    *,
    bands: str | None = None,
    default_bands: Sequence[str | int] | None = None,
    needed: int = 3,
    nodata: str | None = None,
    subdataset: int | None = None,
    allow_vrt: bool = False,
    allow_remote: bool = False,
    max_block_bytes: int = MAX_BLOCK_BYTES,
) -> RasterSpec:
    """Look at a raster, reading none of its pixels, and choose bands and validity.

    Args:
        path: A file; a URL where that is allowed.
        bands: `--bands`; see `choose_bands`.
        default_bands: The model card's bands.
        needed: Bands that the model takes.
        nodata: `--nodata`: a number that takes the place of the file's nodata, mask and alpha, or `none`.
        subdataset: The image of a TIFF with several, 1-based.
        allow_vrt: Whether a file may name other files, below its own folder.
        allow_remote: Whether the path may be a URL.
        max_block_bytes: Larger blocks are not decoded.

    Raises:
        InputError: The file cannot be read whole, is not allowed, or does not fit the options.
    """
    source = find_source(path, allow_vrt=allow_vrt, allow_remote=allow_remote)
    try:
        source = _at_page(source, subdataset)
        files = check_files(source, max_block_bytes)
        dataset, located = open_source(source)
        with dataset:
            found = [
                Band(index, color.name, name or "")
                for index, color, name in zip(dataset.indexes, dataset.colorinterp, dataset.descriptions, strict=True)
            ]
            chosen = choose_bands(bands, found, needed, default_bands, shown(source.path))
            check_block(source.path, _block_bytes(dataset, chosen), max_block_bytes)
            return _describe(source, dataset, located, chosen, nodata, tuple(map(Stamp.of, files)))
    except (*GDAL_ERRORS, OSError) as error:
        raise InputError(f"{shown(source.path)}: cannot be opened as {source.driver} ({cause(error)})") from error


def _at_page(source: Source, subdataset: int | None) -> Source:
    """The source at one of its images; pages of overviews and masks are not counted."""
    if subdataset is None:
        return source
    with open_source(source)[0] as dataset:
        pages = [int(name.split(":")[1]) - 1 for name in dataset.subdatasets if name.startswith("GTIFF_DIR:")] or [0]
    if not 1 <= subdataset <= len(pages):
        raise InputError(f"--subdataset {subdataset}: {shown(source.path)} has 1..{len(pages)}; give one of them")
    return Source(source.path, source.driver, source.remote, pages[subdataset - 1])


def _block_bytes(dataset: Any, bands: tuple[int, ...]) -> int:
    """Bytes that are decoded for one block."""
    item = np.dtype(dataset.dtypes[bands[0] - 1]).itemsize
    rows, cols = dataset.block_shapes[bands[0] - 1]
    if dataset.driver in WHOLE_IMAGE:
        rows, cols = dataset.shape
    together = dataset.count if dataset.tags(ns="IMAGE_STRUCTURE").get("INTERLEAVE") == "PIXEL" else 1
    return int(rows * cols * item * together)


def _describe(
    source: Source, dataset: Any, located: bool, bands: tuple[int, ...], nodata: str | None, stamps: tuple[Stamp, ...]
) -> RasterSpec:
    dtype = np.result_type(*(np.dtype(dataset.dtypes[band - 1]) for band in bands))
    if dtype.kind not in "iuf":
        raise InputError(f"{shown(source.path)}: pixels are {dtype}, not real numbers; convert them first")
    if dataset.width * dataset.height > MOST_PIXELS:
        raise InputError(
            f"{shown(source.path)}: says it has {dataset.height} x {dataset.width} pixels; cut it up first"
        )
    validity = choose_validity(dataset, bands, dtype, nodata)
    transform, crs, notes = _georeference(dataset, located)
    grid = Grid((dataset.height, dataset.width), transform)
    return RasterSpec(
        path=source.path,
        driver=source.driver,
        file=grid,
        grid=grid,
        crs=crs,
        count=dataset.count,
        dtype=dtype.name,
        bits=int(dataset.tags(bands[0], ns="IMAGE_STRUCTURE").get("NBITS", 8 * dtype.itemsize)),
        bands=bands,
        nodata=validity.nodata,
        mask=validity.mask,
        alpha=validity.alpha,
        block_shape=dataset.block_shapes[bands[0] - 1],
        stamps=stamps,
        page=source.page,
        notes=(*notes, *remarks(dataset, sum(stamp.size for stamp in stamps))),
        query=query_digest(source.path) if source.remote else "",
    )


def _georeference(dataset: Any, located: bool) -> tuple[Affine6 | None, str | None, list[str]]:
    """Transform, CRS, and what to tell. A CRS that locates nothing is left out."""
    points, points_crs = dataset.gcps
    elsewhere = dataset.transform.is_identity and bool(points or dataset.rpcs)
    if located and not elsewhere:
        transform = _affine6(dataset.transform)
        return transform, _wkt(dataset.crs), _askew(transform)
    fitted = _fit(points) if points else None
    if fitted is not None:
        return fitted, _wkt(points_crs), _askew(fitted)
    kind = "ground control points that fit no affine transform" if points else "RPCs only" if dataset.rpcs else ""
    return None, None, [f"has {kind}: the result lies in pixels; gdalwarp it first"] if kind else []


def _askew(transform: Affine6) -> list[str]:
    """A remark on rows and columns that run askew, which the mosaic's y and x cannot tell."""
    _, b, _, d, _, _ = transform
    return (
        ["lies askew: GDAL before 3.13 finds the place of its mosaic only through the .vrt beside it"] if b or d else []
    )


def _affine6(transform: Any) -> Affine6:
    a, b, c, d, e, f = (float(value) for value in tuple(transform)[:6])
    return a, b, c, d, e, f


def _fit(points: Sequence[Any]) -> Affine6 | None:
    """The affine transform through ground control points, if it misses none of them by more than a pixel."""
    a, b, c, d, e, f = _affine6(from_gcps(points))
    pixel = abs(a * e - b * d) ** 0.5
    misses = (
        np.hypot(a * point.col + b * point.row + c - point.x, d * point.col + e * point.row + f - point.y)
        for point in points
    )
    return (a, b, c, d, e, f) if pixel > 0 and all(miss <= pixel for miss in misses) else None


def _wkt(crs: Any) -> str | None:
    if not crs:
        return None
    try:
        return str(crs.to_wkt(version="WKT2_2019"))
    except CRSError:  # a local CRS that WKT2 has no words for
        return str(crs.to_wkt())


class Pixels(NamedTuple):
    """What was read.

    Args:
        pixels: (C, h, w) in the spec's dtype.
        valid: (h, w) bool.
    """

    pixels: NDArray[Any]
    valid: NDArray[np.bool_]


class Reader:
    """Reads windows of a raster, from any thread; each thread gets its own handle, as GDAL demands.

    Close it, or use it in `with`, once no thread reads any more.
    """

    def __init__(self, spec: RasterSpec) -> None:
        self.spec = spec
        self._own = threading.local()
        self._opened: list[Any] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the handles of all threads; a later read opens anew."""
        opened, self._opened, self._own = self._opened, [], threading.local()
        for dataset in opened:
            dataset.close()

    def snap(self, window: Window) -> Window:
        """The window grown to the file's blocks; see `RasterSpec.snap`."""
        return self.spec.snap(window)

    def read(self, window: Window) -> Pixels:
        """The pixels (C, h, w) and the validity (h, w) of a window inside the raster.

        A pixel is invalid where the mask says so, where all chosen bands are nodata, or where a band is not finite.

        Raises:
            TransientError: GDAL cannot read or decode it; it does not say whether the way to the file is at fault.
            HostError: The same, of a raster on another host.
            RunError: The file is no longer the one that the spec describes.
        """
        try:
            with gdal_env(self.spec.source.remote):
                return self._read(self._handle(), window)
        except GDAL_ERRORS as error:
            if self.spec.source.remote:
                raise HostError(
                    f"{shown(self.spec.path)}: cannot read {window} ({cause(error)}); run the same command again"
                ) from error
            raise TransientError(
                f"{shown(self.spec.path)}: cannot read {window} ({cause(error)}); copy the file again, "
                "keeping its time (cp -p), then run the same command"
            ) from error

    def _handle(self) -> Any:
        dataset = getattr(self._own, "dataset", None)
        if dataset is None:
            self._check_unchanged()
            dataset, _ = open_source(self.spec.source)
            self._own.dataset = dataset
            self._opened.append(dataset)
        return dataset

    def _check_unchanged(self) -> None:
        for stamp in self.spec.stamps:
            try:
                now = Stamp.of(stamp.path)
            except OSError as error:
                raise RunError(f"{stamp.path}: is gone since the run was planned; put it back") from error
            if now != stamp:
                raise RunError(f"{stamp.path}: has changed since the run was planned; start again with --overwrite")

    def _read(self, dataset: Any, window: Window) -> Pixels:
        spec = self.spec
        part = GdalWindow(col_off=window.col, row_off=window.row, width=window.width, height=window.height)
        unique = sorted(set(spec.bands))
        pixels = dataset.read(unique, window=part, out_dtype=spec.dtype)
        valid = self._valid(dataset, part, pixels)
        if list(spec.bands) != unique:
            pixels = pixels[[unique.index(band) for band in spec.bands]]
        return Pixels(pixels, valid)

    def _valid(self, dataset: Any, part: GdalWindow, pixels: NDArray[Any]) -> NDArray[np.bool_]:
        spec = self.spec
        match spec.mask:
            case "alpha":
                valid = dataset.read(spec.alpha, window=part) > 0
            case "dataset":
                valid = dataset.read_masks(spec.bands[0], window=part) > 0
            case "bands":
                valid = (dataset.read_masks(sorted(set(spec.bands)), window=part) > 0).any(axis=0)
            case "nodata" if spec.nodata is not None:
                valid = ~is_nodata(pixels, spec.nodata).all(axis=0)
            case _:
                valid = np.ones(pixels.shape[1:], bool)
        # A pixel with a band that is no number cannot be seen by a model, whatever the mask says.
        return np.asarray(valid & np.isfinite(pixels).all(axis=0) if pixels.dtype.kind == "f" else valid)
