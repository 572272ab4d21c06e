"""Polygons are burnt window by window, the same as all at once."""

import json

import numpy as np
import pytest
from rasterio.features import rasterize
from rasterio.transform import Affine
from rasterio.warp import transform_geom

from pipeline.errors import UsageError
from pipeline.rasters.raster import open_raster
from pipeline.tiling import Window
from pipeline.truth.labels import IGNORE, open_labels

UTM = (2.0, 0.0, 400000.0, 0.0, -2.0, 5600000.0)
SHAPE = (120, 160)
WHOLE = Window(0, 0, *SHAPE)
NAMES = ("land", "road", "house")


@pytest.fixture
def image(make_raster):
    """240 x 320 m of noise, in UTM."""
    return open_raster(make_raster("image.tif", (3, *SHAPE), "EPSG:32632", UTM))


def box(west, south, east, north, **properties):
    """A rectangle in pixels, as a feature in UTM."""
    corners = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    ring = [[400000 + 2 * x, 5600000 - 2 * y] for x, y in corners]
    return {"type": "Feature", "properties": properties, "geometry": {"type": "Polygon", "coordinates": [ring]}}


LINE = box(1, 1, 9, 9, **{"class": "land"})
LINE["geometry"] = {"type": "Polygon", "coordinates": [LINE["geometry"]["coordinates"][0][:2]]}

HOUSES = [
    box(10, 10, 60.3, 50.2, **{"class": "land"}),
    box(40, 30, 90, 70, **{"class": "house"}),
    box(100, 90, 150, 118, **{"class": 1}),
]


@pytest.fixture
def geojson(tmp_path):
    """`geojson(features)`: a file in the coordinates that GeoJSON has."""

    def write(features, name="l.geojson", crs="EPSG:32632"):
        moved = [part | {"geometry": transform_geom(crs, "OGC:CRS84", part["geometry"])} for part in features]
        (tmp_path / name).write_text(json.dumps({"type": "FeatureCollection", "features": moved}))
        return tmp_path / name

    return write


def burnt(values, fill):
    """By rasterio, the whole raster at once."""
    shapes = [(part["geometry"], value) for part, value in zip(HOUSES, values, strict=True)]
    return rasterize(shapes, SHAPE, fill=fill, transform=Affine(*UTM), dtype="int32")


@pytest.mark.parametrize("window", [WHOLE, Window(17, 23, 50, 64), Window(0, 0, 8, 8)])
@pytest.mark.parametrize(("outside", "fill"), [(None, IGNORE), ("road", 1)])
def test_a_window_of_polygons_is_a_part_of_them_all(image, geojson, window, outside, fill):
    """By name or by index, later ones over earlier ones, from another CRS."""
    labels = open_labels(geojson(HOUSES), image, "semantic", NAMES, outside=outside)
    assert (labels.read(window) == burnt([0, 2, 1], fill)[window.slices]).all()


@pytest.mark.parametrize("seed", range(4))
def test_a_coastline_is_the_same_in_every_window(image, geojson, seed):
    """Only what there is of it in the window is burnt: a star of 4000 points with a hole, larger than the image."""
    rng = np.random.default_rng(seed)
    angle = np.linspace(0, 2 * np.pi, 4000)
    star, hole = (
        np.stack([400160 + size * np.cos(angle), 5599880 + size * np.sin(angle)], axis=1)
        for size in (rng.uniform(60, 300, 4000), rng.uniform(5, 50, 4000))
    )
    rings = [[*ring.tolist(), ring[0].tolist()] for ring in (star, hole)]
    shape = {"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": rings}}
    truth = open_labels(geojson([shape]), image, "instance", None)
    moved = json.loads((geojson([shape])).read_text())["features"][0]["geometry"]
    back = transform_geom("OGC:CRS84", image.crs, moved)
    whole = rasterize([back], SHAPE, transform=Affine(*UTM), dtype="int32")
    for row, col in rng.integers(0, [100, 130], (30, 2)):
        window = Window(int(row), int(col), 20, 30)
        assert (truth.read(window) == whole[window.slices]).all()


def test_each_polygon_is_an_instance(image, geojson):
    """Numbered as in the file; around them is background."""
    labels = open_labels(geojson(HOUSES), image, "instance", None)
    assert (labels.read(WHOLE) == burnt([1, 2, 3], 0)).all()
    assert labels.values().instances == 3


@pytest.mark.parametrize("kind", ["gpkg", "fgb", "shp"])
def test_other_vector_files_have_classes_too(image, tmp_path, kind):
    """With the extra."""
    pyogrio, shapely = pytest.importorskip("pyogrio"), pytest.importorskip("shapely")
    from shapely.geometry import shape

    wkb = np.array([shapely.to_wkb(shape(part["geometry"])) for part in HOUSES], object)
    fields = {"kind": np.array(["land", "house", "road"], object), "index": np.array([0, 2, 1])}
    options = {"geometry_type": "Polygon", "crs": "EPSG:32632", "layer_options": {"SPATIAL_INDEX": "NO"}}  # else sorted
    pyogrio.raw.write(tmp_path / f"l.{kind}", wkb, list(fields.values()), list(fields), **options)
    for field in fields:
        labels = open_labels(tmp_path / f"l.{kind}", image, "semantic", NAMES, class_field=field)
        assert (labels.read(WHOLE) == burnt([0, 2, 1], IGNORE)).all()


def test_without_names_polygons_give_theirs(image, geojson):
    """Sorted; `outside` is one of them."""
    named = geojson([box(1, 1, 9, 9, kind="b"), box(9, 9, 20, 20, kind="a")])
    labels = open_labels(named, image, "semantic", None, class_field="kind", outside="zero")
    assert labels.names() == ("a", "b", "zero")
    assert labels.values().counts.keys() == {0, 1, 2}
    indexed = open_labels(geojson([box(1, 1, 9, 9, kind=3)]), image, "semantic", None, class_field="kind")
    assert indexed.names() == ("class_0", "class_1", "class_2", "class_3")


def test_polygons_of_an_image_without_a_place_are_in_pixels(make_raster, tmp_path):
    """As the viewers of microscopes write them: x to the right, y down."""
    plain = open_raster(make_raster("plain.tif", (1, *SHAPE)), needed=1)
    ring = [[10, 20], [30, 20], [30, 50], [10, 50], [10, 20]]
    (tmp_path / "l.geojson").write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}))
    found = open_labels(tmp_path / "l.geojson", plain, "instance", None).read(WHOLE)
    assert (np.argwhere(found).min(axis=0) == [20, 10]).all()
    assert found.sum() == 20 * 30


@pytest.mark.parametrize(
    ("features", "options", "words"),
    [
        ([box(900, 10, 950, 50, **{"class": "land"})], {}, "no polygon touches .*image.tif"),
        ([], {}, "no polygon in it"),
        ([{"type": "Feature", "properties": {"class": "land"}, "geometry": None}], {}, "no polygon in it"),
        ([LINE], {}, "no polygon touches"),
        ([box(1, 1, 9, 9, **{"class": "boat"})], {}, r"class boat is not in the list \(0 land, 1 road, 2 house\)"),
        ([box(1, 1, 9, 9, **{"class": 3})], {}, "class 3 is not in the list"),
        ([box(1, 1, 9, 9, kind="land", id=4)], {}, "no field class, its fields are: id, kind; give --class-field"),
        ([box(1, 1, 9, 9, **{"class": None})], {}, "a polygon has no class"),
        (HOUSES, {"outside": "sea"}, r"--outside sea: is none of the classes \(land, road, house\)"),
    ],
)
def test_polygons_that_do_not_fit_are_refused(image, tmp_path, features, options, words):
    """Naming the file, the value and the remedy."""
    crs = {"type": "name", "properties": {"name": "EPSG:32632"}}
    (tmp_path / "l.geojson").write_text(json.dumps({"type": "FeatureCollection", "crs": crs, "features": features}))
    with pytest.raises(UsageError, match=words):
        open_labels(tmp_path / "l.geojson", image, "semantic", NAMES, **options)


def test_outside_is_for_classes(image, geojson):
    """Around instances is background."""
    with pytest.raises(UsageError, match="--outside land"):
        open_labels(geojson(HOUSES), image, "instance", None, outside="land")
