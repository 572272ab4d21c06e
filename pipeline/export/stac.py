"""A STAC item: what the mosaic is, where it lies and what it was made of, for catalogues."""

import json
import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import shapely
from pyproj import CRS, Transformer
from pyproj.exceptions import ProjError
from shapely.geometry import mapping

from pipeline.errors import InputError
from pipeline.mosaic.codes import CERTAIN
from pipeline.mosaic.georeference import Georeference
from pipeline.mosaic.mosaic import Mosaic
from pipeline.steps.journal import Journal
from pipeline.storage.paths import AnyPath

if TYPE_CHECKING:
    from pystac import Asset, Item

PROCESSING = "https://stac-extensions.github.io/processing/v1.2.0/schema.json"
"""The one extension that pystac has no class for."""

EDGE_POINTS = 21
"""Points along each side of the raster; its sides are curved in longitudes and latitudes."""


def write_stac(path: Path, mosaic: Mosaic, beside: Path) -> None:
    """Write a mosaic's STAC item.

    Args:
        path: A new file.
        mosaic: It is complete.
        beside: Where the item will lie, which its links are relative to.

    Raises:
        InputError: The mosaic does not say where on Earth it lies.
    """
    path.write_text(json.dumps(stac_item(mosaic, beside).to_dict(include_self_link=False), indent=1), encoding="utf-8")


def stac_item(mosaic: Mosaic, path: Path) -> "Item":
    """The STAC item of a mosaic; its time is that at which the mosaic was finished.

    Raises:
        InputError: The mosaic does not say where on Earth it lies.
    """
    from pystac import Item, Link
    from pystac.extensions.projection import ProjectionExtension

    outline, made = footprint(mosaic), _finished(mosaic)
    described = {"created": made.isoformat(), **_processing(mosaic.provenance)}
    item = Item(mosaic.path.stem, mapping(outline), list(outline.bounds), made, described, stac_extensions=[PROCESSING])
    ProjectionExtension.ext(item, add_if_missing=True).apply(**_projection(mosaic.place()))
    for name in mosaic.names:
        item.add_asset(name, _asset(mosaic, name, path))
    _describe_pixels(item, mosaic)
    _name_classes(item, mosaic)
    item.add_link(Link("derived_from", _source(mosaic, path), title="the raster that was segmented"))
    return item


def footprint(mosaic: Mosaic) -> Any:
    """The mosaic's outline in longitudes and latitudes of WGS84, a polygon.

    Raises:
        InputError: It does not say where on Earth it lies.
    """
    place = mosaic.place()
    if place.transform is None or place.projection is None:
        raise InputError(f"{mosaic.path}: does not say where it lies, and a STAC item must; give the raster a CRS")
    a, b, c, d, e, f = place.transform
    rows, cols = place.shape
    box = shapely.segmentize(shapely.box(0, 0, cols, rows), max(place.shape) / (EDGE_POINTS - 1))
    placed = shapely.transform(box, lambda points: points @ [[a, d], [b, e]] + [c, f])
    try:
        # Only where it is known how: without it, another planet's degrees would pass for the Earth's.
        to_earth = Transformer.from_crs(place.projection, CRS("OGC:CRS84"), always_xy=True)
        found = shapely.transform(placed, lambda x, y: to_earth.transform(x, y, errcheck=True), interleaved=False)
    except ProjError as error:
        raise InputError(f"{mosaic.path}: has no place on Earth, and a STAC item must have one ({error})") from error
    return shapely.orient_polygons(found)


def _projection(place: Georeference) -> dict[str, Any]:
    authority = place.projection and place.projection.to_authority(min_confidence=100)
    system = {"code": ":".join(authority)} if authority else {"wkt2": place.crs}
    numbers = {"shape": place.shape, "transform": place.transform, "bbox": place.bounds}
    return system | {name: list(value) for name, value in numbers.items() if value is not None}


def _processing(facts: Mapping[str, Any]) -> dict[str, Any]:
    lineage = f"{facts['input']}, segmented with the model {facts['model']['name']} ({facts['model']['sha256']})"
    return {"processing:lineage": lineage, "processing:software": facts["versions"]}


def _finished(mosaic: Mosaic) -> datetime:
    """When the run was complete; where its folder is gone, when the mosaic was last changed."""
    mark = Journal.of(mosaic.path.resolve()).folder / "COMPLETE"
    return datetime.fromtimestamp((mark if mark.exists() else mosaic.path).stat().st_mtime, UTC)


def _source(mosaic: Mosaic, path: Path) -> str:
    """Where the raster is; where the run folder is gone, its name."""
    journal = Journal.of(mosaic.path.resolve())
    if not journal.exists:
        return str(mosaic.provenance["input"])
    raster = journal.spec().raster
    return raster.address or _relative(Path(raster.path), path)


def _relative(target: AnyPath, path: Path) -> str:
    if not isinstance(target, Path):
        return str(target)
    return Path(os.path.relpath(target.resolve(), path.resolve().parent)).as_posix()


def _asset(mosaic: Mosaic, name: str, path: Path) -> "Asset":
    from pystac import Asset

    title = str(mosaic.array(name).attrs["long_name"])
    media = f"application/vnd.zarr; version={mosaic.root.metadata.zarr_format}"
    return Asset(_relative(mosaic.path / "0" / name, path), title, media_type=media, roles=["data"])


def _describe_pixels(item: "Item", mosaic: Mosaic) -> None:
    from pystac.extensions.raster import DataType, RasterBand, RasterExtension

    for name, asset in item.assets.items():
        array = mosaic.array(name)
        band = RasterBand.create(nodata=int(array.fill_value), data_type=DataType(array.dtype.name))
        if name == "confidence":
            band.scale, band.offset = 1 / CERTAIN, 0
        RasterExtension.ext(asset, add_if_missing=True).apply([band])


def _name_classes(item: "Item", mosaic: Mosaic) -> None:
    from pystac.extensions.classification import Classification, ClassificationExtension

    classes = [
        # A name must be one word of plain letters; the title is the true one.
        Classification.create(
            id, name=re.sub(r"[^A-Za-z0-9_-]", "_", name) or "_", title=name, color_hint=colour[1:].upper()
        )
        for id, (name, colour) in enumerate(zip(mosaic.class_names, mosaic.colours, strict=True))
    ]
    ClassificationExtension.ext(item.assets["classes"], add_if_missing=True).apply(classes)
