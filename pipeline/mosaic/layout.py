"""The empty mosaic on disk: groups and arrays with every attribute, before any pixel."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import zarr
from zarr.codecs import ZstdCodec

from pipeline.mosaic.chunks import Layout, ZarrFormat
from pipeline.mosaic.codes import Layer
from pipeline.mosaic.georeference import (
    CF_NAME,
    DIMENSIONS,
    Attributes,
    Georeference,
    array_attributes,
    axis_attributes,
    group_attributes,
    root_attributes,
    spatial_ref_attributes,
)

MARKER = "eomt_batch"
"""The root attribute that holds the provenance, and tells that the directory is ours to change."""


def build(
    path: Path,
    places: Sequence[Georeference],
    layers: Sequence[Layer],
    layout: Layout,
    provenance: Mapping[str, Any],
) -> None:
    """Write the root, the marker first, and the levels, which lie at `places`."""
    names = [layer.name for layer in layers]
    attributes = root_attributes(places, names, layout.zarr_format) | {MARKER: dict(provenance)}
    root = zarr.create_group(path, zarr_format=layout.zarr_format, attributes=attributes)
    for rank, place in enumerate(places):
        _build_level(root, rank, place, layers, layout)


def _build_level(root: zarr.Group, rank: int, place: Georeference, layers: Sequence[Layer], layout: Layout) -> None:
    """Write one level, complete but for its pixels: they all read as fill."""
    group = root.create_group(str(rank), attributes=group_attributes(place))
    shared = array_attributes(place)
    for name, dtype, fill, attributes in layers:
        group.create_array(
            name,
            shape=place.shape,
            dtype=dtype,
            # GDAL takes nodata from the fill value alone; `_FillValue` would turn ids into floats in xarray.
            fill_value=fill,
            chunks=(layout.chunk, layout.chunk),
            shards=None if layout.shard is None else (layout.shard, layout.shard),
            **_described(DIMENSIONS, attributes | {"nodata": fill} | shared, layout.zarr_format),
        )
    _build_coordinates(group, place, layout.zarr_format)


def _build_coordinates(group: zarr.Group, place: Georeference, zarr_format: ZarrFormat) -> None:
    if place:
        described = _described((), spatial_ref_attributes(place), zarr_format)
        # In format 2 xarray takes a fill value for missing data, and the value is 0; format 3 must have one.
        fill = None if zarr_format == 2 else 0
        scalar = group.create_array(CF_NAME, shape=(), dtype="i8", fill_value=fill, **described)
        scalar[...] = np.int64(0)
    if place.centres is None:
        return
    for name, values, attributes in zip(DIMENSIONS, place.centres, axis_attributes(place), strict=True):
        described = _described((name,), attributes, zarr_format)
        # NaN, since a fill value of 0 would hide the coordinate 0 for the same reason.
        axis = group.create_array(
            name, shape=values.shape, chunks=values.shape, dtype="f8", fill_value=float("nan"), **described
        )
        axis[:] = values


def _described(dimensions: tuple[str, ...], attributes: Attributes, zarr_format: ZarrFormat) -> dict[str, Any]:
    """What the formats write differently: the codec, and the names of the dimensions."""
    if zarr_format == 2:
        named = attributes | {"_ARRAY_DIMENSIONS": list(dimensions)}
        return {"attributes": named, "compressors": [numcodecs.Zstd(level=3)]}
    return {"attributes": attributes, "compressors": [ZstdCodec(level=3)], "dimension_names": dimensions}
