"""Polygons in files: what another program reads of them is what the mosaic shows."""

import sys
import time

import geopandas
import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from pyproj import CRS, Geod
from rasterio.features import rasterize, shapes
from shapely.geometry import shape
from small_mosaic import NAMES, SHAPE, TRANSFORM, is_companion, make, paint, picture
from small_objects import SCORES, instances, object_mosaic, write_table

from pipeline.errors import InputError, OutputError, RunError, UsageError
from pipeline.export.export import export_mosaic
from pipeline.rasters.raster_spec import Grid

FORMATS = ("gpkg", "fgb", "parquet")
PIXEL = 0.25
"""Square metres of one pixel of the small mosaics."""

for_all_formats = pytest.mark.parametrize("to", FORMATS)


def read(path):
    """A file's features in order of their ids, as GeoPandas sees them."""
    read_any = geopandas.read_parquet if path.suffix == ".parquet" else geopandas.read_file
    return read_any(path).sort_values("id").reset_index(drop=True)


def export(mosaic, folder, to="gpkg", **options):
    """Export, and read it."""
    path = folder / f"out.{to}"
    count = export_mosaic(mosaic.path, to, path, **options)
    found = read(path)
    assert len(found) == count
    return found


def burnt(found, column, fill, transform=TRANSFORM, shape=SHAPE):
    """The pixels whose centres lie within the features."""
    pairs = zip(found.geometry, found[column], strict=True)
    return rasterize(pairs, shape, fill, transform=rasterio.Affine(*transform), dtype="int32")


@pytest.fixture(scope="module")
def patches(tmp_path_factory):
    """Patches of classes, unlabelled and nodata, over 1500 x 2000 pixels: two blocks of 1024 each way."""
    pixels = picture()
    return paint(make(tmp_path_factory.mktemp("patches") / "masks.zarr", instances=False), {
        name: pixels[name] for name in ("classes", "confidence")
    })  # fmt: skip


@pytest.fixture
def objects(tmp_path):
    """Four objects."""
    return object_mosaic(tmp_path / "masks.zarr")


@for_all_formats
def test_polygons_of_classes_are_the_pixels(patches, tmp_path, to):
    """Burnt onto the grid again they give the classes, and what is no class is in none."""
    found = export(patches, tmp_path, to)
    classes = patches.classes[:].astype(int)
    np.testing.assert_array_equal(burnt(found, "class", 999), np.where(classes < len(NAMES), classes, 999))
    assert found.crs.to_epsg() == 32633
    assert (found["name"] == np.array(NAMES)[found["class"]]).all()


@for_all_formats
def test_areas_of_classes_are_those_of_their_pixels(patches, tmp_path, to):
    """In square metres, class by class; and of the polygons themselves."""
    found = export(patches, tmp_path, to)
    pixels = np.bincount(patches.classes[:].ravel())[: len(NAMES)]
    assert found.groupby("class")["area"].sum().tolist() == (pixels * PIXEL).tolist()
    assert found.geometry.area.tolist() == pytest.approx(found["area"].tolist(), rel=1e-9)
    assert found.geometry.is_valid.all()


def test_regions_are_numbered_and_scored(patches, tmp_path):
    """Ids count from 1; the confidence of this picture is 255 less the class."""
    found = export(patches, tmp_path)
    assert found["id"].tolist() == list(range(1, len(found) + 1))
    assert found["score"].tolist() == pytest.approx(((255 - found["class"]) / 254).tolist())


@for_all_formats
def test_objects_are_the_rows_of_the_table(objects, tmp_path, to):
    """One feature each, with its id, class, name, score and area, also where it is in two parts or has a hole."""
    found = export(objects, tmp_path, to)
    ids, areas = np.unique(instances()[instances() > 0], return_counts=True)
    assert found["id"].tolist() == ids.tolist()
    assert found["area"].tolist() == (areas * PIXEL).tolist()
    assert found["score"].tolist() == pytest.approx([SCORES[id] for id in ids.tolist()])
    assert found["name"].tolist() == ["square", "round", "square", "square"]
    assert (found.geom_type == "MultiPolygon").all()
    assert found.geometry.is_valid.all()
    np.testing.assert_array_equal(burnt(found, "id", 0, shape=(90, 120)), instances())


def test_objects_can_be_told_by_class_instead(objects, tmp_path):
    """`--array classes` gives connected regions, in which neighbouring objects of a class are one."""
    found = export(objects, tmp_path, array="classes")
    assert (found.geom_type == "Polygon").all()
    assert len(found) == 4


def test_the_fid_is_a_column_of_its_own(objects, tmp_path):
    """A GeoPackage numbers its rows itself; our id may have gaps."""
    export(objects, tmp_path)
    assert pyogrio.read_info(tmp_path / "out.gpkg")["fid_column"] == "fid"
    assert "id" in pyogrio.read_info(tmp_path / "out.gpkg")["fields"]


@for_all_formats
def test_a_mosaic_that_lies_nowhere_is_told_in_pixels(tmp_path, to):
    """Rows and columns, areas as numbers of pixels, no CRS."""
    mosaic = object_mosaic(tmp_path / "masks.zarr", grid=Grid((90, 120), None), crs=None)
    found = export(mosaic, tmp_path, to)
    assert found.crs is None
    assert found.geometry[0].bounds == (0, 0, 12, 10)
    assert found["area"][0] == 120


def test_areas_of_degrees_are_those_on_the_ellipsoid(tmp_path):
    """The pixels of 0.001 degrees at 60 degrees north are half as wide; pyproj's geodesic areas agree to 1e-6."""
    crs = CRS.from_epsg(4326).to_wkt("WKT2_2019")
    mosaic = object_mosaic(tmp_path / "masks.zarr", grid=Grid((90, 120), (0.001, 0, 9.0, 0, -0.001, 60.0)), crs=crs)
    found = export(mosaic, tmp_path)
    geod = Geod(ellps="WGS84")
    dense = [shapely.segmentize(shape, 0.001) for shape in found.geometry]
    want = [abs(geod.geometry_area_perimeter(shapely.orient_polygons(shape))[0]) for shape in dense]
    assert found["area"].tolist() == pytest.approx(want, rel=1e-6)


def test_areas_of_feet_are_in_square_metres(tmp_path):
    """A US survey foot is 1200 / 3937 metres."""
    crs = CRS.from_epsg(2263).to_wkt("WKT2_2019")
    mosaic = object_mosaic(tmp_path / "masks.zarr", grid=Grid((90, 120), (2, 0, 9e5, 0, -2, 2e5)), crs=crs)
    assert export(mosaic, tmp_path)["area"][0] == pytest.approx(120 * 4 * (1200 / 3937) ** 2)


def test_an_askew_raster_has_askew_polygons(tmp_path):
    """Turned by 30 degrees, the areas are those of its pixels and the first corner is the raster's."""
    cos, sin = np.cos(np.pi / 6), np.sin(np.pi / 6)
    turned = (cos, sin, 5e5, sin, -cos, 5e6)
    found = export(object_mosaic(tmp_path / "masks.zarr", grid=Grid((90, 120), turned)), tmp_path)
    assert found.geometry.area.tolist() == pytest.approx(found["area"].tolist())
    assert shapely.distance(found.geometry[0], shapely.Point(5e5, 5e6)) == pytest.approx(0, abs=1e-6)


def test_simplified_outlines_stay_near(tmp_path):
    """A stair of half a metre goes with a tolerance of one; nothing moves further, areas stay those of the pixels."""
    steps = np.tri(60, dtype=np.uint32)
    mosaic = object_mosaic(tmp_path / "stair.zarr", steps)
    plain, simple = (export(mosaic, tmp_path, to, simplify=metres) for to, metres in (("gpkg", 0), ("fgb", 1)))
    assert shapely.get_num_coordinates(simple.geometry[0]) < 10 < shapely.get_num_coordinates(plain.geometry[0])
    assert shapely.hausdorff_distance(simple.geometry[0], plain.geometry[0]) <= 1
    assert simple["area"].tolist() == plain["area"].tolist()


def test_a_metre_of_simplifying_is_a_metre_in_degrees_too(tmp_path):
    """Nothing goes further than a metre of latitude."""
    crs, metre = CRS.from_epsg(4326).to_wkt("WKT2_2019"), np.degrees(1 / 6378137)
    place = Grid((60, 60), (metre / 2, 0, 9, 0, -metre / 2, 1))
    mosaic = object_mosaic(tmp_path / "stair.zarr", np.tri(60, dtype=np.uint32), place, crs)
    plain, simple = (export(mosaic, tmp_path, to, simplify=metres) for to, metres in (("gpkg", 0), ("fgb", 1)))
    assert shapely.get_num_coordinates(simple.geometry[0]) < 10 < shapely.get_num_coordinates(plain.geometry[0])
    assert shapely.hausdorff_distance(simple.geometry[0], plain.geometry[0]) <= metre


@pytest.mark.parametrize("change", [lambda ids: ids[:40], lambda ids: np.pad(ids, ((0, 9), (0, 0)), mode="edge") + 1])
def test_a_table_of_other_objects_is_noticed(objects, tmp_path, change):
    """Fewer pixels than the table says, or ids that it has not: one line, and no file."""
    write_table(tmp_path / "masks.run", change(instances()))
    with pytest.raises(RunError, match=r"objects.parquet: is not of the instances"):
        export_mosaic(objects.path, "gpkg", tmp_path / "out.gpkg")
    assert {path.name for path in tmp_path.iterdir() if not is_companion(path)} == {"masks.zarr", "masks.run"}


def test_objects_without_a_table_are_refused(objects, tmp_path):
    """Their classes and scores are there alone."""
    (tmp_path / "masks.run" / "objects.parquet").unlink()
    with pytest.raises(InputError, match="put it beside"):
        export_mosaic(objects.path, "gpkg", tmp_path / "out.gpkg")


@for_all_formats
def test_a_stop_leaves_nothing(objects, tmp_path, to):
    """A signal comes through the writer as what it was; a file that was there is as it was."""
    before = tmp_path / f"out.{to}"
    before.write_text("before")

    def stop(progress):
        if progress.done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_mosaic(objects.path, to, before, overwrite=True, progress=stop)
    assert {path.name for path in tmp_path.iterdir() if not is_companion(path)} == {
        "masks.zarr",
        "masks.run",
        before.name,
    }
    assert before.read_text() == "before"


@pytest.mark.parametrize("to", [*FORMATS, "stac"])
def test_a_missing_extra_is_named(objects, tmp_path, monkeypatch, to):
    """With the line that installs it."""
    monkeypatch.setitem(sys.modules, "shapely", None)
    with pytest.raises(UsageError, match=r"shapely; pip install 'eomt-batch\[(vectors|stac)\]'"):
        export_mosaic(objects.path, to, tmp_path / f"out.{'json' if to == 'stac' else to}")


def test_a_folder_that_is_not_there_is_refused(objects, tmp_path):
    """Before anything is read."""
    with pytest.raises(OutputError, match="No such file"):
        export_mosaic(objects.path, "gpkg", tmp_path / "none" / "out.gpkg")


@pytest.fixture(scope="module")
def many_polygons(tmp_path_factory):
    """62 500 of about 24 corners over 20 Mpx, and the time in which GDAL traces and shapely makes them."""
    stamp = np.zeros((18, 18), bool)
    for inset in range(6):
        stamp[2 + inset : 17 - inset, 7 - inset : 12 + inset - (inset > 4)] = True
    ids = np.arange(1, 250 * 250 + 1, dtype=np.uint32).reshape(250, 250).repeat(18, axis=0).repeat(18, axis=1)
    ids *= np.tile(stamp, (250, 250))
    mosaic = object_mosaic(tmp_path_factory.mktemp("many") / "masks.zarr", ids, chunk=1024)

    start = time.process_time()
    assert len([shapely.to_wkb(shape(found)) for found, _ in shapes(ids.astype(np.int32), mask=ids > 0)]) == 62_500
    return mosaic, time.process_time() - start


@pytest.mark.slow
@for_all_formats
def test_sixty_thousand_polygons_take_no_longer_than_three_times_their_tracing(many_polygons, tmp_path, to):
    """GDAL traces all of it at once, and shapely makes one after the other."""
    mosaic, tracing = many_polygons
    start = time.process_time()
    assert export_mosaic(mosaic.path, to, tmp_path / f"out.{to}") == 62_500
    assert time.process_time() - start <= 3 * tracing
