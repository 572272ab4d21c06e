"""A trap for slips of half a pixel: one marked pixel, which every reader must find at the same world coordinates."""

import shutil
from itertools import product

import numpy as np
import odc.geo.xr  # noqa: F401  (it gives arrays their `.odc`)
import pytest
import rasterio
import rioxarray  # noqa: F401  (it gives arrays their `.rio`)
from small_mosaic import SHAPE, TRANSFORM, dataset, make, paint, tool, uri, vrt

ROW, COL, MARK = 704, 1302, 3
"""Even, so that the pixel is in the coarser level too."""

X, Y = 500651.5, 5399648.5
"""The world coordinates of its centre: 1302.5 and 704.5 pixels of 0.5 m from the corner at 500000.25, 5400000.75."""

INSIDE, OUTSIDE = 0.45, 0.55
"""Parts of a pixel from the centre."""

GDAL = tuple(int(part) for part in rasterio.__gdal_version__.split(".")[:2])
gdal_needed = pytest.mark.skipif(shutil.which("gdallocationinfo") is None, reason="GDAL's tools are not installed")
# rioxarray multiplies transforms in a way that affine will drop some day.
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")


def at(array, transform, x, y):
    """The value at a place, by a transform of pixel corners."""
    col, row = ~rasterio.Affine(*tuple(transform)[:6]) @ (x, y)
    return array[int(row // 1), int(col // 1)]


def by_us(mosaic, level, x, y):
    """By our own transform, at pixel corners."""
    return at(mosaic.array("classes", level), mosaic.place(level).transform, x, y)


def by_xarray(mosaic, level, x, y):
    """By the coordinate arrays, of pixel centres."""
    return dataset(mosaic, level).classes.sel(x=x, y=y, method="nearest").item()


def by_rioxarray(mosaic, level, x, y):
    """By the transform that rioxarray makes of the coordinates."""
    array = dataset(mosaic, level).classes
    return at(array.values, array.rio.transform(recalc=True), x, y)


def by_odc_geo(mosaic, level, x, y):
    """By odc-geo's box."""
    array = dataset(mosaic, level).classes
    return at(array.values, array.odc.geobox.transform, x, y)


def by_rasterio(mosaic, level, x, y):
    """By the array itself, in GDAL."""
    with rasterio.open(uri(mosaic, level=level)) as source:
        return next(source.sample([(x, y)]))[0]


def by_rasterio_through_the_vrt(mosaic, level, x, y):
    """By the VRT and its overviews."""
    with rasterio.open(vrt(mosaic), **({"overview_level": level - 1} if level else {})) as source:
        return next(source.sample([(x, y)]))[0]


def by_gdal(mosaic, level, x, y):
    """By the system's GDAL."""
    return int(tool("gdallocationinfo", "-valonly", "-geoloc", uri(mosaic, level=level), str(x), str(y)))


def by_gdal_through_the_vrt(mosaic, level, x, y):
    """By the VRT, in the system's GDAL."""
    overview = ["-oo", f"OVERVIEW_LEVEL={level - 1}"] if level else []
    return int(tool("gdallocationinfo", "-valonly", "-geoloc", *overview, vrt(mosaic), str(x), str(y)))


ANY = [by_us, by_xarray, by_rioxarray, by_odc_geo]
RASTERIO = [by_rasterio, by_rasterio_through_the_vrt]
SYSTEM = [by_gdal, by_gdal_through_the_vrt]


def cases():
    """Each reader with each format that it can read; format 2 is for all, and rasterio's leg of it is never skipped."""
    for reader in ANY:
        yield from (pytest.param(zarr_format, reader, id=f"v{zarr_format}-{reader.__name__}") for zarr_format in (2, 3))
    no_v3 = pytest.mark.skipif(GDAL < (3, 11), reason=f"rasterio's GDAL {GDAL} reads no Zarr 3; 3.11 does")
    for reader in RASTERIO:
        yield pytest.param(2, reader, id=f"v2-{reader.__name__}")
        yield pytest.param(3, reader, id=f"v3-{reader.__name__}", marks=no_v3)
    for reader in SYSTEM:
        yield pytest.param(2, reader, id=f"v2-{reader.__name__}", marks=gdal_needed)


@pytest.fixture(scope="module")
def marked(tmp_path_factory):
    """Mosaics of class 0 with the one pixel of another, in two levels, by format."""
    classes = np.zeros(SHAPE, "u1")
    classes[ROW, COL] = MARK
    folder = tmp_path_factory.mktemp("marked")
    made = (make(folder / f"v{version}.zarr", zarr_format=version, levels=2, instances=False) for version in (2, 3))
    return {mosaic.root.metadata.zarr_format: paint(mosaic, {"classes": classes}) for mosaic in made}


@pytest.mark.parametrize("level", [0, 1])
@pytest.mark.parametrize(("zarr_format", "read"), list(cases()))
def test_the_marked_pixel_is_where_it_is(marked, zarr_format, read, level):
    """Nearly to its four corners it is there, and just beyond them it is not; half a pixel off, one of both would fail.

    A coarse pixel covers four fine ones, of which it shows the upper left: its centre is half a fine pixel further.
    """
    side = TRANSFORM[0] * 2**level
    x, y = X + level * TRANSFORM[0] / 2, Y - level * TRANSFORM[0] / 2
    for right, down in product((-side, side), repeat=2):
        assert read(marked[zarr_format], level, x + INSIDE * right, y - INSIDE * down) == MARK
        assert read(marked[zarr_format], level, x + OUTSIDE * right, y - OUTSIDE * down) == 0


def test_centres_are_at_half_pixels(marked):
    """The coordinates of the marked pixel, exactly."""
    for mosaic in marked.values():
        found = dataset(mosaic).classes
        mark = found.where(found == MARK, drop=True)
        assert (mark.x.values.tolist(), mark.y.values.tolist()) == ([X], [Y])
