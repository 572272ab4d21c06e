"""Polygons from files: GeoJSON without more packages, GeoPackage, FlatGeobuf and Shapefile with the extra `vectors`."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rasterio.errors import CRSError, RasterioError
from rasterio.warp import transform_geom

from pipeline.errors import InputError

GEOJSON_CRS = "OGC:CRS84"
"""Of every GeoJSON file (RFC 7946, 4), unless an older one names another."""

AREAS = {"Polygon", "MultiPolygon"}

MAGIC = (b"SQLite format 3\0", b"fgb", b"\0\0\x27\x0a")
"""What a GeoPackage, a FlatGeobuf and a Shapefile begin with."""

EXTRA = "pip install 'eomt-batch[vectors]'"

Geometry = dict[str, Any]


class Feature(NamedTuple):
    """One thing in a vector file.

    Attributes:
        areas: Its polygons and multipolygons; points and lines are left out.
        properties: By the field's name; of other files than GeoJSON, the fields that were asked for.
    """

    areas: list[Geometry]
    properties: dict[str, Any]


class Features(NamedTuple):
    """What a vector file holds.

    Attributes:
        crs: Of the coordinates.
        features: Those with an area.
        fields: Names of all properties, sorted.
    """

    crs: str
    features: list[Feature]
    fields: tuple[str, ...]


def read_features(path: Path, option: str, field: str | None = None) -> Features:
    """Read the polygons of a file.

    Args:
        path: GeoJSON, or any other vector file with the extra `vectors`.
        option: What names the file, for messages: `--aoi area.geojson`.
        field: The property that is wanted with them.

    Raises:
        InputError: No such file, not readable, or no polygon in it.
    """
    if not path.is_file():
        raise InputError(f"{option}: there is no such file")
    is_json = path.suffix.lower() in (".geojson", ".json")
    found = _read_geojson(path, option) if is_json else _read_other(path, option, field)
    features = [feature for feature in found.features if feature.areas]
    if not features:
        raise InputError(f"{option}: there is no polygon in it; give areas, not points or lines")
    return found._replace(features=features)


def to_crs(areas: Sequence[Geometry], crs: str, target: str | None, option: str) -> list[Geometry]:
    """Areas in another CRS; where that is unknown, as they are.

    Raises:
        InputError: Their coordinates have no place there.
    """
    if target is None:
        return list(areas)
    try:
        return [transform_geom(crs, target, area) for area in areas]
    except (CRSError, RasterioError, ValueError) as error:
        raise InputError(f"{option}: its coordinates have no place in the raster's CRS ({error})") from error


def _read_geojson(path: Path, option: str) -> Features:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        crs = content.get("crs") or {"properties": {"name": GEOJSON_CRS}}
        features = list(_features(content))
        fields = {name for feature in features for name in feature.properties}
        return Features(crs["properties"]["name"], features, tuple(sorted(fields)))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{option}: no GeoJSON ({error}); give a file of polygons") from error


def _features(content: Geometry) -> Iterator[Feature]:
    """The features of a GeoJSON object; a geometry without a feature is one."""
    if "features" in content:
        for part in content["features"]:
            yield from _features(part)
    elif content.get("type") == "Feature":
        yield Feature(list(_areas(content["geometry"] or {})), content.get("properties") or {})
    else:
        yield Feature(list(_areas(content)), {})


def _areas(shape: Geometry) -> Iterator[Geometry]:
    """The areas of a geometry, however deep; empty ones are none."""
    for part in shape.get("geometries", ()):
        yield from _areas(part)
    if shape.get("type") in AREAS and any(shape["coordinates"]):
        yield shape


def _read_other(path: Path, option: str, field: str | None) -> Features:
    """GeoPackages, FlatGeobufs and Shapefiles: GDAL goes by content, and would ask hosts that other formats name."""
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise InputError(f"{option}: cannot be read ({error.strerror}); check its permissions") from error
    if not head.startswith(MAGIC):
        raise InputError(f"{option}: is no GeoJSON, GeoPackage, FlatGeobuf or Shapefile; convert it with ogr2ogr")
    try:
        from pyogrio import read_info
        from pyogrio.raw import read
        from shapely import from_wkb
        from shapely.geometry import mapping
    except ImportError as error:
        raise InputError(f"{option}: only GeoJSON is read without more packages; {EXTRA}") from error
    try:
        fields = tuple(sorted(map(str, read_info(path)["fields"])))
        columns = [name for name in fields if name == field]
        meta, _, shapes, data = read(path, columns=columns)
        values = data[0].tolist() if columns else [None] * len(shapes)
        features = [
            Feature(list(_areas(mapping(shape))) if shape is not None else [], dict.fromkeys(columns, value))
            for shape, value in zip(from_wkb(shapes), values, strict=True)
        ]
        return Features(meta["crs"] or GEOJSON_CRS, features, fields)
    except Exception as error:  # pyogrio and shapely raise classes of their own, which need not be installed
        raise InputError(f"{option}: cannot be read ({str(error).split(';')[0].strip()}); give polygons") from error
