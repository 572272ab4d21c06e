"""Rasters that are odd, damaged or hostile: each opens, or ends in one line that says what to do."""

import csv
import re
import struct
import time
import uuid
import warnings

import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio.errors import NotGeoreferencedWarning

from pipeline.errors import BlockError, InputError
from pipeline.rasters.raster import Reader, open_raster
from pipeline.rasters.tiff import pages
from pipeline.tiling import Window

TILED = {"tiled": True, "blockxsize": 64, "blockysize": 64}
MANIFEST = """
201404_13SED190110_201404_0x1500m_CL_1.tif 201404_13SED190110_201404_0x1500m_CL_1_mask.tif 389225main_sw_1965_1024.jpg
5dded5bc0140b80006d2e565_23.tif BigTIFFMotorola.tif RGB.byte.gcp.vrt RGB.byte.rpc.vrt RGB.byte.tif RGBA.byte.tif
RGBA.uint16.tif alpha.tif australia.tif cmyk-3c-8b.tiff cog_cmap.tif cog_hirise_mars.tif cog_nonearth.tif cog_scale.tif
cog_tags.tif cog_world.tif cogeo.tif float_nan.tif float_raster_with_nodata.tif goes.tif gradient-3c-64b.tiff
image_51px.tif image_web_z5_z11.tif image_webp.tif int8_rgb.tif miniswhite-1c-1b.tiff no_geo.jpg pix4d_alpha_nodata.tif
rotated.tif shapes_hyper.tif shapes_lzw_12bps.tif test_esri_wkt.tif test_rpcs.tif tiled-jpeg-ycbcr.tif world.rgb.tif
"""
NAMES = MANIFEST.split()


def refused(path, words, **options):
    """The one line that the raster is refused with."""
    with pytest.raises(InputError) as error:
        open_raster(path, **options)
    text = str(error.value)
    assert "\n" not in text
    assert re.search(words, text), text
    return text


def read_all(spec):
    """All pixels and their validity."""
    with Reader(spec) as reader:
        return reader.read(spec.grid.window)


def test_all_odd_files_are_tested(data_dir):
    """The list above is that of the folder's manifest."""
    with (data_dir / "odd" / "MANIFEST.csv").open() as file:
        assert sorted(row["file"] for row in csv.DictReader(file)) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_an_odd_file_opens_or_says_which_bands_to_give(data_dir, name):
    """As the manifest says it is; one with fewer than three bands does with --bands 1,1,1."""
    with (data_dir / "odd" / "MANIFEST.csv").open() as file:
        cols, rows, count = (
            next(row["as_opened"] for row in csv.DictReader(file) if row["file"] == name).split()[0].split("x")
        )
    path, bands = data_dir / "odd" / name, None
    if int(count) < 3:
        assert refused(path, "--bands 1,1,1")
        bands = "1,1,1"
    spec = open_raster(path, bands=bands, allow_vrt=True)
    assert (spec.grid.shape, spec.count) == ((int(rows), int(cols)), int(count))
    with Reader(spec) as reader:
        pixels, valid = reader.read(spec.grid.window.intersect(Window(0, 0, 64, 64)))
    assert pixels.shape == (3, *valid.shape)
    assert np.isfinite(pixels[:, valid]).all()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read \\(No such file"),
        (b"", "is empty \\(0 bytes\\)"),
        (b"not a raster at all", "is no raster that is read.*gdal_translate"),
        (b"II*\0", "cut short"),
        (b"II*\0\x08\0\0\0", "cut short"),
        (b"\x89PNG\r\n\x1a\n and no more", "cut short, a PNG without an end"),
        (b"\x89PNG\r\n\x1a\n and IEND", "cannot be opened as PNG"),
    ],
)
def test_what_is_no_raster_is_said_to_be_none(tmp_path, content, words):
    """Before anything is started."""
    path = tmp_path / "a.tif"
    if content is not None:
        path.write_bytes(content)
    assert refused(path, words)


def test_a_folder_is_no_raster(tmp_path):
    """Its rasters are to be named."""
    assert refused(tmp_path, "is a folder; name the rasters in it")


def test_a_name_that_no_file_can_have_is_refused():
    """Not with a traceback."""
    assert refused("a\0b.tif", "cannot be read")


@pytest.mark.parametrize(
    "layout", [TILED, {"blockysize": 16}, TILED | {"interleave": "band"}, TILED | {"BIGTIFF": "YES"}]
)
@pytest.mark.parametrize("compress", [None, "deflate"])
def test_a_truncated_tiff_is_refused_before_the_start(make_raster, layout, compress):
    """A copy that stopped half-way is found by its block table, not hours later; whole it is taken."""
    path = make_raster("a.tif", (3, 300, 300), compress=compress, **layout)
    open_raster(path)
    whole = path.read_bytes()
    for kept in (len(whole) - 100, len(whole) // 2):
        path.write_bytes(whole[:kept])
        assert refused(path, "cut short.*copy it again")


def test_a_truncated_mask_is_found(make_raster):
    """The mask's blocks come last in the file; without them pixels would be there that are not."""
    mask = np.random.default_rng(0).random((300, 300)) > 0.5
    path = make_raster("a.tif", (3, 300, 300), mask=mask, **TILED)
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    assert refused(path, "cut short, 1 of the 25 blocks of its mask")


def test_blocks_that_were_never_written_are_no_damage(make_raster):
    """A sparse file has no offsets for what is all zero."""
    path = make_raster("a.tif", np.zeros((3, 300, 300), np.uint8), SPARSE_OK=True, **TILED)
    assert path.stat().st_size < 2000
    assert (read_all(open_raster(path)).pixels == 0).all()


@pytest.mark.parametrize(
    "layout", [TILED, TILED | {"interleave": "band"}, {"BIGTIFF": "YES"}, {"ENDIANNESS": "BIG"}, {}]
)
def test_the_block_table_is_that_of_gdal(make_raster, layout):
    """Offsets and byte counts are those that GDAL tells for the image."""
    path = make_raster("a.tif", (3, 130, 200), compress="deflate", **layout)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        dataset = rasterio.open(path)
    with dataset:
        keys = [f"{col}_{row}" for (row, col), _ in dataset.block_windows(1)]
        bands = [1, 2, 3] if layout.get("interleave") == "band" else [1]
        expected = [
            [int(dataset.get_tag_item(f"BLOCK_{what}_{key}", "TIFF", band)) for band in bands for key in keys]
            for what in ("OFFSET", "SIZE")
        ]
    assert [values.tolist() for values in pages(path)[0].blocks()] == expected


def test_a_hundred_thousand_blocks_are_checked_in_no_time(make_raster):
    """The table is looked at as a whole."""
    path = make_raster(
        "a.tif", np.zeros((1, 5056, 5056), np.uint8), tiled=True, blockxsize=16, blockysize=16, SPARSE_OK=True
    )
    started = time.process_time()
    open_raster(path, needed=1)
    assert pages(path)[0].blocks()[0].size > 99_000
    assert time.process_time() - started < 1


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_scrambled_header_never_ends_in_anything_but_a_line(make_raster, data):
    """Bytes of the directory are turned at will: the raster opens and reads, or is refused, or names the window."""
    whole = make_raster(
        f"whole-{uuid.uuid4()}.tif", (3, 40, 40), compress="deflate", tiled=True, blockxsize=16, blockysize=16
    )
    content, path = bytearray(whole.read_bytes()), whole.with_name("scrambled.tif")
    for place in data.draw(st.lists(st.integers(0, 400), min_size=1, max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    error = ""
    try:
        spec = open_raster(path, max_block_bytes=2**24)
        with Reader(spec) as reader:
            reader.read(spec.grid.window.intersect(Window(0, 0, 64, 64)))
    except (InputError, BlockError) as caught:
        error = str(caught)
    assert "\n" not in error


def test_a_damaged_block_is_named_when_it_is_read(make_raster):
    """All others read; this one is an error with file, window and GDAL's reason, never zeros."""
    path = make_raster("a.tif", (3, 128, 128), compress="deflate", **TILED)
    offset = int(pages(path)[0].blocks()[0][3])
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\xff" * 40)
    spec = open_raster(path)
    with Reader(spec) as reader:
        reader.read(Window(0, 0, 64, 128))
        with pytest.raises(
            BlockError, match=r"a\.tif: cannot read rows 64\.\.128, columns 64\.\.128 \(.*scanline"
        ) as error:
            reader.read(Window(64, 64, 64, 64))
    assert isinstance(error.value.__cause__, rasterio.errors.RasterioError)


@pytest.mark.parametrize("driver", ["JPEG", "PNG"])
def test_a_truncated_photo_is_no_grey_photo(make_raster, driver):
    """What is missing is an error, not a guess."""
    path = make_raster("a.img", (3, 256, 256), driver=driver)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises((InputError, BlockError)):
        read_all(open_raster(path))


def test_complex_numbers_are_refused(make_raster):
    """A model sees no phases."""
    path = make_raster("a.tif", np.ones((3, 4, 4), np.complex64))
    assert refused(path, "pixels are complex64, not real numbers")


def test_a_block_that_would_fill_the_memory_is_refused(make_raster):
    """A file of some kilobytes may hold a block of gigabytes."""
    path = make_raster(
        "a.tif", np.zeros((3, 64, 64), np.uint8), tiled=True, blockxsize=8192, blockysize=8192, interleave="pixel",
        compress="deflate",
    )  # fmt: skip
    assert refused(path, f"decodes to {3 * 8192**2} bytes, --max-block-bytes is 1000000;", max_block_bytes=10**6)
    assert open_raster(path).block_shape == (8192, 8192)


def test_a_striped_file_is_told_what_it_costs(make_raster):
    """And how to make it fast."""
    path = make_raster("a.tif", np.zeros((1, 64, 5000), np.uint8), blockysize=16)
    assert "gdal_translate -co TILED=YES" in open_raster(path, needed=1).notes[0]


def test_a_directory_chain_that_bites_its_tail_ends(make_raster):
    """The last directory points to the first."""
    path = make_raster("a.tif", (1, 20, 20))
    content = bytearray(path.read_bytes())
    (start,) = struct.unpack_from("<I", content, 4)
    (entries,) = struct.unpack_from("<H", content, start)
    struct.pack_into("<I", content, start + 2 + 12 * entries, start)
    path.write_bytes(content)
    assert len(pages(path)) == 1
