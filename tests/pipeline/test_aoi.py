"""Only inside the area are pixels inferred; outside they are nodata."""

import json

import numpy as np
import pytest
import torch
from rasterio.features import geometry_mask
from rasterio.transform import Affine
from rasterio.warp import transform_geom

from eomt_core import save_model
from eomt_core.card import ModelCard
from eomt_core.palette import save_palette
from eomt_core.untrained import untrained_eomt
from pipeline import RunConfig, open_mosaic, segment_raster
from pipeline.aoi import choose_aoi, parse_bbox
from pipeline.errors import InputError
from pipeline.rasters.raster import open_raster
from pipeline.tiling import Window

UTM = (2.0, 0.0, 400000.0, 0.0, -2.0, 5600000.0)
SHAPE = (300, 400)
RING = [[400101.37, 5599901.71], [400601.13, 5599801.49], [400301.91, 5599501.23], [400101.37, 5599901.71]]
TRIANGLE = {"type": "Polygon", "coordinates": [RING]}


@pytest.fixture
def raster(make_raster):
    """600 x 800 m of noise."""
    return make_raster("r.tif", (3, *SHAPE), "EPSG:32632", UTM)


def in_wgs84(shape):
    """As GeoJSON wants it."""
    return transform_geom("EPSG:32632", "OGC:CRS84", shape)


def inside(shape):
    """Pixels with their centre in the shape, by rasterio."""
    return geometry_mask([shape], SHAPE, Affine(*UTM), invert=True)


@pytest.mark.parametrize("window", [Window(0, 0, *SHAPE), Window(40, 60, 100, 120), Window(200, 0, 100, 30)])
def test_the_mask_of_a_window_is_part_of_the_whole_mask(raster, tmp_path, window):
    """A polygon is burnt the same whichever window asks; coordinates come from another CRS."""
    (tmp_path / "a.geojson").write_text(json.dumps({"type": "Feature", "geometry": in_wgs84(TRIANGLE)}))
    aoi = choose_aoi(str(tmp_path / "a.geojson"), None, open_raster(raster))
    expected = inside(TRIANGLE)[window.slices]
    assert (aoi.mask(window) == expected).all()


def test_a_bbox_is_in_the_rasters_own_coordinates(raster):
    """West, south, east, north."""
    aoi = choose_aoi(None, "400100,5599600,400300,5599900", open_raster(raster))
    expected = np.zeros(SHAPE, bool)
    expected[50:200, 50:150] = True
    assert (aoi.mask(Window(0, 0, *SHAPE)) == expected).all()


@pytest.mark.parametrize("kind", ["gpkg", "fgb"])
def test_other_vector_files_are_read_with_the_extra(raster, tmp_path, kind):
    """GeoPackage and FlatGeobuf say their CRS themselves."""
    pyogrio, shapely = pytest.importorskip("pyogrio"), pytest.importorskip("shapely")
    from shapely.geometry import shape

    path = tmp_path / f"a.{kind}"
    wkb = np.array([shapely.to_wkb(shape(TRIANGLE))], object)
    pyogrio.raw.write(path, wkb, field_data=[], fields=[], geometry_type="Polygon", crs="EPSG:32632")
    aoi = choose_aoi(str(path), None, open_raster(raster))
    assert (aoi.mask(Window(0, 0, *SHAPE)) == inside(TRIANGLE)).all()


def test_a_run_infers_only_tiles_that_the_area_touches(raster, tmp_path):
    """And leaves nodata outside."""
    model = str(save_palette(tmp_path / "palette", [[0.2] * 3, [0.8] * 3]))
    config = RunConfig(model=model, tile_size=(64, 64), overlap="0", bbox="400100,5599600,400300,5599900")
    report = segment_raster(raster, tmp_path / "out.zarr", config)
    valid = open_mosaic(tmp_path / "out.zarr").classes[:] != 255
    assert report.tiles == 12  # rows 50..200 and columns 50..150 touch 4 x 3 tiles of 64
    assert valid[50:200, 50:150].all()
    assert valid.sum() == 150 * 100


def classes_with(model, image, output, **options):
    """The mosaic's classes of a run by a model that sees the whole tile."""
    segment_raster(image, output, RunConfig(model=str(model), overlap="32", **options))
    return open_mosaic(output).classes[:]


@pytest.fixture
def seeing(tmp_path):
    """A small EoMT without training, whose answer depends on all of the tile."""
    card = ModelCard("m", tuple("abcd"), tasks=("semantic",))
    save_model(untrained_eomt(torch.rand(2, 3, 96, 96), 4), tmp_path / "m", card)
    return tmp_path / "m"


def test_inside_the_area_the_answer_is_that_of_the_whole_raster(raster, tmp_path, seeing):
    """The model sees what lies around it; only at its rim may a cell lack a tile that the area does not touch."""
    whole = classes_with(seeing, raster, tmp_path / "whole.zarr")
    part = classes_with(seeing, raster, tmp_path / "part.zarr", bbox="400100,5599600,400300,5599900")
    assert (part != 255).sum() == 150 * 100
    assert (part == whole)[50:200, 50:150].mean() > 0.999


def test_views_are_averaged_in_a_run_too(raster, tmp_path, seeing):
    """A model that sees the tile sees its mirror image otherwise."""
    plain = classes_with(seeing, raster, tmp_path / "plain.zarr")
    flips = classes_with(seeing, raster, tmp_path / "flips.zarr", tta="flips")
    assert 0.01 < (plain != flips).mean() < 0.9


@pytest.mark.parametrize("text", ["1,2,3", "a,b,c,d", "3,0,1,2", "0,3,1,2"])
def test_a_bbox_that_is_none_is_refused(text):
    """Four numbers, west before east, south before north."""
    with pytest.raises(InputError, match="--bbox"):
        parse_bbox(text)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("no json", "no GeoJSON"),
        ('{"type": "Point", "coordinates": [0, 0]}', "no polygon"),
        ('{"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 0]]]}', "does not touch"),
    ],
)
def test_an_area_that_will_not_do_is_refused(raster, tmp_path, content, words):
    """With the reason."""
    (tmp_path / "a.geojson").write_text(content)
    with pytest.raises(InputError, match=words):
        choose_aoi(str(tmp_path / "a.geojson"), None, open_raster(raster))


def test_an_area_needs_a_raster_that_says_where_it_lies(make_raster):
    """Pixels have no coordinates."""
    spec = open_raster(make_raster("plain.tif", (3, 50, 50)))
    with pytest.raises(InputError, match="does not say where"):
        choose_aoi(None, "0,0,1,1", spec)


def test_an_area_that_names_another_host_is_refused(make_raster, tmp_path):
    """GDAL goes by content: a layer of other files may be called .gpkg."""
    path = tmp_path / "area.gpkg"
    source = "<SrcDataSource>/vsicurl/http://127.0.0.1:9/a.json</SrcDataSource>"
    path.write_text(f'<OGRVRTDataSource><OGRVRTLayer name="a">{source}</OGRVRTLayer></OGRVRTDataSource>')
    raster = open_raster(make_raster("a.tif", (3, 20, 20), "EPSG:32633", (1, 0, 3e5, 0, -1, 2e6)))
    with pytest.raises(InputError, match="is no GeoJSON, GeoPackage, FlatGeobuf or Shapefile"):
        choose_aoi(str(path), None, raster)
