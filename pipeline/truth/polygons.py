"""Labels that are polygons, burnt onto a raster's grid window by window."""

import math
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rasterio.features import rasterize
from rasterio.transform import Affine

from eomt_core.training.batch import IGNORE
from pipeline.errors import InputError, UsageError
from pipeline.rasters.raster_spec import RasterSpec
from pipeline.rasters.source import shown
from pipeline.tiling import Window
from pipeline.truth.class_names import numbered
from pipeline.truth.label_raster import scan
from pipeline.vectors import Feature, Geometry, read_features, to_crs

BACKGROUND = 0

FEW = 64
"""Points of a ring that are sooner burnt than looked through."""


class Box(NamedTuple):
    """A rectangle in the raster's coordinates."""

    west: float
    south: float
    east: float
    north: float


class Polygons:
    """Values of polygons on the grid of a raster. A pixel has the value of the last polygon with its centre inside.

    Last in the file's order, that is; FlatGeobuf sorts its features by place.

    Args:
        areas: Polygons and multipolygons in the raster's coordinates; in pixels where it does not say where it lies.
        values: Of each, below 2**31.
        fill: The value of pixels that none covers.
        raster: The raster.
    """

    def __init__(self, areas: Sequence[Geometry], values: Sequence[int], fill: int, raster: RasterSpec) -> None:
        self._fill = fill
        self._shape = raster.grid.shape
        self._transform = raster.grid.transform or (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
        parts = [(rings, value) for area, value in zip(areas, values, strict=True) for rings in _parts(area)]
        self._values = [value for _, value in parts]
        self._rings = [np.array(ring, np.float64)[:, :2] for rings, _ in parts for ring in rings]
        self._part = np.repeat(np.arange(len(parts)), np.array([len(rings) for rings, _ in parts], np.intp))
        ends = [(*ring.min(axis=0), *ring.max(axis=0)) for ring in self._rings]
        self._bounds = np.array(ends, np.float64).reshape(-1, 4).T

    def close(self) -> None:
        """Nothing is open."""

    def windows(self) -> Iterator[Window]:
        """Windows that cover the raster."""
        return scan(self._shape, (1, 1))

    def touch(self, window: Window) -> bool:
        """Whether a polygon may touch a window."""
        return self._within(self._box(window)).size > 0

    def read(self, window: Window) -> NDArray[np.int32]:
        """Values of a window, (h, w)."""
        labels: NDArray[np.int32] = np.full((window.height, window.width), self._fill, np.int32)
        shapes = list(self._shapes(self._box(window)))
        if shapes:
            a, b, c, d, e, f = self._transform
            x, y = c + a * window.col + b * window.row, f + d * window.col + e * window.row
            rasterize(shapes, out=labels, transform=Affine(a, b, x, d, e, y))
        return labels

    def _within(self, box: Box) -> NDArray[np.intp]:
        """The rings that may touch a box."""
        west, south, east, north = self._bounds
        return np.flatnonzero((west < box.east) & (east > box.west) & (south < box.north) & (north > box.south))

    def _shapes(self, box: Box) -> Iterator[tuple[Geometry, int]]:
        """Polygons that are in a box what the file's are, and their values."""
        for part, places in groupby(self._within(box).tolist(), self._part.__getitem__):
            rings = [ring.tolist() for ring in (_shorten(self._rings[place], box) for place in places) if len(ring) > 3]
            if rings:
                yield {"type": "Polygon", "coordinates": rings}, self._values[part]

    def _box(self, window: Window) -> Box:
        """Where a window lies, with a pixel around it."""
        a, b, c, d, e, f = self._transform
        cols = np.array([window.col - 1, window.right + 1])
        rows = np.array([window.row - 1, window.bottom + 1])[:, None]
        x, y = a * cols + b * rows + c, d * cols + e * rows + f
        return Box(x.min(), y.min(), x.max(), y.max())


def _parts(area: Geometry) -> Sequence[Any]:
    """The polygons of an area, each the list of its rings, the outer one first; empty ones are left out."""
    polygons = [area["coordinates"]] if area["type"] == "Polygon" else area["coordinates"]
    return [[ring for ring in rings if len(ring) > 3] for rings in polygons if len(rings) and len(rings[0]) > 3]


def _shorten(ring: NDArray[np.float64], box: Box) -> NDArray[np.float64]:
    """A ring (N, 2) without most of what lies outside a box; inside it covers the same pixels.

    A stretch that stays above the box may as well run straight from its first point to its last, as that line stays
    above, too; so on the other sides. Coastlines of a hundred thousand points are burnt in each window as fast as what
    there is of them in it.
    """
    if len(ring) <= FEW:
        return ring
    x, y = ring.T
    side = np.select([y > box.north, y < box.south, x < box.west, x > box.east], [1, 2, 3, 4], 0)
    turns = side[1:] != side[:-1]
    kept = side == 0
    kept[1:] |= turns
    kept[:-1] |= turns
    kept[[0, -1]] = True
    shorter: NDArray[np.float64] = ring[kept]
    return shorter


def open_polygons(
    path: Path, raster: RasterSpec, classes: tuple[str, ...] | None, class_field: str | None, outside: str | None
) -> tuple[Polygons, tuple[str, ...] | None]:
    """The polygons of a file and the names of their classes.

    Args:
        path: GeoJSON, or any other vector file with the extra `vectors`.
        raster: What they label.
        classes: Names by class index; None takes those that the polygons have.
        class_field: The property with the class; None makes each feature an instance, from 1 on.
        outside: The class of pixels that no polygon covers.

    Raises:
        InputError: No polygon, none that touches the raster, or one without a class of the list.
        UsageError: `outside` is none of the classes.
    """
    name = shown(str(path))
    found = read_features(path, name, class_field)
    if class_field is None:
        values, names, fill = list(range(1, len(found.features) + 1)), None, BACKGROUND
    else:
        if class_field not in found.fields:
            have = ", ".join(found.fields) or "none"
            raise InputError(f"{name}: has no field {class_field}, its fields are: {have}; give --class-field")
        said = [_said(feature, class_field, name) for feature in found.features]
        names = classes if classes is not None else _names(said, outside, name)
        values = [_index(word, names, f"{name}: {class_field}") for word in said]
        fill = IGNORE if outside is None else _outside(outside, names)
    flat = [(area, value) for feature, value in zip(found.features, values, strict=True) for area in feature.areas]
    areas = to_crs([area for area, _ in flat], found.crs, raster.crs, name)
    polygons = Polygons(areas, [value for _, value in flat], fill, raster)
    if not polygons.touch(raster.grid.window):
        raise InputError(f"{name}: no polygon touches {shown(raster.path)}; check their CRS and the order of x and y")
    return polygons, names


def _said(feature: Feature, field: str, name: str) -> str | int:
    """What a feature's property says: an index where it is a whole number, else a name."""
    value: Any = feature.properties.get(field)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        raise InputError(f"{name}: a polygon has no {field}; give it one, or take it out")
    if isinstance(value, float) and value.is_integer():  # a column with gaps is read as floats
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _names(said: Sequence[str | int], outside: str | None, where: str) -> tuple[str, ...]:
    """The distinct names, sorted; numbered ones where all the polygons have indexes."""
    indexes = [word for word in said if isinstance(word, int)]
    if len(indexes) == len(said):
        return numbered(max(indexes) + 1, where)
    return tuple(sorted({*map(str, said), *([outside] if outside is not None else [])}))


def _index(word: str | int, names: tuple[str, ...], where: str) -> int:
    """The index of a class that is told by name or by index; a name goes first."""
    if str(word) in names:
        return names.index(str(word))
    if str(word).isdecimal() and int(word) < len(names):
        return int(word)
    listed = ", ".join(f"{index} {name}" for index, name in enumerate(names))
    raise InputError(f"{where} {word} is not in the list ({listed}); add it to --classes, or take the polygon out")


def _outside(outside: str, names: tuple[str, ...]) -> int:
    if outside not in names:
        raise UsageError(f"--outside {outside}: is none of the classes ({', '.join(names)}); give one of them")
    return names.index(outside)
