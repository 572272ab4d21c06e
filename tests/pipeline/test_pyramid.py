"""The mosaic's coarser levels: what is in them, how many there are, and that a run makes them like everything else."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from pipeline.errors import UsageError
from pipeline.mosaic.mosaic import open_mosaic
from pipeline.run import segment_raster, status, stitch_raster
from pipeline.spec import read_spec
from pipeline.steps.journal import Journal
from pipeline.steps.pyramid import choose_levels, level_tasks
from pipeline.steps.tasks import Tasks


@pytest.fixture(scope="module")
def layered(original, tmp_path_factory):
    """The run over 150 x 210 pixels in chunks of 16, with levels of 75 x 105, 38 x 53 and 19 x 27 pixels."""
    made = original._replace(output=tmp_path_factory.mktemp("layered") / "out.zarr")
    made.again(levels=4, chunk=16)
    return made


@pytest.fixture
def harmed(layered, tmp_path):
    """A copy of it, to be harmed."""
    shutil.copytree(layered.output.parent, tmp_path, dirs_exist_ok=True)
    return layered._replace(output=tmp_path / "out.zarr")


def again(made, **changes):
    """The same command."""
    return made.again(levels=4, chunk=16, **changes)


@pytest.mark.parametrize(
    "options",
    [{}, {"zarr_format": 3}, {"zarr_format": 3, "zarr_shard": 64}],
    ids=["v2", "v3", "shards"],
)
def test_each_level_is_every_second_pixel_of_the_finer_one(fresh, options):
    """In every array and format: level k is every 2^k-th pixel of the full resolution, odd sizes rounded up."""
    fresh.again(levels=4, chunk=16, **options)
    mosaic = open_mosaic(fresh.output)
    assert [mosaic.array("classes", level).shape for level in range(4)] == [(150, 210), (75, 105), (38, 53), (19, 27)]
    for level in range(1, mosaic.levels):
        for name in mosaic.names:
            step = 2**level
            np.testing.assert_array_equal(mosaic.array(name, level)[:], mosaic.array(name)[::step, ::step])


def test_each_level_lies_at_the_same_corner_with_pixels_twice_as_big(layered):
    """And reads as nodata where nothing is."""
    mosaic = open_mosaic(layered.output)
    for level in range(mosaic.levels):
        side = 2.0 * 2**level
        assert mosaic.place(level).transform == (side, 0, 1000, 0, -side, 5000)
        assert mosaic.array("classes", level).fill_value == mosaic.array("confidence", level).fill_value == 255


@pytest.mark.parametrize(
    ("asked", "shape", "levels"),
    [
        (None, (1023, 1023), 1),
        (None, (1024, 5), 2),
        (None, (1500, 2000), 2),
        (None, (2047, 2047), 3),
        (None, (120_000, 100_000), 8),
        (1, (120_000, 100_000), 1),
        (5, (16, 9), 5),
        (1, (1, 1), 1),
    ],
)
def test_levels_end_below_1024_pixels_or_where_the_user_says(asked, shape, levels):
    """The full resolution counts as one."""
    assert choose_levels(asked, shape) == levels


def test_more_levels_than_can_be_halved_are_refused(fresh):
    """One line with the raster's size and the most that there can be, before anything is done."""
    with pytest.raises(UsageError, match=r"^--levels 10: 150 x 210 pixels have at most 9, the last of one pixel$"):
        fresh.again(levels=10)
    with pytest.raises(UsageError, match=r"^--levels 0: give at least 1$"):
        fresh.again(levels=0)
    assert not fresh.folder.exists()


def test_progress_of_the_levels_goes_from_nothing_to_all(fresh):
    """In pixels of the levels themselves, the finer level first."""
    seen = []
    config = type(fresh.config)(**{**vars(fresh.config), "levels": 3})
    segment_raster(fresh.raster, fresh.output, config, seen.append)
    told = [progress for progress in seen if progress.step == "downsample"]
    total = 75 * 105 + 38 * 53
    assert [(told[0].done, told[0].total), (told[-1].done, told[-1].total)] == [(0, total), (total, total)]
    assert [progress.block[0] for progress in told[1:]] == ["1"] * 4 + ["2"]


def test_a_lost_block_of_a_level_is_made_again_alone(harmed, layered, digests, records):
    """As with every block: nothing else is done twice."""
    before = records(harmed.folder, "downsample")
    next((harmed.output / "2" / "classes").glob("1.1")).unlink()
    assert status(harmed.output).missing["downsample"] == ["2-1-1"]
    assert again(harmed).rendered == 0
    after = records(harmed.folder, "downsample")
    assert {name for name in after if after[name] != before[name]} == {"2-1-1"}
    assert digests(harmed.output) == digests(layered.output)


def test_levels_do_not_outlive_the_pixels_that_they_are_of(harmed, layered, digests, records):
    """Where a block of the full resolution is written again, so are all levels."""
    before = records(harmed.folder, "downsample")
    (harmed.folder / "records" / "render" / "0-0.json").unlink()
    assert again(harmed).rendered == 1
    after = records(harmed.folder, "downsample")
    assert before.keys() == after.keys()
    assert not set(before.values()) & set(after.values())
    assert digests(harmed.output) == digests(layered.output)


def test_a_kill_between_the_levels_costs_no_finished_block(harmed, layered, digests):
    """What is left is done, in order: a level is never made from one that is not whole."""
    spec, journal = read_spec(harmed.folder), Journal(harmed.folder)
    journal.reopen()
    for name in list(level_tasks(spec))[20:]:
        (harmed.folder / "records" / "downsample" / f"{name}.json").unlink()
    (harmed.output / "3" / "classes" / "0.0").unlink()
    assert len(Tasks(replace(spec, output=str(harmed.output)), journal).done("downsample")) == 20
    again(harmed)
    assert digests(harmed.output) == digests(layered.output)


def test_stitching_may_change_how_many_levels_there_are(layered, tmp_path, digests):
    """The full resolution stays as it is."""
    new = tmp_path / "new.zarr"
    stitch_raster(layered.output, new, levels=2)
    assert open_mosaic(new).levels == 2
    old = digests(layered.output)
    assert digests(new) == {name: digest for name, digest in old.items() if name in digests(new)}
    with pytest.raises(UsageError, match="--levels 10: 150 x 210"):
        stitch_raster(layered.output, tmp_path / "other.zarr", levels=10)


def test_shards_are_refused_before_anything_is_done(fresh, layered, tmp_path):
    """In format 2, and where stitching would keep format 2."""
    with pytest.raises(
        UsageError, match=r"^--zarr-shard 128: format 2 has no shards; add --zarr-format 3, or --zarr-shard none$"
    ):
        fresh.again(zarr_shard=128)
    with pytest.raises(UsageError, match=r"^--zarr-shard 40: must be a multiple of --chunk, 16$"):
        stitch_raster(layered.output, tmp_path / "new.zarr", zarr_format=3, zarr_shard=40)
    assert not fresh.folder.exists()
