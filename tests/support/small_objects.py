"""A small mosaic of objects, and the table of them that a run leaves beside it."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from small_mosaic import TRANSFORM, UTM, make, paint

from pipeline.mosaic.mosaic import Mosaic
from pipeline.rasters.raster_spec import Grid

CLASSES = ("round", "square")
COLOURS = ("#e31a1c", "#1f78b4")
SCORES = {1: 0.9, 2: 0.5, 3: 0.25, 7: 0.75}


def instances():
    """Ids (90, 120): one in a corner, one in two parts, one around another, and numbers that are left out."""
    ids = np.zeros((90, 120), np.uint32)
    ids[0:10, 0:12] = 1
    ids[20:25, 30:95] = ids[50:55, 30:35] = 2
    ids[40:80, 50:110] = 3
    ids[55:66, 60:101] = 7
    return ids


def object_mosaic(path, ids=None, grid=None, crs=UTM, **options) -> Mosaic:
    """A mosaic of these ids, in chunks of 32 pixels; the classes alternate."""
    ids = instances() if ids is None else ids
    kinds = np.where(ids > 0, ids % 2, 254).astype(np.uint8)
    place = grid or Grid(ids.shape, TRANSFORM)
    mosaic = make(path, place, crs, CLASSES, COLOURS, **{"chunk": 32} | options)
    write_table(path.with_suffix(".run"), ids)
    return paint(mosaic, {"classes": kinds, "confidence": np.full(ids.shape, 127, np.uint8), "instances": ids})


def write_table(folder, ids):
    """`objects.parquet`, as far as it is read."""
    found, areas = np.unique(ids[ids > 0], return_counts=True)
    folder.mkdir(exist_ok=True)
    columns = {
        "id": found.astype(np.uint32),
        "class": (found % 2).astype(np.uint16),
        "name": np.array(CLASSES)[found % 2],
        "score": np.array([SCORES.get(id, 1.0) for id in found.tolist()], np.float32),
        "area": areas,
    }
    pq.write_table(pa.table(columns), folder / "objects.parquet")
