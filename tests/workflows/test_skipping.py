"""A raster with a damaged block, from the command line."""

import json

import pytest
from damaged_raster import damage


@pytest.fixture
def hurt(make_raster, monkeypatch):
    """150 x 210 pixels, of which one block of 16 cannot be decoded."""
    monkeypatch.setattr("pipeline.cluster.attempts.PAUSE", 0)
    raster = make_raster(
        "in.tif",
        (3, 150, 210),
        transform=(1, 0, 0, 0, -1, 0),
        tiled=True,
        blockxsize=16,
        blockysize=16,
        compress="deflate",
    )
    damage(raster, 6, 8)
    return raster


def words(raster, model, mosaic):
    """The command without its policy."""
    return "run", raster, "-m", model, "-o", mosaic, "--overlap", 16, "--tile-block", 1, "--chunk", 64


def test_a_run_that_may_skip_ends_with_3_and_says_what_is_missing(command, hurt, model, tmp_path):
    """On stdout, in the status, and in the report."""
    mosaic = tmp_path / "masks.zarr"
    result = command(*words(hurt, model, mosaic), "--on-error", "skip")
    assert result.exit_code == 3
    assert "2 tile blocks failed and are nodata (1-2, 2-2); a rerun tries them" in result.stdout
    assert "cannot read" in result.stderr
    shown = command("status", mosaic).stdout
    assert "failed     " in shown
    assert "in.tif: cannot read" in shown
    assert "cannot read" in (tmp_path / "masks.run" / "report.html").read_text()
    found = json.loads(command("status", mosaic, "--json").stdout)
    assert list(found["skipped"]) == found["missing"]["infer"]


def test_a_run_that_may_not_skip_ends_with_1(command, hurt, model, tmp_path):
    """In one line."""
    result = command(*words(hurt, model, tmp_path / "masks.zarr"))
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith("eomt-batch: error: tile block ")


def test_of_several_rasters_one_may_have_skipped(command, hurt, make_raster, model, tmp_path):
    """3 as well: somebody must look."""
    good = make_raster("good.tif", (3, 150, 210))
    options = ("--overlap", 16, "--tile-block", 1, "--chunk", 64, "--on-error", "skip")
    result = command("run", good, hurt, "-m", model, "-o", tmp_path / "masks", *options)
    assert result.exit_code == 3
