"""COGs: valid to their own judge, and the same raster as the mosaic to GDAL."""

import shutil
import subprocess
import warnings
from xml.etree import ElementTree

import numpy as np
import pytest
import rasterio
from rasterio.errors import NotGeoreferencedWarning
from rio_cogeo.cogeo import cog_validate
from small_mosaic import COLOURS, NAMES, NODATA, SHAPE, TRANSFORM, is_companion, make, paint, picture, uri, vrt

from pipeline.errors import RetryLater
from pipeline.export.export import export_mosaic
from pipeline.rasters.raster_spec import Grid

ARRAYS = ("classes", "confidence", "instances")


@pytest.fixture(scope="module", params=[2, 3])
def mosaic(request, tmp_path_factory):
    """The picture, in both Zarr formats."""
    return paint(make(tmp_path_factory.mktemp("cog") / "masks.zarr", zarr_format=request.param), picture())


def export(mosaic, folder, array="classes"):
    """Export one array."""
    path = folder / f"{array}.tif"
    assert export_mosaic(mosaic.path, "cog", path, array=array) is None
    return path


@pytest.mark.parametrize("array", ARRAYS)
def test_it_is_a_cog(mosaic, tmp_path, array):
    """Without an error, or a warning that it could be better."""
    assert cog_validate(export(mosaic, tmp_path, array), strict=True, quiet=True) == (True, [], [])


@pytest.mark.parametrize("array", ARRAYS)
def test_it_shows_what_the_mosaic_shows(mosaic, tmp_path, array):
    """Pixels, type, CRS, transform and nodata; it has overviews."""
    with rasterio.open(export(mosaic, tmp_path, array)) as tiff:
        np.testing.assert_array_equal(tiff.read(1), mosaic.array(array)[:])
        assert (tiff.crs.to_epsg(), tuple(tiff.transform)[:6]) == (32633, TRANSFORM)
        assert (tiff.nodata, tiff.dtypes[0]) == (NODATA[array], mosaic.array(array).dtype.name)
        assert tiff.overviews(1)


@pytest.mark.parametrize("array", ARRAYS)
def test_gdal_sees_the_same_in_all(tmp_path, array):
    """Read from the COG, from the VRT and from Zarr, with one reader."""
    mosaic = paint(make(tmp_path / "masks.zarr"), picture())
    seen = []
    for name in (export(mosaic, tmp_path, array), vrt(mosaic, array), uri(mosaic, array)):
        with rasterio.open(name) as source:
            seen.append((source.read(1), source.read_masks(1), source.crs, source.transform, source.nodata))
    for other in seen[1:]:
        np.testing.assert_array_equal(other[0], seen[0][0])
        np.testing.assert_array_equal(other[1], seen[0][1])
        assert other[2:] == seen[0][2:]


def test_a_mosaic_of_nothing_but_the_first_class_shows_no_hole(tmp_path):
    """Class 0, wherever it is read: its chunks are stored, and 0 is no nodata."""
    pixels = {
        name: np.zeros(SHAPE, dtype) for name, dtype in (("classes", "u1"), ("confidence", "u1"), ("instances", "u4"))
    }
    mosaic = paint(make(tmp_path / "masks.zarr", classes=("ground",), colours=("#808000",)), pixels)
    for name in (export(mosaic, tmp_path), vrt(mosaic), uri(mosaic)):
        with rasterio.open(name) as source:
            assert (source.read(1) == 0).all()
            assert (source.read_masks(1) == 255).all()


def test_overviews_hold_no_other_ids(mosaic, tmp_path):
    """Nothing is averaged."""
    path = export(mosaic, tmp_path, "instances")
    with rasterio.open(path, overview_level=0) as coarse:
        assert set(np.unique(coarse.read(1))) <= set(np.unique(mosaic.instances[:]))


def test_class_0_is_no_hole(tmp_path):
    """A mosaic of class 0 alone is valid everywhere, in its overviews too."""
    zeros = {name: np.zeros_like(values) for name, values in picture().items()}
    path = export(paint(make(tmp_path / "masks.zarr"), zeros), tmp_path)
    for options in ({}, {"overview_level": 0}):
        with rasterio.open(path, **options) as tiff:
            assert (tiff.read_masks(1) == 255).all()


def test_classes_have_their_colours(mosaic, tmp_path):
    """The palette is that of the mosaic."""
    with rasterio.open(export(mosaic, tmp_path)) as tiff:
        shown = tiff.colormap(1)
    assert [shown[id][:3] for id in range(len(COLOURS))] == [tuple(bytes.fromhex(colour[1:])) for colour in COLOURS]


def test_classes_have_their_names(mosaic, tmp_path):
    """In the companion, by position, as GDAL counts them; also the one that is no class."""
    export(mosaic, tmp_path)
    listed = [name.text or "" for name in ElementTree.parse(tmp_path / "classes.tif.aux.xml").iter("Category")]
    assert (tuple(listed[: len(NAMES)]), listed[254], len(listed)) == (NAMES, "unlabelled", 255)


@pytest.mark.skipif(shutil.which("gdalinfo") is None, reason="GDAL's tools are not installed")
def test_gdal_finds_the_names(mosaic, tmp_path):
    """Its own tool lists them."""
    done = subprocess.run(["gdalinfo", export(mosaic, tmp_path)], capture_output=True, text=True, check=True)
    assert [f"{id:3}: {name}" in done.stdout for id, name in enumerate(NAMES)] == [True] * len(NAMES)


def test_what_lies_nowhere_gives_a_cog_that_lies_nowhere(tmp_path):
    """No CRS and no transform, and no word about it."""
    mosaic = paint(make(tmp_path / "masks.zarr", Grid(SHAPE), None), picture())
    path = export(mosaic, tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path) as tiff:
            assert (tiff.crs, tiff.transform.is_identity) == (None, True)


def test_many_classes_need_two_bytes(tmp_path):
    """Without a palette, but with their names."""
    names, shape = [f"class {id}" for id in range(300)], (40, 50)
    classes = np.arange(2000, dtype=np.uint16).reshape(shape) % 300
    mosaic = make(tmp_path / "m.zarr", Grid(shape, TRANSFORM), classes=names, colours=["#123456"] * 300)
    paint(mosaic, {"classes": classes})
    with rasterio.open(export(mosaic, tmp_path)) as tiff:
        np.testing.assert_array_equal(tiff.read(1), classes)
    listed = [name.text for name in ElementTree.parse(tmp_path / "classes.tif.aux.xml").iter("Category")]
    assert listed == names


def test_nothing_else_is_left(tmp_path):
    """The COG and its companion."""
    export(paint(make(tmp_path / "masks.zarr"), picture()), tmp_path)
    assert {path.name for path in tmp_path.iterdir() if not is_companion(path)} == {
        "masks.zarr",
        "classes.tif",
        "classes.tif.aux.xml",
    }


def test_a_disk_that_fills_while_it_is_written_is_for_later(mosaic, small_disk, monkeypatch):
    """GDAL takes away the part that it has written, so that there is some room again."""

    def noisy(path, *_):
        pixels = np.random.default_rng(0).integers(0, 256, (3000, 3000), np.uint8)
        with rasterio.open(path, "w", driver="GTiff", count=1, height=3000, width=3000, dtype="uint8") as file:
            file.write(pixels, 1)

    (small_disk.path / "others").write_bytes(bytes(16 * 2**20))
    monkeypatch.setattr("pipeline.export.cog._write_plain", noisy)
    with pytest.raises(RetryLater, match="the disk is full"):
        export(mosaic, small_disk.path)
    assert [path.name for path in small_disk.path.iterdir()] == ["others"]
