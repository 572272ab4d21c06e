"""The area of interest: polygons outside of which nothing is inferred and everything is nodata."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from rasterio.features import bounds, rasterize
from rasterio.transform import Affine, rowcol

from pipeline.errors import InputError
from pipeline.rasters.raster_spec import RasterSpec
from pipeline.tiling import Window
from pipeline.vectors import Geometry, read_features, to_crs


@dataclass(frozen=True)
class Aoi:
    """Polygons in a raster's own coordinates.

    Attributes:
        text: A GeoJSON array of polygons and multipolygons, in the raster's CRS.
        transform: The raster's, (a, b, c, d, e, f).
    """

    text: str
    transform: tuple[float, ...]

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """What `dataclasses.asdict` and a JSON file made of an area."""
        return cls(data["text"], tuple(data["transform"]))

    @property
    def digest(self) -> str:
        """Tells one area from another in few letters."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]

    @cached_property
    def polygons(self) -> list[tuple[Geometry, Window]]:
        """Each polygon with the window of pixels that it may touch."""
        return [(shape, self._reach(shape)) for shape in json.loads(self.text)]

    def _reach(self, shape: Geometry) -> Window:
        west, south, east, north = bounds(shape)
        corners = [west, west, east, east], [south, north, south, north]
        rows, cols = rowcol(Affine(*self.transform), *corners, op=float)
        top, left = int(np.floor(min(rows))), int(np.floor(min(cols)))
        return Window(top, left, int(np.ceil(max(rows))) - top + 1, int(np.ceil(max(cols))) - left + 1)

    def within(self, window: Window) -> list[Geometry]:
        """The polygons that may touch a window."""
        return [shape for shape, reach in self.polygons if min(reach.intersect(window)[2:]) > 0]

    def mask(self, window: Window) -> NDArray[np.bool_]:
        """Which pixels of a window have their centre inside a polygon, (height, width)."""
        shapes = self.within(window)
        size = (window.height, window.width)
        if not shapes:
            return np.zeros(size, bool)
        a, b, c, d, e, f = self.transform
        corner = Affine(a, b, c + a * window.col + b * window.row, d, e, f + d * window.col + e * window.row)
        burnt: NDArray[np.uint8] = rasterize(shapes, out_shape=size, transform=corner, dtype="uint8")
        return burnt.astype(bool)


def choose_aoi(file: str | None, bbox: str | None, raster: RasterSpec) -> Aoi | None:
    """The area of `--aoi` or `--bbox`, in the raster's coordinates; None where neither is given.

    Args:
        file: GeoJSON, or any other vector file with the extra `vectors`.
        bbox: `W,S,E,N` in the raster's CRS.
        raster: The raster.

    Raises:
        InputError: No such file, no polygon in it, a raster that lies nowhere, or an area beside the raster.
    """
    if file is None and bbox is None:
        return None
    option = f"--aoi {file}" if file else f"--bbox {bbox}"
    if raster.grid.transform is None:
        raise InputError(f"{option}: {raster.path} does not say where it lies; leave the area out")
    shapes = _areas(Path(file), raster, option) if file else [parse_bbox(str(bbox))]
    aoi = Aoi(json.dumps(shapes), raster.grid.transform)
    if not aoi.within(raster.grid.window):
        raise InputError(f"{option}: the area does not touch {raster.path}; check its coordinates and their order")
    return aoi


def _areas(path: Path, raster: RasterSpec, option: str) -> list[Geometry]:
    """The polygons of a file in the raster's CRS."""
    found = read_features(path, option)
    return to_crs([area for feature in found.features for area in feature.areas], found.crs, raster.crs, option)


def parse_bbox(text: str) -> Geometry:
    """The rectangle `W,S,E,N` as a polygon.

    Raises:
        InputError: Not four numbers, or sides in the wrong order.
    """
    try:
        west, south, east, north = map(float, text.split(","))
    except ValueError as error:
        raise InputError(f"--bbox {text}: give four numbers W,S,E,N in the raster's CRS") from error
    if not (west < east and south < north):
        raise InputError(f"--bbox {text}: west must be below east and south below north")
    return {
        "type": "Polygon",
        "coordinates": [[[west, south], [east, south], [east, north], [west, north], [west, south]]],
    }
