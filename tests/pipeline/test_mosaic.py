"""The mosaic as its readers see it (rasterio, GDAL's own tools, xarray, odc-geo), and as its writers use it."""

import multiprocessing
import shutil
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import odc.geo.xr  # noqa: F401  (it gives arrays their `.odc`)
import pytest
import rasterio
import rioxarray  # noqa: F401  (it gives arrays their `.rio`)
import xarray
from pyproj import CRS
from rasterio.errors import NotGeoreferencedWarning
from small_mosaic import (
    BOUNDS,
    COLOURS,
    LAEA,
    NAMES,
    NODATA,
    SHAPE,
    TRANSFORM,
    dataset,
    files,
    gdalinfo,
    make,
    paint,
    picture,
    uri,
    vrt,
)

from pipeline.mosaic.mosaic import open_mosaic
from pipeline.rasters.raster_spec import Grid
from pipeline.tiling import Window, output_blocks

GDAL = tuple(int(part) for part in rasterio.__gdal_version__.split(".")[:2])
gdalinfo_needed = pytest.mark.skipif(shutil.which("gdalinfo") is None, reason="GDAL's tools are not installed")
V2, V3, SHARDS = {"zarr_format": 2}, {"zarr_format": 3}, {"zarr_format": 3, "chunk": 256, "shard": 512}
no_v3 = pytest.mark.skipif(GDAL < (3, 11), reason=f"rasterio's GDAL {GDAL} reads no Zarr 3; 3.11 does")
no_shards = pytest.mark.skipif(GDAL < (3, 13), reason=f"rasterio's GDAL {GDAL} reads no shards; 3.13 does")
# Format 2, the default, is read by every GDAL and never skipped.
for_gdal = pytest.mark.parametrize(
    "painted",
    [
        pytest.param(V2, id="v2"),
        pytest.param(V3, id="v3", marks=no_v3),
        pytest.param(SHARDS, id="shards", marks=no_shards),
    ],
    indirect=True,
)
for_all = pytest.mark.parametrize("painted", [V2, V3, SHARDS], ids=["v2", "v3", "shards"], indirect=True)
# rioxarray multiplies transforms in a way that affine will drop some day.
rioxarrays_own = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")


@pytest.fixture(scope="module")
def painted(request, tmp_path_factory):
    """A finished mosaic of the picture, in the layout that the test asks for."""
    return paint(make(tmp_path_factory.mktemp("painted") / "masks.zarr", **request.param), picture())


def test_the_leg_of_format_2_is_never_skipped():
    """Every GDAL reads it: were it skipped, nothing would say that the default is read by any."""
    (first, *_) = for_gdal.mark.args[1]
    assert (first.id, first.marks) == ("v2", ())
    with rasterio.Env() as environment:
        assert "Zarr" in environment.drivers()


@for_gdal
@pytest.mark.parametrize("name", NODATA)
def test_rasterio_reads_pixels_and_place(painted, name):
    """CRS, transform, bounds, nodata and every pixel are right in each array."""
    with rasterio.open(uri(painted, name)) as source:
        assert source.crs.to_epsg() == 32633
        assert source.transform[:6] == pytest.approx(TRANSFORM, abs=1e-8, rel=0)
        assert tuple(source.bounds) == pytest.approx(BOUNDS, abs=1e-8, rel=0)
        assert source.nodata == NODATA[name]
        np.testing.assert_array_equal(source.read(1), picture()[name])


@for_gdal
def test_class_0_is_data(painted):
    """Only 255 is nodata to GDAL; it would hide class 0 if the fill value were left at 0."""
    with rasterio.open(uri(painted)) as source:
        np.testing.assert_array_equal(source.read_masks(1), np.where(picture()["classes"] == 255, 0, 255))


@gdalinfo_needed
@pytest.mark.parametrize("painted", [V2], ids=["v2"], indirect=True)
def test_gdalinfo_reads_place_and_nodata(painted):
    """The system's GDAL, older than the one in Python's packages, says the same of each array."""
    for name, nodata in NODATA.items():
        info = gdalinfo(uri(painted, name))
        assert info["geoTransform"] == [500000.25, 0.5, 0.0, 5400000.75, 0.0, -0.5]
        assert 'ID["EPSG",32633]' in info["coordinateSystem"]["wkt"]
        assert info["bands"][0]["noDataValue"] == nodata


@rioxarrays_own
@for_all
def test_xarray_reads_pixels_and_place(painted):
    """Opened with no option but the group, types stay integers and rioxarray and odc-geo find the place."""
    opened = dataset(painted)
    assert opened.x[0] == 500000.5
    for name, pixels in picture().items():
        array = opened[name]
        np.testing.assert_array_equal(array.values, pixels, strict=True)
        assert (array.rio.crs.to_epsg(), array.rio.nodata) == (32633, NODATA[name])
        assert array.rio.transform()[:6] == pytest.approx(TRANSFORM, abs=1e-8, rel=0)
        assert array.odc.geobox.crs.to_epsg() == 32633
        assert tuple(array.odc.geobox.boundingbox) == pytest.approx(BOUNDS, abs=1e-8, rel=0)


@for_all
def test_a_mosaic_opens_as_what_was_made(painted):
    """Names, colours, place and provenance come back."""
    mosaic = open_mosaic(str(painted.path))
    assert (mosaic.class_names, mosaic.colours) == (NAMES, COLOURS)
    assert (mosaic.transform, mosaic.shape, mosaic.nodata, mosaic.levels) == (TRANSFORM, SHAPE, 255, 1)
    assert CRS.from_wkt(mosaic.crs or "").to_epsg() == 32633
    assert mosaic.provenance == {"model": "none"}
    assert mosaic.classes.attrs["flag_meanings"] == "background still_water for_t crop built"


@pytest.mark.parametrize("crs", ["ESRI:54009", LAEA, "EPSG:4326", "EPSG:31468"], ids=lambda crs: crs[:10])
def test_any_crs_comes_back(tmp_path, crs):
    """With or without EPSG code, with axes in any order, rasterio and rioxarray read the CRS that went in."""
    crs, transform = CRS.from_user_input(crs), (1e-4, 0.0, -0.5e-4, 0.0, -1e-4, 47.3)
    mosaic = paint(make(tmp_path / "m.zarr", Grid((15, 20), transform), crs.to_wkt("WKT2_2019")), picture((15, 20)))
    want = rasterio.CRS.from_wkt(crs.to_wkt("WKT2_2019"))
    opened = dataset(mosaic)
    assert opened.classes.rio.crs == want
    assert opened.x[0] == 0.0
    with rasterio.open(uri(mosaic)) as source:
        assert source.crs == want
        assert source.transform[:6] == pytest.approx(transform, abs=1e-12)


@rioxarrays_own
@pytest.mark.parametrize(
    ("crs", "transform"),
    [("EPSG:4326", (0.125, 0.0, 179.0, 0.0, -0.125, -16.0)), ("EPSG:3460", (500.0, 0.0, 1995500.0, 0.0, -500.0, 4e6))],
    ids=["degrees", "map grid of Fiji"],
)
def test_a_raster_across_the_antimeridian_stays_in_one_piece(tmp_path, crs, transform):
    """Longitudes go on beyond 180 degrees in each reader; nothing is wrapped around the world."""
    made = make(tmp_path / "m.zarr", Grid((16, 20), transform), CRS.from_user_input(crs).to_wkt("WKT2_2019"))
    mosaic = paint(made, picture((16, 20)))
    west, north, side = transform[2], transform[5], transform[0]
    bounds = (west, north - 16 * side, west + 20 * side, north)
    for source in (uri(mosaic), vrt(mosaic)):
        with rasterio.open(source) as opened:
            assert (tuple(opened.bounds), opened.crs.to_string()) == (pytest.approx(bounds, abs=1e-9), crs)
    seen = dataset(mosaic).classes
    assert tuple(seen.odc.geobox.boundingbox) == pytest.approx(bounds, abs=1e-9)
    assert (np.diff(seen.x) == side).all()
    assert mosaic.classes.attrs["spatial:bbox"] == list(bounds)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_zero_is_no_missing_coordinate(tmp_path, zarr_format):
    """Opened with no option at all, xarray hides values that are a format 2 array's fill value: 0 must not be it."""
    mosaic = make(tmp_path / "m.zarr", Grid((15, 20), (1.0, 0.0, -0.5, 0.0, -1.0, 0.5)), zarr_format=zarr_format)
    mosaic.finish()
    opened = xarray.open_zarr(mosaic.path, group="0", chunks=None)
    assert (opened.x[0], opened.y[0], opened.spatial_ref) == (0, 0, 0)


@gdalinfo_needed
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_an_image_without_georeference_stays_without(tmp_path, zarr_format):
    """No reader is told of a CRS or a transform that the image never had."""
    mosaic = paint(make(tmp_path / "m.zarr", Grid((15, 20), None), None, zarr_format=zarr_format), picture((15, 20)))
    assert set(dataset(mosaic).variables) == set(NODATA)
    assert dataset(mosaic).classes.rio.crs is None
    assert (mosaic.crs, mosaic.transform) == (None, None)
    if zarr_format == 2:
        assert not {"geoTransform", "coordinateSystem"} & gdalinfo(uri(mosaic)).keys()
        with pytest.warns(NotGeoreferencedWarning), rasterio.open(uri(mosaic)) as source:
            assert source.crs is None


def test_a_rotated_image_keeps_its_transform(tmp_path):
    """GDAL before 3.13 sees none, and never a wrong one; rioxarray and we see the right one."""
    rotated = (0.4, 0.3, 500000.25, 0.2, -0.4, 5400000.75)
    mosaic = paint(make(tmp_path / "m.zarr", Grid((15, 20), rotated)), picture((15, 20)))
    assert mosaic.transform == rotated
    assert dataset(mosaic).classes.rio.transform()[:6] == rotated
    assert "x" not in dataset(mosaic).variables
    if GDAL < (3, 13):
        with pytest.warns(NotGeoreferencedWarning), rasterio.open(uri(mosaic)) as source:
            assert (source.crs.to_epsg(), source.transform.is_identity) == (32633, True)


def test_more_classes_than_a_byte_tells_take_two(tmp_path):
    """From 255 classes on, ids are uint16 with codes of their own; 254 is then a class."""
    names = [f"class {rank}" for rank in range(255)]
    mosaic = make(tmp_path / "m.zarr", Grid((15, 20), TRANSFORM), classes=names, colours=["#000000"] * 255)
    mosaic.write(Window(0, 0, 15, 20), classes=np.full((15, 20), 254, "u2"))
    assert (mosaic.nodata, mosaic.confidence.dtype) == (65535, np.uint8)
    with rasterio.open(uri(mosaic)) as source:
        assert (source.dtypes[0], source.nodata) == ("uint16", 65535)
        assert (source.read_masks(1) == 255).all()


@pytest.mark.parametrize(
    "window",
    [
        Window(100, 0, 1024, 1024),
        Window(0, 0, 1000, 1024),
        Window(0, 1024, 1024, 1024),
        Window(-1024, 0, 1024, 1024),
        Window(0, 0, 0, 1024),
    ],
    ids=["starts inside", "ends inside", "beyond the edge", "before the edge", "empty"],
)
def test_a_window_off_the_chunks_is_refused_before_any_write(tmp_path, window):
    """Two writers of one chunk would lose each other's pixels in silence."""
    mosaic = make(tmp_path / "masks.zarr")
    before = files(mosaic)
    with pytest.raises(ValueError, match=rf"^{window} are not whole blocks of 1024 pixels"):
        mosaic.write(window, classes=np.zeros((window.height, window.width), "u1"))
    assert files(mosaic) == before


@pytest.mark.parametrize("wrong", [np.zeros((1024, 1023), "u4"), np.zeros((1024, 1024), "i8")], ids=["shape", "type"])
def test_an_array_that_does_not_fit_is_refused_before_any_write(tmp_path, wrong):
    """Ids of another type would wrap around; the other arrays are not written either."""
    mosaic = make(tmp_path / "masks.zarr")
    before = files(mosaic)
    with pytest.raises(ValueError, match=r"^instances: expected"):
        mosaic.write(Window(0, 0, 1024, 1024), classes=np.zeros((1024, 1024), "u1"), instances=wrong)
    assert files(mosaic) == before


@pytest.mark.parametrize(
    "options",
    [{"chunk": 512}, {"zarr_format": 3, "chunk": 512}, {"zarr_format": 3, "chunk": 256, "shard": 512}],
    ids=["v2", "v3", "v3-shards"],
)
def test_a_block_writes_the_objects_that_it_names(tmp_path, options):
    """The files that a write makes are those of its window, in all arrays, and no two blocks share one."""
    mosaic = make(tmp_path / "masks.zarr", **options)
    named, blocks = [], output_blocks(SHAPE, 512)
    for block in blocks[:5]:
        before = files(mosaic)
        ones = np.ones((block.window.height, block.window.width))
        mosaic.write(block.window, **{name: ones.astype(mosaic.array(name).dtype) for name in mosaic.names})
        assert files(mosaic) - before == set(mosaic.objects(block.window))
        named += mosaic.objects(block.window)
    assert len(named) == len(set(named)) == 5 * len(mosaic.names)


def test_fill_over_pixels_removes_the_object(tmp_path):
    """A block that turns out empty when it is written again leaves nothing of the first time."""
    mosaic, window = make(tmp_path / "masks.zarr"), Window(0, 0, 1024, 1024)
    for value, stands in ((3, True), (255, False)):
        mosaic.write(window, classes=np.full((1024, 1024), value, "u1"))
        assert mosaic.objects(window)[0].exists() is stands
        assert (mosaic.classes[window.slices] == value).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [{"chunk": 256}, {"zarr_format": 3, "chunk": 128, "shard": 256}], ids=["v2", "v3-shards"]
)
def test_four_writers_lose_no_pixel(tmp_path, options):
    """Processes that write whole blocks side by side need no lock."""
    mosaic, pixels = make(tmp_path / "masks.zarr", **options), picture()
    with ProcessPoolExecutor(4, mp_context=multiprocessing.get_context("spawn")) as pool:
        writes = [
            pool.submit(mosaic.write, window, **{name: pixels[name][window.slices] for name in pixels})
            for _, window in ((block.index, block.window) for block in output_blocks(SHAPE, 256))
        ]
        for write in writes:
            write.result()
    for name, values in pixels.items():
        np.testing.assert_array_equal(mosaic.array(name)[:], values)


@rioxarrays_own
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_coarser_level_is_a_whole_dataset(tmp_path, zarr_format):
    """It lies at the same corner with pixels twice as big, and its readers need nothing of level 0."""
    options = {"zarr_format": zarr_format, "levels": 2}
    mosaic = paint(make(tmp_path / "m.zarr", Grid((1501, 2000), TRANSFORM), **options), picture((1501, 2000)))
    opened = dataset(mosaic, 1)
    np.testing.assert_array_equal(opened.classes.values, mosaic.classes[::2, ::2])
    assert opened.classes.rio.transform()[:6] == (1.0, 0.0, 500000.25, 0.0, -1.0, 5400000.75)
    assert (mosaic.levels, opened.classes.rio.crs.to_epsg(), opened.x[0]) == (2, 32633, 500000.75)
