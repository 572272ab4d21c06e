"""Small scenes with truth, and the smallest model that can be trained on them."""

import json
import time
from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import Affine

from eomt_core.recipes import RECIPES, Recipe
from pipeline.finetune import FinetuneConfig, course, finetune

RECIPE = Recipe(
    stem=(8, 8), dim=16, depth=2, num_heads=2, num_blocks=1, num_upscale=2, mask_width=8, image_size=32, queries=16
)
"""A model with patches of 8 pixels; its name in these tests is `new:test`."""

SHAPE = (72, 100)
CRS, PLACE = "EPSG:32640", (1.0, 0.0, 330000.0, 0.0, -1.0, 2780000.0)
GREYS = (60, 140, 220)
"""Of the classes 0, 1 and 2."""


def stripes(shape=SHAPE, classes=2):
    """Class ids (H, W) in stripes of 16 rows."""
    return (np.arange(shape[0]) // 16 % classes).astype(np.uint8)[:, None].repeat(shape[1], axis=1)


def discs(shape=SHAPE):
    """Ids of objects (H, W): discs of radius 6, 20 pixels apart."""
    rows, cols = np.mgrid[: shape[0], : shape[1]]
    inside = (rows % 20 - 10) ** 2 + (cols % 20 - 10) ** 2 < 36
    return np.where(inside, 1 + rows // 20 * 50 + cols // 20, 0).astype(np.uint16)


def picture(classes, bands=3, dtype="uint8", seed=0):
    """Pixels (C, H, W) that show the classes, with some noise."""
    grey = np.array(GREYS, float)[np.minimum(classes, 2)]
    noise = np.random.default_rng(seed).integers(-9, 10, (bands, *classes.shape))
    scale = {"uint8": 1, "uint16": 40, "float32": 1 / 255}[dtype]
    return ((grey + noise) * scale).astype(dtype)


def write(path, array, crs=CRS, place=PLACE, **profile):
    """Write a GeoTIFF of an array (C, H, W) or (H, W)."""
    array = array[None] if array.ndim == 2 else array
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = dict(zip(("count", "height", "width"), array.shape, strict=True))
    place = {"crs": crs, "transform": Affine(*place)} if crs else {}
    with rasterio.open(path, "w", driver="GTiff", dtype=array.dtype.name, **shape, **place, **profile) as dataset:
        dataset.write(array)
    return path


def write_pairs(folder, stems=("a", "b"), truth=stripes, **options):
    """Write scenes into `images` and their truth into `labels` below a folder."""
    for seed, stem in enumerate(stems):
        classes = truth()
        write(folder / "images" / f"{stem}.tif", picture(np.minimum(classes, 2), seed=seed, **options))
        write(folder / "labels" / f"{stem}.tif", classes)
    return folder


def write_polygons(path, boxes, crs=CRS, **more):
    """Write boxes of pixels as GeoJSON: (class, row, col, bottom, right), or another property than `class`."""
    field = more.get("field", "class")
    features = []
    for name, row, col, bottom, right in boxes:
        corners = [(col, row), (right, row), (right, bottom), (col, bottom), (col, row)]
        ring = [[PLACE[2] + x, PLACE[5] - y] for x, y in corners]
        shape = {"type": "Polygon", "coordinates": [ring]}
        features.append({"type": "Feature", "properties": {field: name}, "geometry": shape})
    named = {"type": "name", "properties": {"name": crs}}
    path.write_text(json.dumps({"type": "FeatureCollection", "crs": named, "features": features}))
    return path


def config_of(folder, output="model", **changes):
    """Six steps of two crops of 32 pixels on the scenes in a folder."""
    options = {"model": "new:test", "steps": 6, "batch_size": 2, "tile_size": 32, "precision": "fp32", "threads": 1}
    places = {"images": str(folder / "images"), "labels": str(folder / "labels"), "output": str(folder / output)}
    return FinetuneConfig(**{**places, **options, "device": "cpu", **changes})


def train(config, every=None, pause=0.0):
    """Train in a process of its own, which knows the model, too.

    Args:
        config: the choices.
        every: seconds between checkpoints.
        pause: seconds after each step, so that there is a moment to kill it.
    """
    RECIPES["test"] = RECIPE
    if every is not None:
        course.CHECKPOINT_EVERY = every
    return finetune(config, lambda pulse: time.sleep(pause))


def steps_in(path: Path):
    """Steps that a folder's `losses.csv` tells of."""
    return max(0, len(path.read_text().splitlines()) - 1) if path.exists() else 0
