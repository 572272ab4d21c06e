"""A raster as it is planned with and shipped: small, frozen, and without an open file in it."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

from pipeline.addresses import public
from pipeline.rasters.source import Source
from pipeline.tiling import Window, ceil_to

SNAP_SIDE = 1024
"""File blocks up to this side are read whole: a super-window then decodes none of them for a sliver."""

Affine6 = tuple[float, float, float, float, float, float]


@dataclass(frozen=True)
class Grid:
    """Pixels and where they lie.

    Args:
        shape: Rows and columns.
        transform: (a, b, c, d, e, f) with x = a col + b row + c and y = d col + e row + f; None where the file
            does not say where it lies.
    """

    shape: tuple[int, int]
    transform: Affine6 | None = None

    @property
    def window(self) -> Window:
        """All pixels."""
        return Window(0, 0, *self.shape)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """What `dataclasses.asdict` and a JSON file made of a grid."""
        rows, cols = data["shape"]
        a, b, c, d, e, f = data["transform"] or (0.0,) * 6
        return cls((rows, cols), (a, b, c, d, e, f) if data["transform"] else None)


class Stamp(NamedTuple):
    """What tells that a file is still the same without reading it."""

    path: str
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: str | Path) -> Self:
        """The stamp of the file as it is now."""
        stat = Path(path).stat()
        return cls(str(path), stat.st_size, stat.st_mtime_ns)


@dataclass(frozen=True)
class RasterSpec:
    """An input raster with the choices made about it: everything that a worker needs to read it.

    Args:
        path: An absolute path, or a URL; what is secret in it is in memory alone, see `to_json`.
        driver: GDAL's name of the format, the only one that the file is opened with.
        file: The grid of the file.
        grid: The grid that tiles count in; the file's.
        crs: WKT2:2019, or None where the file does not say.
        count: Bands in the file, alpha among them.
        dtype: numpy's name of the pixels' type; of the chosen bands' common type where they differ.
        bits: Bits in use per pixel and band: 1 or 12 where a file says so.
        bands: The chosen bands, 1-based, in the model's order.
        nodata: The value of pixels that are not there, under mask `nodata`.
        mask: How validity is told: `none`, `alpha`, `dataset` (a mask band), `nodata`, or `bands` (each has its own).
        alpha: The alpha band, 1-based, under mask `alpha`.
        block_shape: Rows and columns of the file's blocks.
        stamps: The file and, for a VRT, its sources; none for a URL.
        page: The directory of a TIFF with several images, 0 for the first.
        notes: What the user should be told about this file.
        query: Tells what one URL asks for from what another does; see `query_digest`.
    """

    path: str
    driver: str
    file: Grid
    grid: Grid
    crs: str | None
    count: int
    dtype: str
    bits: int
    bands: tuple[int, ...]
    nodata: float | None
    mask: str
    alpha: int | None
    block_shape: tuple[int, int]
    stamps: tuple[Stamp, ...] = ()
    page: int = 0
    notes: tuple[str, ...] = ()
    query: str = ""

    def __post_init__(self) -> None:
        # One NaN for all specs: it equals nothing, but a tuple that holds the same object equals itself.
        if self.nodata is not None and math.isnan(self.nodata):
            object.__setattr__(self, "nodata", math.nan)

    @property
    def source(self) -> Source:
        """How to open it."""
        return Source(self.path, self.driver, remote=not self.stamps, page=self.page)

    @property
    def address(self) -> str | None:
        """Where it is on another host, as it was given; None for a file."""
        return None if self.stamps else self.path

    def at(self, address: str | None) -> Self:
        """The raster at its full address, which a spec that was written down no longer has."""
        return self if address is None else dataclasses.replace(self, path=address)

    @property
    def size(self) -> int:
        """Bytes of the file, 0 for a URL."""
        return self.stamps[0].size if self.stamps else 0

    def to_json(self) -> dict[str, Any]:
        """The spec in JSON's types, without a URL's user, password and query. JSON has no NaN, so nodata is text."""
        data = dataclasses.asdict(self)
        nodata = None if self.nodata is None else repr(self.nodata)
        lists = {name: list(data[name]) for name in ("bands", "block_shape", "notes")}
        path = self.path if self.stamps else public(self.path)
        return data | lists | {"path": path, "nodata": nodata, "stamps": [list(stamp) for stamp in self.stamps]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The spec that `to_json` wrote."""
        rows, cols = data["block_shape"]
        return cls(
            **dict(data)
            | {
                "file": Grid.from_json(data["file"]),
                "grid": Grid.from_json(data["grid"]),
                "bands": tuple(data["bands"]),
                "nodata": None if data["nodata"] is None else float(data["nodata"]),
                "block_shape": (rows, cols),
                "stamps": tuple(Stamp(*stamp) for stamp in data["stamps"]),
                "notes": tuple(data["notes"]),
            }
        )

    def identity(self) -> dict[str, Any]:
        """What a result depends on, in JSON's types; where the file lies and how it is laid out is not in it."""
        data = self.to_json()
        stamps = [[Path(stamp.path).name, stamp.size, stamp.mtime_ns] for stamp in self.stamps]
        address = {} if self.stamps else {"path": data["path"], "query": self.query}
        kept = ("file", "grid", "crs", "dtype", "bands", "nodata", "mask", "alpha", "page")
        return {name: data[name] for name in kept} | {"stamps": stamps} | address

    def snap(self, window: Window) -> Window:
        """The window grown to whole blocks of the file, within the raster, where its blocks are small tiles.

        Strips are left alone: their columns would become the raster's, and their rows are decoded whole anyway.
        """
        rows, cols = self.block_shape
        if max(rows, cols) > SNAP_SIDE or cols >= self.file.shape[1]:
            return window
        row, col = window.row // rows * rows, window.col // cols * cols
        height, width = ceil_to(window.bottom, rows) - row, ceil_to(window.right, cols) - col
        return Window(row, col, height, width).intersect(self.grid.window)
