"""Scenes in files: pixels and truth as GeoTIFFs on one grid, and samples of a raster."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.transform import Affine

from pipeline.rasters.raster import Reader, open_raster
from pipeline.scenes.canvas import CLASSES
from pipeline.scenes.scene import Scene
from pipeline.tiling import Window

CRS = "EPSG:32640"
CORNER = (330000, 2780000)
IGNORED = 255

PALETTE = {0: (60, 16, 152), 1: (132, 41, 246), 2: (110, 193, 228), 3: (254, 221, 58), 4: (226, 169, 41)}
"""Colours of the classes, as published aerial scenes with these classes have them."""


def write_scene(path: Path, scene: Scene, crs: str = CRS, corner: Sequence[float] = CORNER) -> None:
    """Write the pixels as a tiled GeoTIFF with 1 m pixels.

    Args:
        path: Where.
        scene: What.
        crs: Its coordinate reference system.
        corner: Easting and northing of the upper left corner.
    """
    with rasterio.open(path, "w", **_profile(scene.pixels, crs, corner), photometric="rgb") as dataset:
        dataset.write(scene.pixels)


def write_truth(path: Path, scene: Scene, crs: str = CRS, corner: Sequence[float] = CORNER) -> None:
    """Write the class of each pixel as a GeoTIFF on the grid of `write_scene`, with names and colours.

    Args:
        path: Where.
        scene: What.
        crs: Its coordinate reference system.
        corner: Easting and northing of the upper left corner.
    """
    with rasterio.open(path, "w", **_profile(scene.classes[None], crs, corner), nodata=IGNORED) as dataset:
        dataset.write(scene.classes, 1)
        dataset.write_colormap(1, PALETTE)
        dataset.update_tags(classes=",".join(CLASSES))


def _profile(array: NDArray[np.uint8], crs: str, corner: Sequence[float]) -> dict[str, Any]:
    count, height, width = array.shape
    grid = {"crs": crs, "transform": Affine(1, 0, corner[0], 0, -1, corner[1])}
    shape = {"count": count, "height": height, "width": width, "dtype": "uint8"}
    return {"driver": "GTiff", "tiled": True, "compress": "deflate", **grid, **shape}


def read_samples(path: Path, side: int, most: int = 7) -> NDArray[np.uint8]:
    """Windows along a raster's diagonal, (N, 3, side, side): what its pixels look like."""
    with Reader(open_raster(path)) as reader:
        rows, cols = reader.spec.grid.shape
        corners = [((rows - side) * i // most, (cols - side) * i // most) for i in range(most)]
        return np.stack([reader.read(Window(row, col, side, side)).pixels for row, col in corners])
