"""What is known of a raster before it is read, and what is read."""

import json
import pickle
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning

from pipeline.errors import InputError, RunError
from pipeline.rasters.raster import CACHE_BYTES, Grid, Pixels, RasterSpec, Reader, open_raster
from pipeline.tiling import Window

UTM = (0.5, 0.0, 300000.0, 0.0, -0.5, 5000000.0)


def read(spec: RasterSpec, window: Window | None = None) -> Pixels:
    """The pixels and their validity, of the whole raster by default."""
    with Reader(spec) as reader:
        return reader.read(window or spec.grid.window)


def test_a_spec_says_what_the_file_says(make_raster):
    """Shape, type, blocks, transform and CRS come from the header."""
    path = make_raster(
        "a.tif", (3, 300, 400), "EPSG:32633", UTM, dtype="uint16", tiled=True, blockxsize=64, blockysize=32
    )
    spec = open_raster(path)
    assert spec.grid == spec.file == Grid((300, 400), UTM)
    assert (spec.dtype, spec.count, spec.bands, spec.block_shape) == ("uint16", 3, (1, 2, 3), (32, 64))
    assert spec.crs is not None
    assert rasterio.CRS.from_wkt(spec.crs) == rasterio.CRS.from_epsg(32633)
    assert spec.crs.startswith("PROJCRS")


def test_a_file_without_a_georeference_has_no_transform(make_raster):
    """An identity that stands for nothing would be taken for metres."""
    spec = open_raster(make_raster("a.tif", (3, 20, 30)))
    assert (spec.grid.transform, spec.crs) == (None, None)


def test_opening_warns_of_nothing(make_raster):
    """A photo without a georeference is no reason for a warning."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always", NotGeoreferencedWarning)
        path = make_raster("a.tif", (3, 20, 30))
        read(open_raster(path))
    assert seen == []


@pytest.mark.parametrize(("bend", "kept"), [(0.0, True), (40.0, False)])
def test_control_points_are_kept_where_they_fit_an_affine_transform(make_raster, bend, kept):
    """Points on a plane become the transform; points that miss it by pixels become a note."""
    corners = [(0, 0, 0.0), (0, 30, 0.0), (20, 0, 0.0), (20, 30, bend)]
    points = [GroundControlPoint(row, col, 500.0 + 2 * col + off, 900.0 - 2 * row) for row, col, off in corners]
    spec = open_raster(make_raster("a.tif", (3, 20, 30), "EPSG:32633", gcps=points))
    if kept:
        assert spec.grid.transform == pytest.approx((2, 0, 500, 0, -2, 900))
    else:
        assert spec.grid.transform is None
        assert "ground control points" in spec.notes[0]


@pytest.mark.parametrize("nodata", [None, 0.0, float("nan"), -3.4e38])
def test_a_spec_survives_json_and_pickle(make_raster, nodata):
    """What a worker gets is what was planned."""
    path = make_raster("a.tif", (3, 20, 30), "EPSG:32633", UTM, nodata, dtype="float32")
    spec = open_raster(path)
    assert RasterSpec.from_json(json.loads(json.dumps(spec.to_json(), allow_nan=False))) == spec
    assert pickle.loads(pickle.dumps(spec)).to_json() == spec.to_json()


def test_another_file_has_another_identity(make_raster):
    """Whatever changes the pixels or their meaning changes what a fingerprint is made of."""
    path = make_raster("a.tif", (3, 20, 30))
    spec = open_raster(path)
    others = [open_raster(path, bands="3,2,1"), open_raster(path, nodata="7"), replace(spec, grid=Grid((20, 30), UTM))]
    make_raster("a.tif", (3, 20, 31))
    seen = [json.dumps(each.identity(), allow_nan=False) for each in (spec, *others, open_raster(path))]
    assert len(set(seen)) == len(seen)


def test_a_moved_file_is_the_same(make_raster, tmp_path):
    """Where a file lies does not change what comes out."""
    path = make_raster("a.tif", (3, 20, 30))
    before = open_raster(path).identity()
    (tmp_path / "elsewhere").mkdir()
    assert open_raster(path.rename(tmp_path / "elsewhere" / "a.tif")).identity() == before


@pytest.mark.parametrize("layout", [{}, {"tiled": True, "blockxsize": 16, "blockysize": 16}, {"interleave": "pixel"}])
def test_a_window_is_the_array_at_its_slices(make_raster, layout):
    """Rows come first, whatever the file's layout."""
    window = Window(row=5, col=33, height=20, width=11)
    pixels = np.random.default_rng(0).integers(0, 255, (4, 60, 70), dtype=np.uint8)
    path = make_raster("a.tif", pixels, photometric="minisblack", **layout)
    found, valid = read(open_raster(path, bands="4,1,1"), window)
    np.testing.assert_array_equal(found, pixels[[3, 0, 0]][:, *window.slices])
    assert valid.all()


def test_only_pixels_with_nodata_in_all_chosen_bands_are_invalid(make_raster):
    """A dark red pixel is there; what the other bands say does not count."""
    pixels = np.zeros((3, 1, 4), np.uint8)
    pixels[0, 0, 1], pixels[2, 0, 2] = 9, 9
    path = make_raster("a.tif", pixels, nodata=0)
    assert read(open_raster(path)).valid.tolist() == [[False, True, True, False]]
    assert read(open_raster(path, bands="1,2", needed=2)).valid.tolist() == [[False, True, False, False]]


@pytest.mark.parametrize(
    ("option", "expected"), [(None, [False, True, True]), ("7", [True, False, True]), ("none", [True, True, True])]
)
def test_the_nodata_option_takes_the_place_of_the_files(make_raster, option, expected):
    """A number is the only nodata; none is none."""
    pixels = np.array([[[0, 7, 9]]], np.uint8)
    assert (
        read(open_raster(make_raster("a.tif", pixels, nodata=0), needed=1, nodata=option)).valid[0].tolist() == expected
    )


def test_the_nodata_option_takes_the_place_of_alpha_and_mask(make_raster):
    """Said once: what the option says is all that counts."""
    alpha = np.array([[[5, 7, 9]], [[0, 255, 0]]], np.uint8)
    kinds = [ColorInterp.gray, ColorInterp.alpha]
    path = make_raster("a.tif", alpha, colorinterp=kinds)
    assert read(open_raster(path, needed=1)).valid[0].tolist() == [False, True, False]
    assert read(open_raster(path, needed=1, nodata="none")).valid[0].tolist() == [True, True, True]
    assert read(open_raster(path, needed=1, nodata="5")).valid[0].tolist() == [False, True, True]


@pytest.mark.parametrize("nodata", [None, np.nan, -9999.0, -3.4028234663852886e38])
def test_what_is_not_finite_is_invalid(make_raster, nodata):
    """NaN and infinity never reach a model, whatever the file says of nodata."""
    gone = 1.0 if nodata is None else nodata
    pixels = np.array([[[1, np.nan, np.inf, gone]], [[1, 1, 1, gone]]], np.float32)
    spec = open_raster(make_raster("a.tif", pixels, nodata=nodata), needed=2)
    assert read(spec).valid[0].tolist() == [True, False, False, nodata is None]


def test_a_rounded_least_float_is_nodata(make_raster):
    """Files and people write -3.4e38 for the least float."""
    pixels = np.array([[[1, np.finfo(np.float32).min, 3e38]]], np.float32)
    assert read(open_raster(make_raster("a.tif", pixels), needed=1, nodata="-3.4e38")).valid[0].tolist() == [1, 0, 1]


@pytest.mark.parametrize(("option", "words"), [("-9999", "no pixel of type uint8"), ("dark", "no number")])
def test_a_nodata_option_that_no_pixel_can_have_is_refused(make_raster, option, words):
    """It would silently mask nothing."""
    with pytest.raises(InputError, match=words):
        open_raster(make_raster("a.tif", (3, 4, 4)), nodata=option)


def test_an_internal_mask_counts(make_raster):
    """Masked pixels are invalid whatever their colour."""
    mask = np.random.default_rng(1).random((40, 50)) > 0.5
    spec = open_raster(make_raster("a.tif", (3, 40, 50), mask=mask))
    assert spec.mask == "dataset"
    np.testing.assert_array_equal(read(spec).valid, mask)


@pytest.mark.parametrize("name", ["RGB.byte.tif", "RGBA.byte.tif", "cogeo.tif", "goes.tif", "pix4d_alpha_nodata.tif"])
def test_validity_is_that_of_rasterio(data_dir, name):
    """Nodata, alpha and internal masks of real files mean what GDAL's dataset mask means."""
    spec = open_raster(data_dir / "odd" / name)
    with rasterio.open(data_dir / "odd" / name) as dataset:
        expected = dataset.dataset_mask() > 0
    np.testing.assert_array_equal(read(spec).valid, expected)


def test_a_third_of_the_landsat_scene_is_collar(data_dir):
    """The figure that the scene is known for."""
    assert read(open_raster(data_dir / "odd" / "RGB.byte.tif")).valid.mean() == pytest.approx(0.68, abs=0.01)


def test_each_thread_has_its_own_handle(make_raster):
    """Eight threads read one raster at once and all get the right pixels."""
    pixels = np.random.default_rng(2).integers(0, 255, (3, 256, 256), dtype=np.uint8)
    spec = open_raster(make_raster("a.tif", pixels, tiled=True, blockxsize=16, blockysize=16, compress="deflate"))
    windows = [Window(row, col, 48, 48) for row in range(0, 208, 16) for col in range(0, 208, 16)]
    together = threading.Barrier(8)
    with Reader(spec) as reader, ThreadPoolExecutor(8, initializer=together.wait) as pool:
        for window, found in zip(windows, pool.map(reader.read, windows), strict=True):
            np.testing.assert_array_equal(found.pixels, pixels[:, *window.slices])
        assert 1 < len({id(each) for each in reader._opened}) <= 8


def test_a_file_that_changed_since_the_plan_is_refused(make_raster):
    """Half a mosaic of one image and half of another would look like one."""
    spec = open_raster(make_raster("a.tif", (3, 20, 30)))
    make_raster("a.tif", (3, 20, 31))
    with pytest.raises(RunError, match="has changed since the run was planned"):
        read(spec)


def test_a_page_of_a_tiff_is_chosen_by_number(make_raster):
    """The second image of a file of two has its own pixels."""
    path = make_raster("a.tif", np.full((1, 8, 9), 5, np.uint8))
    make_raster("a.tif", np.full((1, 6, 7), 8, np.uint8), APPEND_SUBDATASET="YES")
    spec = open_raster(path, needed=1, subdataset=2)
    assert spec.grid.shape == (6, 7)
    assert (read(spec).pixels == 8).all()
    assert "holds 2 images" in open_raster(path, needed=1).notes[0]
    with pytest.raises(InputError, match=r"--subdataset 3: .* has 1\.\.2"):
        open_raster(path, needed=1, subdataset=3)


def spec_of(shape, block):
    """A raster that exists on paper."""
    grid = Grid(shape)
    return RasterSpec("/a.tif", "GTiff", grid, grid, None, 1, "uint8", 8, (1,), None, "none", None, block)


@given(st.data())
def test_a_snapped_window_is_whole_blocks_within_the_raster(data):
    """It contains what was asked for, and begins and ends at blocks or at the raster's edge."""
    rows, cols = (data.draw(st.integers(1, 3000)) for _ in range(2))
    block = data.draw(st.sampled_from([16, 128, 500, 1024])), data.draw(st.sampled_from([16, 256, 1024]))
    row, col = data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, cols - 1))
    window = Window(row, col, data.draw(st.integers(1, rows - row)), data.draw(st.integers(1, cols - col)))
    spec = spec_of((rows, cols), block)
    grown = spec.snap(window)
    assert grown.intersect(window) == window
    assert grown.intersect(spec.grid.window) == grown
    if block[1] < cols:
        assert (grown.row % block[0], grown.col % block[1]) == (0, 0)
        assert grown.bottom % block[0] == 0 or grown.bottom == rows
        assert grown.right % block[1] == 0 or grown.right == cols


@pytest.mark.parametrize("block", [(16, 9000), (1, 9000), (2048, 2048), (256, 2048)])
def test_strips_and_large_blocks_are_not_snapped_to(block):
    """They would turn a small window into much of the raster."""
    window = Window(100, 200, 300, 400)
    assert spec_of((8000, 9000), block).snap(window) == window


def test_the_cache_is_bounded_in_every_process():
    """GDAL's own choice would be a twentieth of the machine for each worker; the user's choice stays."""
    code = "import pipeline.rasters.raster; from rasterio._env import get_gdal_config as g; print(g('GDAL_CACHEMAX'))"
    cached = [
        int(subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=True).stdout)
        for env in ({}, {"GDAL_CACHEMAX": "32"})
    ]
    assert cached == [CACHE_BYTES, 32 * 2**20]
