"""The files beside a mosaic: palette, class names, overviews and any place for GDAL and QGIS, and QGIS's legend."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.errors import NotGeoreferencedWarning
from small_mosaic import BOUNDS, COLOURS, NAMES, NODATA, TRANSFORM, gdalinfo, make, paint, picture, tool, uri, vrt

from pipeline.errors import OutputError
from pipeline.mosaic.companions import companions
from pipeline.mosaic.mosaic import open_mosaic
from pipeline.rasters.raster_spec import Grid
from pipeline.run import stitch_raster

READ_QGIS = Path(__file__).parents[1] / "light" / "read_qgis.py"
ROTATED = (0.4, 0.3, 500000.25, 0.2, -0.4, 5400000.75)

gdalinfo_needed = pytest.mark.skipif(shutil.which("gdalinfo") is None, reason="GDAL's tools are not installed")
qgis_needed = pytest.mark.skipif(
    not Path("/usr/lib/python3/dist-packages/qgis").exists(), reason="Debian's python3-qgis is not installed"
)


@pytest.fixture(scope="module")
def painted(tmp_path_factory):
    """The picture in format 2, in three levels."""
    return paint(make(tmp_path_factory.mktemp("painted") / "masks.zarr", levels=3), picture())


def small(path, transform=TRANSFORM, **options):
    """A mosaic of 15 x 20 pixels."""
    return paint(make(path, Grid((15, 20), transform), **options), picture((15, 20)))


def categories(source):
    """The names of a raster's values by GDAL's own tool, which its JSON leaves out."""
    told = tool("gdalinfo", source).partition("Categories:\n")[2].partition("Color Table")[0]
    return [line.split(": ", 1)[1] for line in told.splitlines() if ": " in line]


def by_qgis(source, *drawn):
    """What QGIS makes of a raster, in a process of the system's Python."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("GDAL", "PROJ", "PYTHON"))}
    command = ["/usr/bin/python3", READ_QGIS, source, *drawn]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, env=environment).stdout)


@pytest.mark.parametrize("name", NODATA)
def test_rasterio_reads_pixels_and_place_through_the_vrt(painted, name):
    """The same as from the array itself, and every pixel."""
    with rasterio.open(vrt(painted, name)) as source:
        assert (source.crs.to_epsg(), source.nodata) == (32633, NODATA[name])
        assert (source.transform[:6], tuple(source.bounds)) == (TRANSFORM, BOUNDS)
        np.testing.assert_array_equal(source.read(1), picture()[name], strict=True)


@pytest.mark.parametrize("name", NODATA)
@pytest.mark.parametrize("level", [1, 2])
def test_overviews_are_the_levels(painted, name, level):
    """Each at its own size, with its own pixels: GDAL takes none of them from format 2 by itself."""
    with rasterio.open(vrt(painted, name), overview_level=level - 1) as source:
        np.testing.assert_array_equal(source.read(1), picture()[name][:: 2**level, :: 2**level])
    with rasterio.open(uri(painted, name)) as source:
        assert source.overviews(1) == []


def test_each_class_has_its_name_and_colour(painted):
    """Unlabelled pixels are transparent, and so is what is no class at all."""
    with rasterio.open(vrt(painted)) as source:
        colours = source.colormap(1)
    for value, colour in enumerate(COLOURS):
        assert colours[value] == (*bytes.fromhex(colour[1:]), 255)
    assert {colours[value][3] for value in range(len(COLOURS), 256)} == {0}


@gdalinfo_needed
def test_gdalinfo_tells_names_and_overviews_and_complains_of_nothing(painted):
    """The system's GDAL, older than the one in Python's packages."""
    (band,) = gdalinfo(vrt(painted), "-checksum")["bands"]
    (array,) = gdalinfo(uri(painted), "-checksum")["bands"]
    coarse = [gdalinfo(uri(painted, level=level), "-checksum")["bands"][0]["checksum"] for level in (1, 2)]
    assert (band["checksum"], band["noDataValue"], band["colorInterpretation"]) == (array["checksum"], 255, "Palette")
    assert [overview["size"] for overview in band["overviews"]] == [[1000, 750], [500, 375]]
    assert [overview["checksum"] for overview in band["overviews"]] == coarse
    named = {value: name for value, name in enumerate(categories(vrt(painted))) if name}
    assert named == {**dict(enumerate(NAMES)), 254: "unlabelled", 255: "nodata"}


@gdalinfo_needed
def test_a_rotated_image_has_its_place_through_the_vrt(tmp_path):
    """The way that every GDAL understands; from the array itself those before 3.13 see none."""
    mosaic = small(tmp_path / "m.zarr", ROTATED)
    a, b, c, d, e, f = ROTATED
    assert gdalinfo(vrt(mosaic))["geoTransform"] == [c, a, b, f, d, e]
    with rasterio.open(vrt(mosaic)) as source:
        assert (source.transform[:6], source.crs.to_epsg()) == (ROTATED, 32633)


@gdalinfo_needed
@pytest.mark.parametrize("crs", ["ESRI:54009", "EPSG:4326", "EPSG:31468"])
def test_any_crs_is_in_the_vrt(tmp_path, crs):
    """Whatever its axes are: x is x."""
    want = rasterio.CRS.from_user_input(crs)
    mosaic = small(tmp_path / "m.zarr", (1e-4, 0.0, 9.5, 0.0, -1e-4, 47.3), crs=want.to_wkt(version="WKT2_2019"))
    info = gdalinfo(vrt(mosaic))
    assert rasterio.CRS.from_wkt(info["coordinateSystem"]["wkt"]) == want
    assert info["geoTransform"][::3] == [9.5, 47.3]


def test_an_image_without_georeference_gets_none(tmp_path):
    """Not even an identity transform."""
    mosaic = small(tmp_path / "m.zarr", None, crs=None)
    with pytest.warns(NotGeoreferencedWarning), rasterio.open(vrt(mosaic)) as source:
        assert (source.crs, source.transform.is_identity) == (None, True)
    assert "GeoTransform" not in Path(vrt(mosaic)).read_text()


def test_more_classes_than_a_byte_tells_keep_names_and_colours(tmp_path):
    """Two bytes have codes of their own at the end of a longer palette."""
    names, colours = [f"class {rank}" for rank in range(300)], [f"#{rank:06x}" for rank in range(300)]
    mosaic = make(tmp_path / "m.zarr", Grid((15, 20), TRANSFORM), classes=names, colours=colours)
    pixels = picture((15, 20)) | {"classes": np.full((15, 20), 299, "u2")}
    paint(mosaic, pixels)
    with rasterio.open(vrt(mosaic)) as source:
        assert (source.dtypes[0], source.nodata, source.colormap(1)[299]) == ("uint16", 65535, (0, 1, 43, 255))
        assert (source.read(1) == 299).all()
    assert 'value="65534" label="unlabelled"' in Path(vrt(mosaic)).with_suffix(".qml").read_text()


@gdalinfo_needed
def test_names_may_hold_any_sign(tmp_path):
    """What XML has a meaning for, other alphabets, and nothing at all."""
    names = ['a < b & "c"', "Wald, 森林", "", "]]>", "<Category>"]
    mosaic = small(tmp_path / "m.zarr", classes=names)
    assert categories(vrt(mosaic))[:5] == names


@gdalinfo_needed
def test_mosaic_and_vrt_can_be_moved_together(tmp_path):
    """The VRT names the mosaic by a path relative to itself, spaces and all."""
    mosaic = small(tmp_path / "my masks.zarr")
    checksum = gdalinfo(uri(mosaic), "-checksum")["bands"][0]["checksum"]
    (tmp_path / "elsewhere").mkdir()
    for path in (mosaic.path, *companions(mosaic.path)):
        path.rename(tmp_path / "elsewhere" / path.name)
    moved = open_mosaic(tmp_path / "elsewhere" / "my masks.zarr")
    for source in (vrt(moved), uri(moved)):
        assert gdalinfo(source, "-checksum")["bands"][0]["checksum"] == checksum


def test_a_run_writes_them_when_it_is_done(fresh):
    """For each array that it has."""
    fresh.again()
    assert [path.name for path in companions(fresh.output) if path.exists()] == [
        "out.classes.vrt",
        "out.classes.qml",
        "out.confidence.vrt",
    ]
    with rasterio.open(fresh.output.with_suffix(".classes.vrt")) as source:
        np.testing.assert_array_equal(source.read(1), open_mosaic(fresh.output).classes[:])


def test_they_go_with_their_mosaic(finished):
    """Made anew with fewer levels, a mosaic has files that name these alone."""
    finished.again(levels=3, overwrite=True)
    assert "out.zarr/2/classes" in finished.output.with_suffix(".classes.vrt").read_text()
    stitch_raster(finished.output, levels=1)
    assert "Overview" not in finished.output.with_suffix(".classes.vrt").read_text()


def test_a_file_that_would_be_written_over_is_refused(fresh):
    """Where no run was begun it is somebody else's; nothing is started."""
    theirs = fresh.output.with_suffix(".classes.vrt")
    theirs.write_text("mine")
    with pytest.raises(OutputError, match=r"out.classes.vrt: is there and would be written; take another --out"):
        fresh.again()
    assert (theirs.read_text(), fresh.folder.exists()) == ("mine", False)


@pytest.mark.slow
@qgis_needed
def test_qgis_shows_classes_by_name_and_colour(painted, tmp_path):
    """As a paletted layer at its place, with the legend of the classes; what is unlabelled shows what is below."""
    found = by_qgis(vrt(painted), tmp_path / "drawn.png")
    legend = [[value, name, colour] for value, (name, colour) in enumerate(zip(NAMES, COLOURS, strict=True))]
    assert (found["crs"], tuple(found["bounds"]), found["nodata"]) == ("EPSG:32633", BOUNDS, 255)
    assert (found["renderer"], found["legend"]) == ("paletted", [*legend, [254, "unlabelled", "#ffffff"]])
    drawn = np.asarray(Image.open(tmp_path / "drawn.png").convert("RGB"))
    palette = np.full((256, 3), (255, 0, 255), "u1")
    palette[: len(COLOURS)] = [tuple(bytes.fromhex(colour[1:])) for colour in COLOURS]
    np.testing.assert_array_equal(drawn, palette[picture()["classes"][550:950, 800:1200]])


@pytest.mark.slow
@qgis_needed
def test_qgis_places_the_array_itself_too(painted):
    """Without names and colours, which it takes from no Zarr."""
    found = by_qgis(uri(painted))
    assert (found["valid"], found["crs"], tuple(found["bounds"])) == (True, "EPSG:32633", BOUNDS)
    assert found["renderer"] == "singlebandgray"
