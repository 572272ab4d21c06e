"""STAC items: valid, and pystac's own classes find in them what the mosaic says."""

import pystac
import pytest
import shapely
from pyproj import CRS
from pystac.extensions.classification import ClassificationExtension
from pystac.extensions.projection import ProjectionExtension
from pystac.extensions.raster import RasterExtension
from pystac.validation.stac_validator import JsonSchemaSTACValidator
from small_mosaic import BOUNDS, COLOURS, LAEA, NAMES, NODATA, SHAPE, TRANSFORM, UTM, make

from pipeline.errors import InputError
from pipeline.export.export import export_mosaic
from pipeline.rasters.raster_spec import Grid

PROVENANCE = {
    "input": "scene.tif",
    "model": {"name": "aerial-tiny", "sha256": "abc"},
    "versions": {"eomt-batch": "0.1.0", "torch": "2.6"},
}


def export(mosaic):
    """Export, and read it with pystac."""
    path = mosaic.path.parent / "items" / "item.json"
    path.parent.mkdir()
    export_mosaic(mosaic.path, "stac", path)
    return pystac.Item.from_file(str(path))


@pytest.fixture
def item(tmp_path):
    """The item of a small mosaic."""
    return export(make(tmp_path / "masks.zarr", provenance=PROVENANCE))


def test_it_is_valid(item):
    """To pystac, by the schema of STAC itself; those of extensions are on the net."""
    schema = JsonSchemaSTACValidator().validate_core(item.to_dict(), pystac.STACObjectType.ITEM, "1.1.0")
    assert schema == "https://schemas.stacspec.org/v1.1.0/item-spec/json-schema/item.json"


def test_it_says_where_the_mosaic_lies(item):
    """In its CRS, and in longitudes and latitudes."""
    found = ProjectionExtension.ext(item)
    assert (found.code, found.shape, found.transform) == ("EPSG:32633", list(SHAPE), list(TRANSFORM))
    assert found.bbox == list(BOUNDS)
    west, south, east, north = item.bbox
    assert 14.9 < west < east < 15.1
    assert 48.7 < south < north < 48.8
    assert shapely.geometry.shape(item.geometry).exterior.is_ccw


def test_a_crs_without_a_code_is_told_in_words(tmp_path):
    """As WKT."""
    crs = CRS(LAEA).to_wkt("WKT2_2019")
    found = ProjectionExtension.ext(export(make(tmp_path / "masks.zarr", crs=crs, provenance=PROVENANCE)))
    assert found.code is None
    assert CRS(found.wkt2) == CRS(LAEA)


def test_it_says_what_the_pixels_are(item):
    """Type and nodata of each array; classes with names and colours; how confidence is scaled."""
    bands = {name: RasterExtension.ext(asset).bands[0] for name, asset in item.assets.items()}
    assert {name: band.nodata for name, band in bands.items()} == NODATA
    assert {name: band.data_type for name, band in bands.items()} == {
        "classes": "uint8", "confidence": "uint8", "instances": "uint32",
    }  # fmt: skip
    assert bands["confidence"].scale == pytest.approx(1 / 254)
    classes = ClassificationExtension.ext(item.assets["classes"]).classes
    assert [(one.value, one.title) for one in classes] == list(enumerate(NAMES))
    assert [f"#{one.color_hint.lower()}" for one in classes] == list(COLOURS)


def test_its_links_lead_to_the_arrays(item, tmp_path):
    """They are relative to the item, so that all can be moved together."""
    for asset in item.assets.values():
        assert not asset.href.startswith("/")
        assert (tmp_path / "items" / asset.href / ".zarray").exists()
        assert asset.media_type == "application/vnd.zarr; version=2"


def test_it_says_what_it_was_made_of(item):
    """The raster, the model, the software."""
    (link,) = item.get_links("derived_from")
    assert link.href == "scene.tif"
    assert item.properties["processing:software"] == PROVENANCE["versions"]
    assert "aerial-tiny" in item.properties["processing:lineage"]


@pytest.mark.parametrize(
    ("grid", "crs"),
    [
        (Grid(SHAPE), None),
        (Grid(SHAPE, TRANSFORM), None),
        (Grid(SHAPE), UTM),
        (Grid(SHAPE, (0.001, 0, 10, 0, -0.001, 20)), CRS("IAU_2015:49900").to_wkt("WKT2_2019")),
    ],
    ids=["nowhere", "no CRS", "no transform", "Mars"],
)
def test_what_is_not_on_earth_is_refused(tmp_path, grid, crs):
    """An item must have a place."""
    with pytest.raises(InputError, match="and a STAC item must"):
        export(make(tmp_path / "masks.zarr", grid, crs))
    assert not list((tmp_path / "items").iterdir())
