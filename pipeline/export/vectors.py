"""Features in files: GeoPackage, FlatGeobuf, GeoParquet. They are written as they come; none is kept."""

import json
import warnings
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import shapely

from pipeline.export.features import Feature, Traced, batches, trace_features
from pipeline.export.ground import Ground
from pipeline.export.regions import SIDE
from pipeline.export.unwritten import unwritten
from pipeline.mosaic.mosaic import Mosaic
from pipeline.report import OnProgress

DRIVERS = {"gpkg": "GPKG", "fgb": "FlatGeobuf"}
"""GDAL's."""

GEOMETRY = "geometry"
# The name by which GDAL and GeoPandas know a column of WKB.
_WKB = {"ARROW:extension:name": "geoarrow.wkb"}

_FIELDS = [
    pa.field("id", pa.uint32()),
    pa.field("class", pa.uint16()),
    pa.field("name", pa.string()),
    pa.field("score", pa.float32()),
    pa.field("area", pa.float64()),
    pa.field(GEOMETRY, pa.binary(), metadata=_WKB),
]


def write_vectors(
    path: Path, to: str, mosaic: Mosaic, array: Traced, simplify: float, progress: OnProgress, side: int = SIDE
) -> int:
    """Trace a mosaic and write its features into a new file.

    Args:
        path: The file.
        to: `gpkg`, `fgb` or `parquet`.
        mosaic: It is complete.
        array: What to trace; classes become polygons, instances multipolygons.
        simplify: Metres that an outline may move, for fewer points.
        progress: Hears of every block.
        side: Pixels a side of the blocks that are read.

    Returns:
        How many features there are.

    Raises:
        InputError: There is no table of the objects.
        RetryLater: The disk is full.
        RunError: The table is of other objects, or the file cannot be written.
    """
    ground = Ground(mosaic.place())
    features = batches(trace_features(mosaic, array, progress, side))
    to_batch = partial(_record_batch, names=mosaic.class_names, ground=ground, simplify=simplify)
    source = _Source(map(to_batch, features))
    kind = "Polygon" if array == "classes" else "MultiPolygon"
    if to == "parquet":
        _write_parquet(path, source, kind, ground)
    else:
        _write_gdal(path, DRIVERS[to], source, kind, ground)
    return source.count


class _Source:
    """Batches on their way to a writer in C++, which hides what is raised while it asks for more."""

    def __init__(self, found: Iterator[pa.RecordBatch]) -> None:
        self._found = found
        self.count = 0
        self.error: BaseException | None = None

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        try:
            for batch in self._found:
                self.count += batch.num_rows
                yield batch
        except BaseException as error:
            self.error = error
            raise


def _record_batch(batch: list[Feature], names: Sequence[str], ground: Ground, simplify: float) -> pa.RecordBatch:
    ids, kinds, scores, pixels, outlines = zip(*batch, strict=True)
    placed = ground.placed(outlines)
    del outlines
    batch.clear()  # one outline may be most of what memory holds
    areas = ground.areas(placed, np.array(pixels))
    if simplify:
        placed = ground.simplified(placed, simplify)
    columns = [ids, kinds, [names[kind] for kind in kinds], scores, areas, list(shapely.to_wkb(placed))]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, _FIELDS, strict=True)]
    return pa.record_batch(arrays, schema=pa.schema(_FIELDS))


def _write_gdal(path: Path, driver: str, source: _Source, kind: str, ground: Ground) -> None:
    from pyogrio.raw import write_arrow

    stream = pa.RecordBatchReader.from_batches(pa.schema(_FIELDS), source)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "'crs' was not provided", UserWarning)  # a mosaic may lie nowhere
            write_arrow(stream, path, driver=driver, geometry_name=GEOMETRY, geometry_type=kind, crs=ground.place.crs)
    except Exception as error:
        if source.error is not None:
            raise source.error from None
        raise unwritten(path, error) from error


def _write_parquet(path: Path, source: _Source, kind: str, ground: Ground) -> None:
    projection = ground.place.projection
    column: dict[str, Any] = {"encoding": "WKB", "geometry_types": [kind]}
    # A column without a CRS would be in longitudes and latitudes.
    column["crs"] = None if projection is None else projection.to_json_dict()
    geo = {"version": "1.1.0", "primary_column": GEOMETRY, "columns": {GEOMETRY: column}}
    schema = pa.schema(_FIELDS, metadata={"geo": json.dumps(geo)})
    # Neither a dictionary of outlines nor the least and the largest of them is of use, and each would hold copies.
    plain = [field.name for field in _FIELDS if field.name != GEOMETRY]
    with pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=plain, write_statistics=plain) as writer:
        for batch in source:
            writer.write_batch(batch.replace_schema_metadata(schema.metadata))
