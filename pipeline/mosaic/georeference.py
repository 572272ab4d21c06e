"""How an array says where it lies: the attributes that GDAL, QGIS, xarray and GeoZarr readers look for.

No single way is read by all of them, so the same is said four times: `_CRS` (GDAL from 3.6), x and y of pixel centres
(the transform for GDAL before 3.13), CF's `spatial_ref` with `grid_mapping` and `coordinates` (the xarray family), and
GeoZarr's `proj:` and `spatial:` (GDAL from 3.13, rioxarray from 0.23). An image without CRS and transform gets none of
them: an identity transform would pass for a real one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyproj import CRS, Transformer
from pyproj.exceptions import ProjError

Attributes = dict[str, Any]
Affine = tuple[float, float, float, float, float, float]

DIMENSIONS = ("y", "x")
CF_NAME = "spatial_ref"

_UUIDS = {
    "proj": "f17cb550-5864-4468-aeb7-f3180cfb622f",
    "spatial": "689b58e2-cf7b-45e0-9fff-9cfc0883d6b4",
    "multiscales": "d35379db-88df-4056-af3a-620245f8e347",
}
_DESCRIPTIONS = {
    "proj": "Coordinate reference system information for geospatial data",
    "spatial": "Spatial coordinate information",
    "multiscales": "Multiscale layout of zarr datasets",
}


@dataclass(frozen=True)
class Georeference:
    """Where the pixels of one array lie.

    Args:
        shape: Rows and columns.
        transform: (a, b, c, d, e, f) with x = a col + b row + c, y = d col + e row + f at pixel corners, or None.
        crs: WKT2, or None.
    """

    shape: tuple[int, int]
    transform: Affine | None
    crs: str | None

    def __bool__(self) -> bool:
        return self.transform is not None or self.crs is not None

    @property
    def rotated(self) -> bool:
        """Whether rows or columns run askew, which x and y cannot say."""
        return self.transform is not None and (self.transform[1] != 0 or self.transform[3] != 0)

    @cached_property
    def projection(self) -> CRS | None:
        """The CRS, parsed."""
        return None if self.crs is None else CRS.from_wkt(self.crs)

    @property
    def crs_name(self) -> str | None:
        """The authority's code of the CRS, or else its name."""
        if self.projection is None:
            return None
        authority = self.projection.to_authority()
        return ":".join(authority) if authority else str(self.projection.name)

    @property
    def pixel_metres(self) -> float | None:
        """Metres on the ground from one column to the next, in the middle; None where nothing says."""
        if self.transform is None or self.projection is None:
            return None
        a, b, c, d, e, f = self.transform
        row, cols = self.shape[0] / 2, np.array([self.shape[1] / 2, self.shape[1] / 2 + 1])
        try:
            earth = Transformer.from_crs(self.projection, self.projection.geodetic_crs, always_xy=True)
            (west, east), (one, other) = earth.transform(a * cols + b * row + c, d * cols + e * row + f)
            metres = self.projection.get_geod().inv(west, one, east, other)[2]
        except (AttributeError, ProjError):  # a local CRS, which has no Earth
            return None
        return float(metres) if 0 < metres < np.inf else None

    @property
    def centres(self) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """The y (H,) and x (W,) of the pixels' centres, in units of the CRS; None where they cannot be had."""
        if self.transform is None or self.rotated:
            return None
        a, _, c, _, e, f = self.transform
        rows, cols = (np.arange(size, dtype=np.float64) + 0.5 for size in self.shape)
        return np.asarray(f + e * rows), np.asarray(c + a * cols)

    @property
    def bounds(self) -> tuple[float, float, float, float] | None:
        """West, south, east, north of the box around the four corners, in units of the CRS."""
        if self.transform is None:
            return None
        a, b, c, d, e, f = self.transform
        height, width = self.shape
        corners = ((0, 0), (0, width), (height, 0), (height, width))
        xs = [a * col + b * row + c for row, col in corners]
        ys = [d * col + e * row + f for row, col in corners]
        return min(xs), min(ys), max(xs), max(ys)

    def halved(self) -> "Georeference":
        """The same place at half the resolution; with odd sizes the last row or column overhangs."""
        height, width = (-(-size // 2) for size in self.shape)
        if self.transform is None:
            return Georeference((height, width), None, self.crs)
        a, b, c, d, e, f = self.transform
        return Georeference((height, width), (2 * a, 2 * b, c, 2 * d, 2 * e, f), self.crs)

    def pyramid(self, levels: int) -> list["Georeference"]:
        """The same place at full, half, quarter ... resolution."""
        places = [self]
        while len(places) < levels:
            places.append(places[-1].halved())
        return places


def array_attributes(place: Georeference) -> Attributes:
    """What every array of pixels carries: all of the ways, since most readers open an array alone."""
    if not place:
        return {}
    # rioxarray finds the CRS without options only where the array itself lists spatial_ref among its coordinates.
    cf = {"grid_mapping": CF_NAME, "coordinates": CF_NAME}
    return cf | _gdal(place) | group_attributes(place)


def group_attributes(place: Georeference) -> Attributes:
    """What the group of one level carries: GeoZarr's `proj:` and `spatial:`."""
    conventions = [name for name, part in (("proj", place.crs), ("spatial", place.transform)) if part is not None]
    return _conventions(conventions) | _proj(place) | _spatial(place)


def root_attributes(levels: Sequence[Georeference], arrays: Sequence[str], zarr_format: int) -> Attributes:
    """What the root carries: the levels, and the place of the first, which is the full resolution.

    Args:
        levels: The place of each level, finest first.
        arrays: The names of the arrays of pixels, for OME's reader.
        zarr_format: OME 0.5 exists in format 3 alone; in format 2 its key would be the one that GeoZarr uses.
    """
    attributes = group_attributes(levels[0])
    attributes |= _conventions(["multiscales"], attributes.get("zarr_conventions", ()))
    attributes["multiscales"] = {
        "resampling_method": "nearest",
        "layout": [_layout(rank, place) for rank, place in enumerate(levels)],
    }
    return attributes if zarr_format == 2 else attributes | {"ome": _ome(len(levels), arrays)}


def axis_attributes(place: Georeference) -> tuple[Attributes, Attributes]:
    """CF's attributes of the y and the x coordinate."""
    described = place.projection.cs_to_cf() if place.projection else []
    found = {entry["axis"]: entry for entry in described}
    # An engineering CRS may name neither axis, or one twice: then only what is sure.
    known = {"X", "Y"} <= found.keys()
    y, x = ({"axis": axis, "long_name": axis.lower()} | (found[axis] if known else {}) for axis in ("Y", "X"))
    return y, x


def spatial_ref_attributes(place: Georeference) -> Attributes:
    """CF's grid mapping with the two attributes that GDAL and rioxarray add: `spatial_ref` and `GeoTransform`."""
    attributes: Attributes = {}
    if place.projection is not None:
        attributes |= _cf(place.projection) | {"spatial_ref": place.projection.to_wkt("WKT2_2019")}
    if place.transform is not None:
        a, b, c, d, e, f = place.transform
        attributes["GeoTransform"] = " ".join(repr(float(value)) for value in (c, a, b, f, d, e))
    return attributes


def _cf(projection: CRS) -> Attributes:
    try:
        return dict(projection.to_cf())
    except KeyError:
        # pyproj wants every parameter of the method; WKT may leave out those that are zero.
        return {"crs_wkt": projection.to_wkt("WKT2_2019")}


def _authority(projection: CRS) -> tuple[str, str] | None:
    """Authority and code, only where there is no doubt: a name alone may be shared by different systems."""
    found = projection.to_authority(min_confidence=100)
    return None if found is None else (str(found[0]), str(found[1]))


def _gdal(place: Georeference) -> Attributes:
    if place.projection is None:
        return {}
    found = {"wkt": place.projection.to_wkt("WKT2_2019")}
    authority = _authority(place.projection)
    # The url comes before the wkt for GDAL, and EPSG's is the one form that it resolves in every version.
    if authority and authority[0] == "EPSG":
        found = {"url": f"http://www.opengis.net/def/crs/EPSG/0/{authority[1]}"} | found
    return {"_CRS": found}


def _proj(place: Georeference) -> Attributes:
    if place.projection is None:
        return {}
    authority = _authority(place.projection)
    code = {"proj:code": ":".join(authority)} if authority else {}
    return code | {"proj:wkt2": place.projection.to_wkt("WKT2_2019")}


def _spatial(place: Georeference) -> Attributes:
    if place.transform is None or place.bounds is None:
        return {}
    return {
        "spatial:dimensions": list(DIMENSIONS),
        "spatial:shape": list(place.shape),
        "spatial:transform_type": "affine",
        "spatial:registration": "pixel",
        "spatial:transform": [float(value) for value in place.transform],
        "spatial:bbox": list(place.bounds),
    }


def _conventions(names: Sequence[str], others: Sequence[Attributes] = ()) -> Attributes:
    entries = [
        {
            "uuid": _UUIDS[name],
            "name": name if name == "multiscales" else f"{name}:",
            "description": _DESCRIPTIONS[name],
            "schema_url": f"https://raw.githubusercontent.com/zarr-conventions/{name}/refs/tags/v0.1/schema.json",
            "spec_url": f"https://github.com/zarr-conventions/{name}/blob/v0.1/README.md",
        }
        for name in names
    ]
    return {"zarr_conventions": [*others, *entries]} if entries or others else {}


def _layout(rank: int, place: Georeference) -> Attributes:
    """One level of `multiscales`; its scale is relative to the level that it was made from."""
    scale = 1.0 if rank == 0 else 2.0
    entry: Attributes = {"asset": str(rank)}
    if rank:
        entry["derived_from"] = str(rank - 1)
    entry["transform"] = {"scale": [scale, scale], "translation": [0.0, 0.0]}
    spatial = _spatial(place)
    return entry | {key: spatial[key] for key in ("spatial:shape", "spatial:transform") if key in spatial}


def _ome(levels: int, arrays: Sequence[str]) -> Attributes:
    axes = [{"name": name, "type": "space"} for name in DIMENSIONS]
    images = [
        {"name": name, "axes": axes, "datasets": [_ome_dataset(rank, name) for rank in range(levels)]}
        for name in arrays
    ]
    return {"version": "0.5", "multiscales": images}


def _ome_dataset(rank: int, name: str) -> Attributes:
    """OME counts from the centre of the first pixel, so that a coarse pixel starts half of its growth later."""
    scale = float(2**rank)
    shift = (scale - 1) / 2
    transformations = [
        {"type": "scale", "scale": [scale, scale]},
        {"type": "translation", "translation": [shift, shift]},
    ]
    return {"path": f"{rank}/{name}", "coordinateTransformations": transformations}
