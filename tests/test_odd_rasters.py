"""`eomt-batch run` over every unusual raster of the real data, as a user would call it, and over a damaged one."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from click.testing import CliRunner, Result
from rasterio.errors import NotGeoreferencedWarning

from eomt_core.palette import save_palette
from pipeline import open_mosaic
from pipeline.rasters.tiff import pages
from workflows.cli.main import cli

EMPTY, LAND, HUGE = "image_web_z5_z11.tif", "cog_cmap.tif", "cog_world.tif"
FEW = """
cog_cmap.tif cog_nonearth.tif cog_scale.tif cog_tags.tif cog_world.tif float_nan.tif float_raster_with_nodata.tif
miniswhite-1c-1b.tiff rotated.tif test_esri_wkt.tif test_rpcs.tif
"""
MANY = """
201404_13SED190110_201404_0x1500m_CL_1.tif 201404_13SED190110_201404_0x1500m_CL_1_mask.tif 389225main_sw_1965_1024.jpg
5dded5bc0140b80006d2e565_23.tif BigTIFFMotorola.tif RGB.byte.gcp.vrt RGB.byte.rpc.vrt RGB.byte.tif RGBA.byte.tif
RGBA.uint16.tif alpha.tif australia.tif cmyk-3c-8b.tiff cog_hirise_mars.tif cogeo.tif goes.tif gradient-3c-64b.tiff
image_51px.tif image_web_z5_z11.tif image_webp.tif int8_rgb.tif no_geo.jpg pix4d_alpha_nodata.tif shapes_hyper.tif
shapes_lzw_12bps.tif tiled-jpeg-ycbcr.tif world.rgb.tif
"""
ONE_OR_TWO_BANDS, THREE_BANDS_OR_MORE = FEW.split(), MANY.split()
LOST = {
    "RGB.byte.gcp.vrt": "has ground control points that fit no affine transform",
    "RGB.byte.rpc.vrt": "has RPCs only",
    "test_rpcs.tif": "has RPCs only",
}
"""Rasters whose place the result cannot carry, and what the user is told."""

BLOCKS = {"tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "deflate"}
GREYS = [[0.0, 0.0, 0.0], [0.5, 0.5, 0.5], [1.0, 1.0, 1.0]]
PATIENCE = 120
"""Seconds after which a process is given up."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three greys."""
    return save_palette(tmp_path_factory.mktemp("model") / "palette", GREYS)


@pytest.fixture
def command(model: Path, tmp_path: Path) -> Callable[..., list[str]]:
    """`command(verb, raster, *options)`: the words of a command."""

    def words(verb: str, raster: Path, *options: object) -> list[str]:
        bands = ["--bands", "1,1,1"] if raster.name in ONE_OR_TWO_BANDS else []
        vrt = ["--allow-vrt"] if raster.suffix == ".vrt" else []
        return [str(word) for word in (verb, raster, "-m", model, "-o", tmp_path / "o.zarr", *bands, *vrt, *options)]

    return words


@pytest.fixture
def odd(data_dir: Path) -> Path:
    """The folder of unusual rasters."""
    return data_dir / "odd"


def call(words: list[str]) -> Result:
    """A command that succeeds."""
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 0, done.stderr
    return done


def opened(path: Path | str) -> Any:
    """A dataset of rasterio's, without a word about those that lie nowhere."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        return rasterio.open(path)


def arrays(mosaic: Path) -> tuple[np.ndarray, np.ndarray]:
    """Classes and confidence."""
    made = open_mosaic(mosaic)
    return np.asarray(made.classes), np.asarray(made.confidence)


def test_every_odd_raster_is_named_here(odd: Path) -> None:
    """With as many bands as the manifest says."""
    with (odd / "MANIFEST.csv").open() as file:
        bands = {row["file"]: int(row["as_opened"].split()[0].split("x")[2]) for row in csv.DictReader(file)}
    assert sorted(ONE_OR_TWO_BANDS) == sorted(name for name, count in bands.items() if count < 3)
    assert sorted(THREE_BANDS_OR_MORE) == sorted(name for name, count in bands.items() if count >= 3)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] * (name == LAND))
        for name in sorted({*ONE_OR_TWO_BANDS, *THREE_BANDS_OR_MORE} - {HUGE, EMPTY})
    ],
)
def test_an_odd_raster_is_segmented(name: str, odd: Path, command, tmp_path: Path, capfd: Any) -> None:
    """All of it, with nodata exactly where it has no pixels, and GDAL makes no noise of its own."""
    call(command("run", odd / name))
    with opened(odd / name) as dataset:
        invalid = dataset.dataset_mask() == 0
    classes, confidence = arrays(tmp_path / "o.zarr")
    np.testing.assert_array_equal(classes == 255, invalid)
    np.testing.assert_array_equal(confidence == 255, invalid)
    assert set(np.unique(classes)) <= {0, 1, 2, 254, 255}
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", sorted(LOST))
def test_a_place_that_is_lost_is_told(name: str, odd: Path, command, tmp_path: Path) -> None:
    """The mosaic lies nowhere to GDAL, rather than in a wrong place, and the user is told what to do."""
    done = call(command("run", odd / name))
    (note,) = (line for line in done.stderr.splitlines() if line.startswith("note"))
    assert f"{name} {LOST[name]}" in note
    assert note.endswith("gdalwarp it first")
    with opened(f'ZARR:"{tmp_path / "o.zarr"}":/0/classes') as dataset:
        assert (dataset.crs, dataset.transform.is_identity) == (None, True)


def test_a_rotated_place_is_in_the_vrt(odd: Path, command, tmp_path: Path) -> None:
    """Where every GDAL finds it, which the user is told; the array itself lies nowhere rather than in a wrong place."""
    done = call(command("run", odd / "rotated.tif"))
    (note,) = (line for line in done.stderr.splitlines() if line.startswith("note"))
    assert "rotated.tif lies askew: GDAL before 3.13 finds the place of its mosaic only through the .vrt" in note
    with opened(odd / "rotated.tif") as dataset, opened(tmp_path / "o.classes.vrt") as result:
        assert result.transform == dataset.transform
        assert result.transform.b != 0
    with opened(f'ZARR:"{tmp_path / "o.zarr"}":/0/classes') as dataset:
        assert dataset.transform.is_identity


@pytest.mark.parametrize("name", ONE_OR_TWO_BANDS)
def test_too_few_bands_are_refused_with_the_option_that_helps(name: str, odd: Path, model, tmp_path: Path) -> None:
    """One line that can be copied, exit 2, nothing written."""
    done = CliRunner().invoke(cli, ["run", str(odd / name), "-m", str(model), "-o", str(tmp_path / "o.zarr")])
    assert (done.exit_code, done.stdout, list(tmp_path.iterdir())) == (2, "", [])
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"eomt-batch: error: {odd / name}: has ")
    assert line.endswith("; name 3, repeats are allowed: --bands 1,1,1")


@pytest.mark.slow
def test_an_empty_image_without_nodata_is_an_image_of_black(odd: Path, command, tmp_path: Path) -> None:
    """71 Mpx of zeros which the file says are valid: every tile is inferred, and class 0 is black."""
    report = json.loads(call(command("run", odd / EMPTY, "--json")).stdout)
    assert (report["pixels"], report["tiles"]) == (8448**2, 22**2)
    assert set(np.unique(open_mosaic(tmp_path / "o.zarr").classes[::64, ::64])) == {0}


@pytest.mark.slow
def test_where_all_is_nodata_no_tile_is_inferred(odd: Path, command, tmp_path: Path) -> None:
    """The same image once its zeros are said to be nodata: the mosaic holds no pixel and no chunk."""
    report = json.loads(call(command("run", odd / EMPTY, "--json", "--nodata", "0")).stdout)
    assert (report["pixels"], report["tiles"]) == (8448**2, 0)
    assert set(np.unique(open_mosaic(tmp_path / "o.zarr").classes[::64, ::64])) == {255}
    assert open_mosaic(tmp_path / "o.zarr").classes.nchunks_initialized == 0


def test_the_land_of_the_world_is_planned(odd: Path, command, tmp_path: Path) -> None:
    """648 Mpx in 3 MB: tiles at a stride of 384 by arithmetic, memory of some blocks, and nothing written."""
    plan = json.loads(call(command("plan", odd / HUGE, "--nodata", "none", "--json")).stdout)
    assert (plan["shape"], plan["stride"], plan["tile_grid"]) == ([18000, 36000], [384, 384], [47, 94])
    assert (plan["tiles"], plan["tile_blocks"], plan["output_blocks"]) == (47 * 94, 6 * 12, 9 * 18)
    assert plan["bytes"]["mosaic"] == pytest.approx(2 * 18000 * 36000 * 4 / 3, rel=1e-3)
    assert plan["bytes"]["memory"] < 2e9
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def started(odd: Path, command, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A run over the world that has finished its first tile block, in a process of its own."""
    words = command("run", odd / HUGE, "--nodata", "none", "--device", "cpu", "-q")
    code = "from workflows.cli import main; main()"
    first, deadline = tmp_path / "o.run" / "records" / "infer", time.monotonic() + PATIENCE
    with subprocess.Popen([sys.executable, "-c", code, *words], stderr=subprocess.PIPE, text=True) as process:
        try:
            while not any(first.glob("*.json")):
                assert process.poll() is None, process.communicate()
                assert time.monotonic() < deadline
                time.sleep(0.05)
            yield process
        finally:
            process.kill()


@pytest.mark.slow
def test_a_long_run_stops_at_a_signal_and_can_be_resumed(started, odd: Path, command, tmp_path: Path) -> None:
    """Exit 143 and a line that says so; what is done is kept, and the same command would go on."""
    os.kill(started.pid, signal.SIGTERM)
    assert started.wait(PATIENCE) == 143
    assert started.stderr.read() == "eomt-batch: error: stopped by SIGTERM; the same command continues\n"
    status = json.loads(call(["status", str(tmp_path / "o.zarr"), "--json"]).stdout)
    assert status["done"]["infer"][0] == "0-0"
    assert len(status["done"]["infer"]) + len(status["missing"]["infer"]) == 72
    call(command("plan", odd / HUGE, "--nodata", "none", "--device", "cpu"))


def test_a_block_that_is_damaged_stops_the_run_and_heals(make_raster, command, tmp_path: Path) -> None:
    """Garbage in one block's bytes: the block and its window are named; the whole file again completes the run."""
    raster = make_raster("in.tif", (3, 150, 210), "EPSG:32640", (1, 0, 3e5, 0, -1, 2e6), **BLOCKS)
    options = ["--tile-size", 64, "--tile-block", 1, "--overlap", 0, "--chunk", 64, "--device", "cpu", "-q"]
    call(command("run", raster, *options, "-o", tmp_path / "sound.zarr"))
    shutil.copy2(raster, tmp_path / "whole.tif")
    damage(raster, block=1)
    done = CliRunner().invoke(cli, command("run", raster, *options))
    assert (done.exit_code, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    where = f"tile block 0-1 of {tmp_path}/o.run: {raster}: cannot read rows 0..64, columns 64..128 ("
    assert line.startswith(f"eomt-batch: error: {where}")
    assert line.endswith("; copy the file again, keeping its time (cp -p), then run the same command")
    shutil.copy2(tmp_path / "whole.tif", raster)
    call(command("run", raster, *options))
    np.testing.assert_array_equal(arrays(tmp_path / "o.zarr"), arrays(tmp_path / "sound.zarr"))


def damage(raster: Path, block: int) -> None:
    """Overwrite a block's compressed bytes; size and time stay."""
    stat = raster.stat()
    offsets, counts = pages(raster)[0].blocks()
    with raster.open("r+b") as file:
        file.seek(int(offsets[block]))
        file.write(b"\xff" * int(counts[block]))
    os.utime(raster, ns=(stat.st_atime_ns, stat.st_mtime_ns))
