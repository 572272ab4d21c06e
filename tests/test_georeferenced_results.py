"""Where the result of `eomt-batch run` lies, and what of it is nodata: each reader says what it says of the input."""

import json
import os
import shutil
import subprocess
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import odc.geo.xr  # noqa: F401  (it gives arrays their `.odc`)
import pytest
import rasterio
import rioxarray  # noqa: F401  (it gives arrays their `.rio`)
import xarray
from click.testing import CliRunner
from rasterio.errors import NotGeoreferencedWarning
from rasterio.windows import Window

from eomt_core.palette import save_palette
from workflows.cli.main import cli

LANDSAT = "RGB.byte.tif"
"""A scene in a collar of nodata, which is a third of it."""

AERIAL = "scene 7"
WITHOUT_PLACE = ("no_geo.jpg", AERIAL)
PLACED = (LANDSAT, AERIAL, "world.rgb.tif", "goes.tif", "test_esri_wkt.tif", "cog_hirise_mars.tif", "float_nan.tif")
"""In UTM, degrees, from orbit, with an ESRI code, on Mars; the last is south-up, without a CRS, 3 by 2 pixels."""

COLOURS = [[0.1, 0.2, 0.2], [0.4, 0.4, 0.4], [0.6, 0.6, 0.55], [0.9, 0.9, 0.9]]
"""The first is that of most of the Landsat scene."""

AERIAL_PLACE = {"crs": "EPSG:32640", "transform": rasterio.Affine(1, 0, 330000.25, 0, -1, 2780000.75)}
"""Off the whole metre, so that a slip of half a pixel would show."""

NEAR: dict[str, Any] = {"abs": 1e-8, "rel": 0}
ARRAYS = ("classes", "confidence")

gdalinfo_needed = pytest.mark.skipif(shutil.which("gdalinfo") is None, reason="GDAL's tools are not installed")
# rioxarray multiplies transforms in a way that affine will drop some day.
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")


class Segmented(NamedTuple):
    """A raster and its mosaic."""

    raster: Path
    mosaic: Path

    def uri(self, name: str) -> str:
        """One array of the mosaic, for GDAL."""
        return f'ZARR:"{self.mosaic}":/0/{name}'


class Place(NamedTuple):
    """What a reader says of a raster."""

    crs: Any
    transform: tuple[float, ...]
    bounds: tuple[float, ...]
    nodata: float | None

    @classmethod
    def of(cls, name: str | Path) -> "Place":
        """What rasterio says."""
        with opened(name) as dataset:
            return cls(dataset.crs, tuple(dataset.transform)[:6], tuple(dataset.bounds), dataset.nodata)


def opened(name: str | Path) -> Any:
    """A dataset of rasterio's, without a word about those that lie nowhere."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        return rasterio.open(name)


def mask_of(raster: Path) -> np.ndarray:
    """Where a raster is valid, (H, W)."""
    with opened(raster) as dataset:
        return dataset.dataset_mask() > 0


@pytest.fixture(scope="module")
def segment(data_dir, scene7, tmp_path_factory):
    """`segment(name, options)`: run a copy of an odd raster, or of 1500 x 2000 pixels of scene 7 with a place."""
    model = save_palette(tmp_path_factory.mktemp("model") / "palette", COLOURS)

    def make(name: str, place: dict[str, Any], *options: object) -> Segmented:
        folder = tmp_path_factory.mktemp("segmented")
        raster = crop(scene7, folder / "aerial.tif", place) if name == AERIAL else folder / name
        if name != AERIAL:
            shutil.copy(data_dir / "odd" / name, raster)
        with opened(raster) as dataset:
            bands = ["--bands", "1,1,1"] if dataset.count < 3 else []
        command = ["run", raster, "-m", model, "-o", folder / "masks.zarr", *bands, *options]
        done = CliRunner().invoke(cli, list(map(str, command)))
        assert done.exit_code == 0, done.stderr
        return Segmented(raster, folder / "masks.zarr")

    return make


def crop(scene: Path, path: Path, place: dict[str, Any]) -> Path:
    """A part of a scene, with a place in its header."""
    with opened(scene) as dataset:
        pixels = dataset.read(window=Window(0, 0, 2000, 1500))
    profile = {"driver": "GTiff", "count": 3, "height": 1500, "width": 2000, "dtype": "uint8", "tiled": True}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", **profile, **place) as dataset:
            dataset.write(pixels)
    return path


@pytest.fixture(scope="module", params=PLACED)
def placed(request, segment):
    """A raster that lies somewhere, segmented."""
    return segment(request.param, AERIAL_PLACE)


@pytest.fixture(scope="module", params=WITHOUT_PLACE)
def nowhere(request, segment):
    """An image that lies nowhere, segmented."""
    return segment(request.param, {})


@pytest.fixture(scope="module")
def landsat(segment):
    """The Landsat scene, segmented."""
    return segment(LANDSAT, {})


def array(made: Segmented, name: str, mosaic: Path | None = None) -> xarray.DataArray:
    """One array in xarray, integers as they are."""
    return xarray.open_zarr(mosaic or made.mosaic, group="0", chunks=None, mask_and_scale=False)[name]


def gdalinfo(made: Segmented, name: str) -> dict[str, Any]:
    """What GDAL's own tool says, without the data folders that Python's packages bring."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("GDAL", "PROJ"))}
    done = subprocess.run(["gdalinfo", "-json", made.uri(name)], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", ARRAYS)
def test_rasterio_sees_the_result_where_the_raster_is(placed, name):
    """CRS, transform and bounds are the input's; nodata is 255."""
    place, want = Place.of(placed.uri(name)), Place.of(placed.raster)
    assert (place.crs, place.nodata) == (want.crs, 255)
    assert place.transform == pytest.approx(want.transform, **NEAR)
    assert place.bounds == pytest.approx(want.bounds, **NEAR)


@pytest.mark.parametrize("name", ARRAYS)
def test_rioxarray_sees_the_result_where_the_raster_is(placed, name):
    """Opened with no option but those that README.md gives."""
    seen, want = array(placed, name), Place.of(placed.raster)
    assert (seen.dtype, seen.rio.nodata, seen.rio.crs) == (np.uint8, 255, want.crs)
    assert tuple(seen.rio.transform())[:6] == pytest.approx(want.transform, **NEAR)
    assert seen.x[0] == pytest.approx(want.transform[2] + want.transform[0] / 2, **NEAR)


@pytest.mark.parametrize("name", ARRAYS)
def test_odc_geo_sees_the_result_where_the_raster_is(placed, name):
    """Its box is the raster's, in the raster's CRS."""
    box, want = array(placed, name).odc.geobox, Place.of(placed.raster)
    crs = box.crs and rasterio.CRS.from_user_input(box.crs.to_wkt())
    assert (crs, tuple(box.shape)) == (want.crs, mask_of(placed.raster).shape)
    assert tuple(box.transform)[:6] == pytest.approx(want.transform, **NEAR)
    assert sorted(box.boundingbox) == pytest.approx(sorted(want.bounds), **NEAR)


@gdalinfo_needed
@pytest.mark.parametrize("name", ARRAYS)
def test_gdalinfo_sees_the_result_where_the_raster_is(placed, name):
    """The system's GDAL, older than rasterio's, says the same."""
    info, want = gdalinfo(placed, name), Place.of(placed.raster)
    a, b, c, d, e, f = want.transform
    assert info["geoTransform"] == pytest.approx([c, a, b, f, d, e], **NEAR)
    assert ("coordinateSystem" in info) == (want.crs is not None)
    assert want.crs is None or rasterio.CRS.from_wkt(info["coordinateSystem"]["wkt"]) == want.crs
    assert info["bands"][0]["noDataValue"] == 255


@pytest.mark.parametrize("name", ARRAYS)
def test_nodata_is_where_the_raster_has_none(placed, name):
    """Pixel by pixel, in both arrays."""
    np.testing.assert_array_equal(array(placed, name).values == 255, ~mask_of(placed.raster))


def test_the_collar_is_masked_and_class_0_is_not(landsat):
    """To GDAL most of the scene would be gone if 0 were nodata, as it is in the raster."""
    with rasterio.open(landsat.uri("classes")) as dataset:
        classes, mask = dataset.read(1), dataset.read_masks(1)
    valid = mask_of(landsat.raster)
    assert 0.3 < (~valid).mean() < 0.35
    assert (classes[valid] == 0).mean() > 0.25
    np.testing.assert_array_equal(mask, np.where(valid, 255, 0))


def test_the_place_survives_another_format(landsat, tmp_path):
    """Stitched into Zarr 3, the result is where it was for xarray's family, with the same pixels."""
    other = tmp_path / "three.zarr"
    done = CliRunner().invoke(cli, ["stitch", str(landsat.mosaic), "-o", str(other), "--zarr-format", "3"])
    assert done.exit_code == 0, done.stderr
    seen, want = array(landsat, "classes", other), Place.of(landsat.raster)
    assert (seen.rio.crs, seen.rio.nodata, seen.odc.geobox.crs.to_epsg()) == (want.crs, 255, 32618)
    assert tuple(seen.rio.transform())[:6] == pytest.approx(want.transform, **NEAR)
    np.testing.assert_array_equal(seen.values, array(landsat, "classes").values)


@gdalinfo_needed
@pytest.mark.parametrize("name", ARRAYS)
def test_an_image_that_lies_nowhere_gives_a_result_that_lies_nowhere(nowhere, name):
    """No reader is told of a CRS, a transform or coordinates."""
    with pytest.warns(NotGeoreferencedWarning), rasterio.open(nowhere.uri(name)) as dataset:
        assert (dataset.crs, dataset.transform.is_identity, dataset.nodata) == (None, True, 255)
    seen = array(nowhere, name)
    assert (seen.rio.crs, seen.odc.geobox, list(seen.coords)) == (None, None, [])
    assert not {"geoTransform", "coordinateSystem", "gcps"} & gdalinfo(nowhere, name).keys()
    assert (seen.values != 255).all()
