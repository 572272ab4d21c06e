"""Drawn landscapes: fields, woods, water, roads and houses from above, the same for the same seed, with their truth."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.transform import Affine

from pipeline.raster import Reader, open_raster
from pipeline.tiling import Window

CLASSES = ("field", "meadow", "wood", "water", "road", "house")
FIELD, MEADOW, WOOD, WATER, ROAD, HOUSE = range(6)

COLOURS = np.array([[196, 170, 108], [124, 158, 82], [48, 82, 46], [44, 78, 104], [138, 134, 130], [176, 84, 66]])
"""Mean red, green, blue of each class, (K, 3)."""

ROUGHNESS = np.array([9, 7, 14, 3, 5, 8])
"""Standard deviation of a pixel's brightness, by class."""

Mask = NDArray[np.bool_]


class Scene(NamedTuple):
    """A landscape.

    Attributes:
        pixels: Red, green, blue, (3, H, W) uint8.
        classes: Index into `CLASSES`, (H, W) uint8.
    """

    pixels: NDArray[np.uint8]
    classes: NDArray[np.uint8]


def draw_scene(side: int = 1536, seed: int = 0) -> Scene:
    """Draw a landscape of side x side pixels of 1 m."""
    rng = np.random.default_rng(seed)
    rows, cols = np.mgrid[:side, :side].astype(np.float32)
    parcels = _parcels(rows, cols, rng)
    classes = rng.choice([FIELD, MEADOW, WOOD], parcels.max() + 1, p=[0.5, 0.3, 0.2]).astype(np.uint8)[parcels]
    classes[_river(rows, cols, rng)] = WATER
    for road, houses in (_road(rows, cols, rng) for _ in range(3)):
        classes[road] = ROAD
        for window in houses:
            classes[window] = HOUSE
    return Scene(_paint(classes, parcels, rng), classes)


def write_scene(path: Path, scene: Scene, crs: str = "EPSG:32640", corner: Sequence[float] = (330000, 2780000)) -> None:
    """Write the pixels as a tiled GeoTIFF with 1 m pixels.

    Args:
        path: Where.
        scene: What.
        crs: Its coordinate reference system.
        corner: Easting and northing of the upper left corner.
    """
    profile: dict[str, Any] = {"driver": "GTiff", "tiled": True, "compress": "deflate", "photometric": "rgb"}
    count, height, width = scene.pixels.shape
    with rasterio.open(
        path,
        "w",
        count=count,
        height=height,
        width=width,
        dtype="uint8",
        crs=crs,
        transform=Affine(1, 0, corner[0], 0, -1, corner[1]),
        **profile,
    ) as dataset:
        dataset.write(scene.pixels)


def _parcels(rows: NDArray[Any], cols: NDArray[Any], rng: np.random.Generator) -> NDArray[np.intp]:
    """Parcel numbers (H, W): the nearest of some points, with distance measured along rotated axes as fields lie."""
    points = rng.uniform(0, len(rows), (36, 2)).astype(np.float32)
    nearest, number = np.full(rows.shape, np.inf, np.float32), np.zeros(rows.shape, np.intp)
    for index, (row, col) in enumerate(points):
        down, right = rows - row, cols - col
        distance = np.maximum(np.abs(0.9 * down + 0.4 * right), np.abs(0.9 * right - 0.4 * down))
        closer = distance < nearest
        nearest[closer], number[closer] = distance[closer], index
    return number


def _river(rows: NDArray[Any], cols: NDArray[Any], rng: np.random.Generator) -> Mask:
    side = len(rows)
    middle = side * (rng.uniform(0.3, 0.7) + 0.08 * np.sin(rows * 9 / side + rng.uniform(0, 6)))
    return np.asarray(np.abs(cols - middle) < side * (0.02 + 0.006 * np.sin(rows * 23 / side)))


def _road(rows: NDArray[Any], cols: NDArray[Any], rng: np.random.Generator) -> tuple[Mask, list[tuple[slice, slice]]]:
    """A straight road 8 m wide, and the windows of the houses along it."""
    side, angle = len(rows), rng.uniform(0.1, 1.4)
    row, col = rng.uniform(0.25 * side, 0.75 * side, 2)
    road = np.abs((rows - row) * np.cos(angle) - (cols - col) * np.sin(angle)) < 4
    houses = []
    for along, offset in zip(rng.uniform(-0.4, 0.4, 24) * side, rng.choice([-20, 20], 24), strict=True):
        top = int(row + along * np.sin(angle) + offset * np.cos(angle))
        left = int(col + along * np.cos(angle) - offset * np.sin(angle))
        height, width = rng.integers(8, 16, 2)
        if top >= 0 and left >= 0:
            houses.append((slice(top, top + height), slice(left, left + width)))
    return road, houses


def _paint(classes: NDArray[np.uint8], parcels: NDArray[np.intp], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Pixels (3, H, W): the class's colour, a shade per parcel, and the roughness of each surface."""
    shade = rng.normal(0, 12, parcels.max() + 1)[parcels] * (classes <= WOOD)
    light = shade + rng.normal(0, 1, classes.shape) * ROUGHNESS[classes]
    return np.stack([np.clip(channel[classes] + light, 0, 255).astype(np.uint8) for channel in COLOURS.T])


def read_samples(path: Path, side: int, most: int = 7) -> NDArray[np.uint8]:
    """Windows along a raster's diagonal, (N, 3, side, side): what its pixels look like."""
    with Reader(open_raster(path)) as reader:
        rows, cols = reader.spec.grid.shape
        corners = [((rows - side) * i // most, (cols - side) * i // most) for i in range(most)]
        return np.stack([reader.read(Window(row, col, side, side)).pixels for row, col in corners])
