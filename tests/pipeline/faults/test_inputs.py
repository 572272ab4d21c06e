"""Rasters that are damaged, or change while they are read: the block is named, and left out where that is asked for."""

import shutil

import numpy as np
import pytest
import zarr
from damaged_raster import damage

from pipeline.errors import RunError
from pipeline.run import segment_raster, status, stitch_raster
from pipeline.verify import verify

HOLE = (slice(144, 192), slice(192, 240))
"""Pixels that tile block 3-4 answers for; its tile is 64 pixels a side."""


@pytest.fixture
def hurt(many, tmp_path):
    """The raster with a damaged block that only tile block 3-4 reads, and a function that heals it."""
    raster = tmp_path / "in.tif"
    shutil.copy2(many.raster, raster)
    # Pixels 176..191, 224..239: right of tile 3-3, left of 3-5, below 2-4, above 4-4.
    return many._replace(raster=raster), damage(raster, 11, 14)


@pytest.fixture
def quick(monkeypatch):
    """No pause between two attempts."""
    monkeypatch.setattr("pipeline.cluster.attempts.PAUSE", 0)


def classes(made):
    """Of the mosaic."""
    return zarr.open_array(made.output / "0" / "classes", mode="r")[...]


def test_a_damaged_block_is_left_as_nodata_where_that_is_asked_for(hurt, unbroken, digests, quick):
    """F7: it is named, with file and window; a rerun tries it again, and a healed file makes the mosaic whole."""
    made, heal = hurt
    report = made.again(on_error="skip")
    assert list(report.skipped) == ["3-4"]
    assert "in.tif: cannot read" in report.skipped["3-4"]
    assert (report.inferred, report.reused) == (63, 0)
    assert (classes(made)[HOLE] == 255).all()
    near = np.zeros((400, 400), bool)
    near[144:208, 192:256] = True  # where its tile would have had a say
    assert (classes(made) == classes(unbroken))[~near].all()
    found = status(made.output)
    assert (list(found.skipped), found.missing["infer"], found.complete) == (["3-4"], ["3-4"], False)
    heal()
    report = made.again()
    assert (report.inferred, report.reused, report.skipped) == (1, 63, {})
    assert digests(made.output) == digests(unbroken.output)


def test_a_block_that_fails_again_leaves_the_mosaic_as_it_is(hurt, contents, quick):
    """F7: nothing is stitched again for it."""
    made, _ = hurt
    made.again(on_error="skip")
    before = contents(made.output / "0" / "classes")
    report = made.again(on_error="skip")
    assert (report.inferred, report.reused, list(report.skipped)) == (0, 63, ["3-4"])
    assert contents(made.output / "0" / "classes") == before


def test_stitching_says_again_what_was_skipped(hurt, quick):
    """F7: parts of a run may skip too; what they left out is no missing part."""
    made, _ = hurt
    reports = [made.again(shard=f"{part}/2", on_error="skip") for part in range(2)]
    assert [list(report.skipped) for report in reports] == [["3-4"], []]
    assert list(stitch_raster(made.output).skipped) == ["3-4"]


def test_looking_for_damage_leaves_alone_what_was_skipped(hurt, unbroken, digests, quick):
    """By its record the next run knows that the mosaic was made without it, whatever became of its empty files."""
    made, heal = hurt
    made.again(on_error="skip")
    shard = made.folder / "store" / "scores" / "c" / "3" / "4" / "0" / "0" / "0"
    shard.write_bytes(bytes(shard.stat().st_size))
    assert verify(made.output).damaged == ()
    heal()
    assert made.again().inferred == 1
    assert digests(made.output) == digests(unbroken.output)


def test_a_skipped_block_keeps_the_store(hurt, quick):
    """The rerun that tries it again needs it."""
    made, _ = hurt
    made.again(on_error="skip", keep_store=False)
    assert (made.folder / "store").exists()


def test_an_input_that_changes_ends_the_run(many, tmp_path):
    """F7: skipping does not hide it: the blocks done and those to come would not be of one raster."""
    raster = tmp_path / "in.tif"
    shutil.copy2(many.raster, raster)
    made = many._replace(raster=raster)

    def touch(progress):
        raster.touch()

    with pytest.raises(RunError, match=r"in\.tif: has changed since the run was planned; start again with --overwrite"):
        segment_raster(made.raster, made.output, type(made.config)(**{**vars(made.config), "on_error": "skip"}), touch)


def test_an_input_that_is_gone_ends_the_run(many, tmp_path):
    """F7: with the words that it should be put back."""
    raster = tmp_path / "in.tif"
    shutil.copy2(many.raster, raster)
    made = many._replace(raster=raster)

    def remove(progress):
        raster.unlink(missing_ok=True)

    with pytest.raises(RunError, match=r"in\.tif: is gone since the run was planned; put it back"):
        segment_raster(made.raster, made.output, type(made.config)(**{**vars(made.config), "on_error": "skip"}), remove)
