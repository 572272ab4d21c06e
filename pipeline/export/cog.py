"""Cloud Optimized GeoTIFFs: one array of a mosaic, with overviews, and for classes with their colours and names."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import rasterio
from rasterio.errors import NotGeoreferencedWarning
from rasterio.shutil import copy
from rasterio.windows import Window as GdalWindow

from pipeline.export.unwritten import unwritten
from pipeline.mosaic.codes import UNLABELLED
from pipeline.mosaic.mosaic import Mosaic
from pipeline.rasters.source import GDAL_ERRORS
from pipeline.report import OnProgress, Progress
from pipeline.tiling import output_blocks

SIDE = 2048
"""Pixels a side of what is copied at once."""

CACHE = 256 * 2**20
"""Bytes that GDAL may keep; its own default is a share of the machine's memory."""

OVERVIEWS = {"classes": "MODE", "instances": "NEAREST", "confidence": "AVERAGE"}
"""Ids must not be averaged."""

PALETTE = 256
"""Entries of a table of colours; arrays of two bytes have none."""

UNLABELLED_COLOUR = "#808080"


def write_cog(path: Path, mosaic: Mosaic, array: str, progress: OnProgress) -> None:
    """Write one array of a mosaic, block by block.

    Args:
        path: A new file. Names of classes are beside it, in `.aux.xml`, where GDAL looks for them.
        mosaic: It is complete.
        array: Its name.
        progress: Hears of every block.

    Raises:
        RetryLater: The disk is full.
        RunError: The file cannot be written.
    """
    # A COG begins with its overviews, so that it can only be made of a raster that is there.
    plain = path.with_name(f"plain-{path.name}")
    try:
        with rasterio.Env(GDAL_CACHEMAX=CACHE), warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)  # a mosaic may lie nowhere
            _write_plain(plain, mosaic, array, progress)
            layout = {"compress": "DEFLATE", "blocksize": 512, "bigtiff": "IF_SAFER"}
            copy(plain, path, driver="COG", overview_resampling=OVERVIEWS[array], **layout)
    except GDAL_ERRORS as error:
        raise unwritten(path, error, plain.stat().st_size if plain.exists() else 0) from error
    plain.unlink()
    if array == "classes":
        beside = path.with_name(f"{path.name}.aux.xml")
        beside.write_text(category_names(mosaic.class_names), encoding="utf-8")


def _write_plain(path: Path, mosaic: Mosaic, array: str, progress: OnProgress) -> None:
    source, (rows, cols) = mosaic.array(array), mosaic.shape
    place: dict[str, Any] = {"crs": mosaic.crs}
    if mosaic.transform is not None:
        place["transform"] = rasterio.Affine(*mosaic.transform)
    profile = {"driver": "GTiff", "count": 1, "height": rows, "width": cols, "dtype": source.dtype.name}
    layout = {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "DEFLATE", "zlevel": 1}
    done, total = 0, rows * cols
    progress(Progress("export", 0, total, 0, None))
    with rasterio.open(path, "w", nodata=source.fill_value, bigtiff="IF_SAFER", **profile, **layout, **place) as target:
        if array == "classes" and source.dtype == np.uint8:
            target.write_colormap(1, palette(mosaic.colours))
        for block in output_blocks(mosaic.shape, SIDE):
            window = block.window
            pixels = np.asarray(source[window.slices])
            target.write(pixels, 1, window=GdalWindow(window.col, window.row, window.width, window.height))
            done += pixels.size
            progress(Progress("export", done, total, done, block.name))


def palette(colours: Sequence[str]) -> dict[int, tuple[int, ...]]:
    """Red, green, blue and alpha by class id; nodata is transparent, where the format can say so."""
    shown = dict(enumerate(colours)) | {UNLABELLED: UNLABELLED_COLOUR}
    rgb = {id: tuple(bytes.fromhex(colour[1:])) for id, colour in shown.items()}
    return {id: (*rgb[id], 255) if id in rgb else (0, 0, 0, 0) for id in range(PALETTE)}


def category_names(names: Sequence[str]) -> str:
    """GDAL's companion file of a raster of classes, which names them by id."""
    root = ElementTree.Element("PAMDataset")
    listed = ElementTree.SubElement(ElementTree.SubElement(root, "PAMRasterBand", band="1"), "CategoryNames")
    blank = [""] * (UNLABELLED - len(names))
    for name in [*names, *blank, "unlabelled"] if len(names) <= UNLABELLED else names:
        ElementTree.SubElement(listed, "Category").text = name
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode")
