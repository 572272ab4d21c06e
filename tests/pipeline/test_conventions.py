"""What the attributes say, held against other libraries' own models of the conventions."""

import ome_zarr_models
import pytest
import xarray
import zarr
import zarr_cm
from ome_zarr_models.v05.image import Image
from small_mosaic import NODATA, TRANSFORM, UTM, make, paint, picture

from pipeline.rasters.raster_spec import Grid

ROTATED = (0.4, 0.3, 500000.25, 0.2, -0.4, 5400000.75)
PLACES = {
    "UTM": (TRANSFORM, UTM),
    "rotated": (ROTATED, UTM),
    "no CRS": (TRANSFORM, None),
    "nowhere": (None, None),
}


@pytest.fixture(params=[{"zarr_format": 2}, {"zarr_format": 3}, {"zarr_format": 3, "chunk": 16, "shard": 32}])
def options(request):
    """The three ways to store a mosaic."""
    return request.param


@pytest.mark.parametrize("place", PLACES)
def test_geozarr_conventions_are_kept(tmp_path, options, place):
    """Root, levels and arrays name the conventions that they follow and follow them, in zarr-cm's judgement."""
    transform, crs = PLACES[place]
    mosaic = make(tmp_path / "m.zarr", Grid((150, 210), transform), crs, levels=3, **options)
    own = {name for name, part in (("spatial", transform), ("proj", crs)) if part is not None}
    for path in ("", "0", "1", "2", "0/classes", "2/confidence", "1/instances"):
        attributes = dict(mosaic.root[path].attrs) if path else dict(mosaic.root.attrs)
        assert set(zarr_cm.detect_revisions(attributes)) == (own if path else own | {"multiscales"})
        assert zarr_cm.validate_all(attributes) == attributes


@pytest.mark.parametrize("place", PLACES)
def test_ome_zarr_sees_the_levels_of_every_array(tmp_path, place):
    """In format 3: an image of OME-Zarr 0.5 for each array, whose scales grow and whose first pixels lie together."""
    transform, crs = PLACES[place]
    options = {"zarr_format": 3, "levels": 3}
    mosaic = paint(make(tmp_path / "m.zarr", Grid((150, 210), transform), crs, **options), picture((150, 210)))
    image = ome_zarr_models.open_ome_zarr(zarr.open_group(mosaic.path, mode="r"))
    assert isinstance(image, Image)
    assert [scales.name for scales in image.attributes.ome.multiscales] == ["classes", "confidence", "instances"]
    for scales in image.attributes.ome.multiscales:
        assert [data.path for data in scales.datasets] == [f"{level}/{scales.name}" for level in range(3)]
        found = [[part.model_dump() for part in data.coordinateTransformations] for data in scales.datasets]
        assert [(scale["scale"], shift["translation"]) for scale, shift in found] == [
            ([1, 1], [0, 0]),
            ([2, 2], [0.5, 0.5]),
            ([4, 4], [1.5, 1.5]),
        ]


def test_format_2_carries_no_ome(tmp_path):
    """Its key there would be the one that GeoZarr uses."""
    assert "ome" not in make(tmp_path / "m.zarr", levels=2).root.attrs


@pytest.mark.parametrize("level", [0, 1])
def test_xarray_opens_every_level_as_a_tree(tmp_path, options, level):
    """The arrays of each level share its dimensions, as CF has it."""
    mosaic = paint(make(tmp_path / "m.zarr", Grid((150, 210), TRANSFORM), levels=2, **options), picture((150, 210)))
    tree = xarray.open_datatree(mosaic.path, engine="zarr", mask_and_scale=False, chunks=None)
    found = tree[str(level)].to_dataset()
    assert set(found.data_vars) >= set(NODATA)
    assert {found[name].dims for name in NODATA} == {("y", "x")}
