"""A mosaic of 1500 x 2000 pixels that is nowhere on a round number, pixels for it, and its readers."""

import json
import os
import subprocess
from typing import Any

import numpy as np
import xarray
from pyproj import CRS

from pipeline.mosaic.companions import write_companions
from pipeline.mosaic.mosaic import Mosaic
from pipeline.rasters.raster_spec import Grid
from pipeline.tiling import output_blocks

SHAPE = (1500, 2000)
TRANSFORM = (0.5, 0.0, 500000.25, 0.0, -0.5, 5400000.75)
BOUNDS = (500000.25, 5399250.75, 501000.25, 5400000.75)
UTM = CRS.from_epsg(32633).to_wkt("WKT2_2019")
NAMES = ("background", "still water", "forêt", "crop", "built")
COLOURS = ("#000000", "#1f78b4", "#33a02c", "#ffff99", "#e31a1c")
NODATA = {"classes": 255, "confidence": 255, "instances": 0}
LAEA = "+proj=laea +lat_0=47.3 +lon_0=9.1 +datum=WGS84 +units=m"


def make(path, grid=Grid(SHAPE, TRANSFORM), crs=UTM, classes=NAMES, colours=COLOURS, **options):  # noqa: B008
    """An empty mosaic."""
    chosen: dict[str, Any] = {"instances": True, "provenance": {"model": "none"}} | options
    return Mosaic.create(path, grid, crs, classes=classes, colours=colours, **chosen)


def picture(shape=SHAPE):
    """Pixels of all arrays: coarse patches of every class, unlabelled and nodata, with ids of up to 32 bits."""
    random = np.random.default_rng(7)
    patches = random.choice([0, 1, 2, 3, 4, 254, 255], (-(-shape[0] // 50), -(-shape[1] // 50)))
    classes = np.kron(patches, np.ones((50, 50))).astype("u1")[: shape[0], : shape[1]]
    instances = np.where(classes < 254, classes.astype("u4") * 1_000_000_007, 0).astype("u4")
    return {"classes": classes, "confidence": 255 - classes, "instances": instances}


def paint(mosaic, pixels):
    """Write every block of every level, as a run would."""
    for level in range(mosaic.levels):
        thinned = {name: values[:: 2**level, :: 2**level] for name, values in pixels.items()}
        for block in output_blocks(thinned["classes"].shape, mosaic.side):
            parts = {name: values[block.window.slices] for name, values in thinned.items()}
            mosaic.write(block.window, level=level, **parts)
    mosaic.finish()
    write_companions(mosaic)
    return mosaic


def is_companion(path):
    """Whether a file is one of those that stand beside every mosaic."""
    return path.suffix in (".vrt", ".qml")


def uri(mosaic, name="classes", level=0):
    """The name of one array, for GDAL."""
    return f'ZARR:"{mosaic.path}":/{level}/{name}'


def dataset(mosaic, level=0):
    """One level in xarray; in format 2 it would take nodata for missing data and turn ids into floats."""
    masked: dict[str, Any] = {"mask_and_scale": False} if mosaic.root.metadata.zarr_format == 2 else {}
    return xarray.open_zarr(mosaic.path, group=str(level), chunks=None, **masked)


def vrt(mosaic, name="classes"):
    """The VRT of one array."""
    return str(mosaic.path.with_suffix(f".{name}.vrt"))


def tool(*command):
    """What a program of the system says, without the data folders that Python's packages bring; no warning either."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("GDAL", "PROJ", "PYTHON"))}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def gdalinfo(source, *options):
    """What GDAL's own tool says of a raster."""
    return json.loads(tool("gdalinfo", "-json", *options, source))


def files(mosaic):
    """Everything in the mosaic's folder."""
    return {path for path in mosaic.path.rglob("*") if path.is_file()}
