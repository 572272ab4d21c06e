"""What the attributes say, before any file: against rasterio's own arithmetic where there is some."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyproj import CRS
from rasterio.transform import Affine, array_bounds, xy

from pipeline.mosaic.georeference import (
    Georeference,
    array_attributes,
    axis_attributes,
    group_attributes,
    root_attributes,
    spatial_ref_attributes,
)

UTM = CRS.from_epsg(32633).to_wkt("WKT2_2019")
NORTH_UP = (0.5, 0.0, 500000.25, 0.0, -0.5, 5400000.75)
ROTATED = (0.4, 0.3, 500000.25, 0.2, -0.4, 5400000.75)
LAEA_WITHOUT_ZEROS = """PROJCRS["unnamed",
    BASEGEOGCRS["WGS 84",DATUM["World Geodetic System 1984",ELLIPSOID["WGS 84",6378137,298.257223563]]],
    CONVERSION["unnamed",METHOD["Lambert Azimuthal Equal Area"],
        PARAMETER["Latitude of natural origin",47.3,ANGLEUNIT["degree",0.0174532925199433]],
        PARAMETER["Longitude of natural origin",9.1,ANGLEUNIT["degree",0.0174532925199433]]],
    CS[Cartesian,2],AXIS["easting",east],AXIS["northing",north],LENGTHUNIT["metre",1]]"""
ENGINEERING = 'ENGCRS["site",EDATUM["corner"],CS[Cartesian,2],AXIS["x",east],AXIS["y",north],LENGTHUNIT["metre",1]]'

sizes = st.integers(1, 40)
origins = st.floats(-1e7, 1e7)
terms = st.floats(-10, 10).filter(lambda value: abs(value) > 1e-3)


@given(sizes, sizes, terms, terms, origins, origins)
def test_centres_are_where_rasterio_puts_them(rows, cols, a, e, c, f):
    """The coordinates are of pixels' centres, not of their corners."""
    place = Georeference((rows, cols), (a, 0.0, c, 0.0, e, f), UTM)
    y, x = place.centres
    want_x, want_y = xy(Affine(a, 0, c, 0, e, f), range(max(rows, cols)), range(max(rows, cols)))
    np.testing.assert_allclose(y, want_y[:rows], rtol=1e-14, atol=1e-8)
    np.testing.assert_allclose(x, want_x[:cols], rtol=1e-14, atol=1e-8)


@given(sizes, sizes, terms, terms, terms, terms, origins, origins)
def test_bounds_are_those_of_the_four_corners(rows, cols, a, b, d, e, c, f):
    """The box holds rows and columns that run askew, too."""
    west, south, east, north = Georeference((rows, cols), (a, b, c, d, e, f), None).bounds
    matrix = np.reshape(Affine(a, b, c, d, e, f), (3, 3))
    x, y, _ = matrix @ np.transpose([(col, row, 1) for row in (0, rows) for col in (0, cols)])
    assert (west, south, east, north) == pytest.approx((x.min(), y.min(), x.max(), y.max()))


def test_bounds_are_rasterios_where_north_is_up():
    """Without rotation they are what rasterio reports for the raster."""
    want = array_bounds(1500, 2000, Affine(*NORTH_UP))
    assert Georeference((1500, 2000), NORTH_UP, UTM).bounds == want


@given(sizes, sizes)
def test_half_the_resolution_keeps_the_origin_and_covers_all(rows, cols):
    """A coarser level begins at the same corner with pixels twice as big, and no row or column is lost."""
    whole = Georeference((rows, cols), ROTATED, UTM)
    half = whole.halved()
    assert half.shape == (len(range(0, rows, 2)), len(range(0, cols, 2)))
    assert half.transform == (0.8, 0.6, ROTATED[2], 0.4, -0.8, ROTATED[5])
    assert half.crs == whole.crs


def test_an_image_without_georeference_says_nothing():
    """An identity transform would pass for a real one."""
    nowhere = Georeference((15, 20), None, None)
    assert not nowhere
    assert array_attributes(nowhere) == group_attributes(nowhere) == spatial_ref_attributes(nowhere) == {}
    assert nowhere.centres is None
    assert nowhere.halved() == Georeference((8, 10), None, None)


def test_an_array_says_it_in_every_way():
    """GDAL's, CF's and GeoZarr's attributes are all on the array itself."""
    attributes = array_attributes(Georeference((1500, 2000), NORTH_UP, UTM))
    assert attributes["_CRS"]["url"] == "http://www.opengis.net/def/crs/EPSG/0/32633"
    assert CRS.from_wkt(attributes["_CRS"]["wkt"]).to_epsg() == 32633
    assert (attributes["grid_mapping"], attributes["coordinates"]) == ("spatial_ref", "spatial_ref")
    assert (attributes["proj:code"], attributes["spatial:transform"]) == ("EPSG:32633", list(NORTH_UP))
    assert [entry["name"] for entry in attributes["zarr_conventions"]] == ["proj:", "spatial:"]


def test_geotransform_is_in_gdals_order():
    """GDAL counts from the origin: c a b f d e."""
    text = spatial_ref_attributes(Georeference((15, 20), ROTATED, UTM))["GeoTransform"]
    assert Affine.from_gdal(*map(float, text.split()))[:6] == ROTATED


def test_a_transform_needs_no_crs():
    """Then nothing speaks of a projection, and the axes have no units."""
    place = Georeference((15, 20), NORTH_UP, None)
    assert not {"_CRS", "proj:wkt2", "proj:code"} & array_attributes(place).keys()
    assert spatial_ref_attributes(place) == {"GeoTransform": "500000.25 0.5 0.0 5400000.75 0.0 -0.5"}
    assert axis_attributes(place)[1] == {"axis": "X", "long_name": "x"}


def test_a_crs_needs_no_transform():
    """Then nothing speaks of a place."""
    attributes = array_attributes(Georeference((15, 20), None, UTM))
    assert attributes["proj:code"] == "EPSG:32633"
    assert not [key for key in attributes if key.startswith("spatial:")]


def test_askew_rows_have_no_coordinates():
    """One x for a column cannot be said where the column runs askew; the transform still can."""
    place = Georeference((15, 20), ROTATED, UTM)
    assert place.rotated
    assert place.centres is None
    assert array_attributes(place)["spatial:transform"] == list(ROTATED)


@pytest.mark.parametrize(
    ("crs", "code"),
    [("ESRI:54009", "ESRI:54009"), (LAEA_WITHOUT_ZEROS, None), ("+proj=utm +zone=33 +datum=WGS84", None)],
    ids=["esri", "unnamed", "proj-string"],
)
def test_a_crs_without_epsg_code_goes_by_wkt(crs, code):
    """A code is written only where there is no doubt, and the url for EPSG alone."""
    crs = CRS.from_user_input(crs)
    attributes = array_attributes(Georeference((15, 20), NORTH_UP, crs.to_wkt("WKT2_2019")))
    assert attributes.get("proj:code") == code
    assert list(attributes["_CRS"]) == ["wkt"]
    assert CRS.from_wkt(attributes["_CRS"]["wkt"]).equals(crs)


def test_parameters_left_out_of_the_wkt_do_no_harm():
    """WKT may omit a false easting of zero; CF's keys are then left to the reader."""
    attributes = spatial_ref_attributes(Georeference((15, 20), NORTH_UP, LAEA_WITHOUT_ZEROS))
    assert CRS.from_wkt(attributes["crs_wkt"]) == CRS.from_wkt(LAEA_WITHOUT_ZEROS)


@pytest.mark.parametrize(
    ("crs", "y", "x"),
    [
        ("EPSG:32633", "projection_y_coordinate", "projection_x_coordinate"),
        ("EPSG:4326", "latitude", "longitude"),
        ("EPSG:31468", "projection_y_coordinate", "projection_x_coordinate"),
        (ENGINEERING, None, None),
    ],
    ids=["east-north", "lat-lon", "north-east", "engineering"],
)
def test_axes_are_named_by_direction(crs, y, x):
    """Columns run along x whatever order the CRS lists its axes in."""
    named = axis_attributes(Georeference((15, 20), NORTH_UP, CRS.from_user_input(crs).to_wkt("WKT2_2019")))
    assert [(entry["axis"], entry.get("standard_name")) for entry in named] == [("Y", y), ("X", x)]


def test_levels_are_listed_each_relative_to_the_one_before():
    """Scale doubles from level to level; the absolute place stands beside it."""
    first = Georeference((1501, 2000), NORTH_UP, UTM)
    layout = root_attributes([first, first.halved()], ["classes"], 2)["multiscales"]["layout"]
    assert [(entry["asset"], entry.get("derived_from")) for entry in layout] == [("0", None), ("1", "0")]
    assert [entry["transform"]["scale"] for entry in layout] == [[1.0, 1.0], [2.0, 2.0]]
    assert [entry["spatial:shape"] for entry in layout] == [[1501, 2000], [751, 1000]]


def test_ome_is_told_only_in_format_3():
    """In format 2 OME's key would be the one that GeoZarr uses."""
    places = [Georeference((8, 8), None, None), Georeference((4, 4), None, None)]
    assert "ome" not in root_attributes(places, ["classes"], 2)
    (image,) = root_attributes(places, ["classes"], 3)["ome"]["multiscales"]
    assert [entry["path"] for entry in image["datasets"]] == ["0/classes", "1/classes"]
    scale, shift = image["datasets"][1]["coordinateTransformations"]
    assert (scale["scale"], shift["translation"]) == ([2.0, 2.0], [0.5, 0.5])


@pytest.mark.parametrize(
    ("crs", "transform", "metres"),
    [
        ("EPSG:32640", (2, 0, 330000, 0, -2, 2780000), 2.0),
        (
            "EPSG:4326",
            (1e-5, 0, 9, 0, -1e-5, 60),
            1.113 / 2,
        ),  # a degree is half as wide at 60 degrees as at the equator
        ("EPSG:3857", (1, 0, 1e6, 0, -1, 8399738), 0.5),  # Web Mercator's metres too
        ("EPSG:2263", (1, 0, 1e6, 0, -1, 2e5), 0.3048),  # feet
    ],
)
def test_pixels_are_measured_on_the_ground(crs, transform, metres):
    """Whatever the CRS counts in."""
    place = Georeference((10, 10), transform, CRS.from_user_input(crs).to_wkt("WKT2_2019"))
    assert place.pixel_metres == pytest.approx(metres, rel=0.01)
    assert place.crs_name == crs


def test_pixels_without_a_place_have_no_length():
    """Nor have those of a local CRS."""
    local = CRS.from_user_input(ENGINEERING).to_wkt("WKT2_2019")
    assert Georeference((10, 10), None, None).pixel_metres is None
    assert Georeference((10, 10), NORTH_UP, local).pixel_metres is None
