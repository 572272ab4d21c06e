"""Stitching again, from what inference has stored: what a fresh run would give, and no run harmed."""

import pytest

from pipeline import run
from pipeline.errors import OutputError, RetryLater, UsageError
from pipeline.run import status, stitch_raster
from pipeline.spec import read_spec


@pytest.fixture
def no_cluster(monkeypatch):
    """Any attempt to start or reach a cluster fails."""

    def connect(config):
        raise AssertionError("a cluster was asked for")

    monkeypatch.setattr(run, "connect", connect)


STITCHED = [
    {"score_threshold": 0.7},
    {"sieve": 40},
    {"chunk": 32},
    {"zarr_format": 3},
    {"score_threshold": 0.99, "chunk": 32, "zarr_format": 3},
]
CASES = [(changes, None) for changes in STITCHED] + [(STITCHED[-1], "new.zarr"), (STITCHED[0], "deeper/down/new.zarr")]


@pytest.mark.parametrize(("changes", "place"), CASES)
def test_stitching_again_gives_what_a_fresh_run_gives(finished, digests, contents, changes, place):
    """Byte for byte, from records that are not touched; elsewhere, the old mosaic is not touched either."""
    new = place and finished.output.parent / place
    kept = finished.folder / "store" if new is None else finished.output
    before = contents(kept), contents(finished.folder / "store")
    report = stitch_raster(finished.output, new, **changes)
    assert report.inferred == 0
    assert (contents(kept), contents(finished.folder / "store")) == before
    alone = finished._replace(output=finished.output.parent / "alone" / "out.zarr")
    alone.again(**changes)
    expected = {name: digest for name, digest in digests(alone.output).items() if name.startswith(".zarr")}
    assert expected.items() <= digests(new or finished.output).items()


def test_stitching_there_and_back_gives_the_first_mosaic(finished, digests, original):
    """Nothing of the detour is left."""
    stitch_raster(finished.output, score_threshold=0.9, zarr_format=3)
    assert digests(finished.output) != digests(original.output)
    stitch_raster(finished.output, score_threshold=0.0, zarr_format=2)
    assert digests(finished.output) == digests(original.output)
    assert finished.again().rendered == 0


@pytest.mark.usefixtures("no_cluster")
def test_stitching_without_a_change_does_nothing(finished, contents):
    """As running does."""
    finished.again()
    before = contents(finished.output.parent)
    assert stitch_raster(finished.output).rendered == 0
    assert stitch_raster(finished.output, score_threshold=0.0).rendered == 0
    assert contents(finished.output.parent) == before


def test_a_copy_is_stitched_where_it_is(finished, original, contents):
    """Not where it was made."""
    before = contents(original.output.parent)
    stitch_raster(finished.output, score_threshold=0.9)
    assert contents(original.output.parent) == before
    assert read_spec(finished.folder).output == str(finished.output)


def test_a_stitched_mosaic_can_be_stitched_again(finished, digests):
    """In place, or on to a third, all from the one store."""
    second, third = (finished.output.parent / name for name in ("2/out.zarr", "3.zarr"))
    stitch_raster(finished.output, second, score_threshold=0.5)
    stitch_raster(second, score_threshold=0.7)
    stitch_raster(second, third)
    stitch_raster(finished.output, score_threshold=0.7)
    mosaics = [
        {k: v for k, v in digests(path).items() if k.startswith(".zarr")} for path in (finished.output, second, third)
    ]
    assert mosaics[0] == mosaics[1] == mosaics[2]
    assert status(third).complete


def test_stitching_never_takes_the_place_of_another_run(finished, contents):
    """Whose records would be lost."""
    other = finished._replace(output=finished.output.parent / "other.zarr")
    other.again()
    before = contents(finished.output.parent)
    with pytest.raises(OutputError, match=r"other\.zarr: a run with records of its own is there; take another path"):
        stitch_raster(finished.output, other.output, score_threshold=0.5)
    assert contents(finished.output.parent) == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"exact": True},
            "exact: cannot be changed without inferring again; stitch takes score_threshold, sieve, zarr_format",
        ),
        ({"tile_size": (96, 96)}, "tile_size: cannot be changed without inferring again"),
        ({"score_threshold": 2}, "--score-threshold 2: give a value from 0 to 1"),
        ({"chunk": 1}, "--chunk 1: give at least 16"),
    ],
)
def test_a_change_that_stitching_cannot_make_is_refused(finished, contents, changes, message):
    """Exit code 2, and nothing has changed on disk."""
    before = contents(finished.output.parent)
    with pytest.raises(UsageError, match=message):
        stitch_raster(finished.output, **changes)
    assert contents(finished.output.parent) == before


def test_stitching_with_blocks_missing_lists_them(finished, contents):
    """And may be tried again when they are done: exit code 75."""
    for name in ("0-1", "1-2"):
        (finished.folder / "records" / "infer" / f"{name}.json").unlink()
    before = contents(finished.output)
    for new in (None, finished.output.parent / "new.zarr"):
        with pytest.raises(RetryLater, match=r"2 tile blocks are missing \(0-1, 1-2\); finish them with run") as caught:
            stitch_raster(finished.output, new, score_threshold=0.5)
        assert caught.value.exit_code == 75
    assert contents(finished.output) == before


def test_a_stitched_mosaic_does_not_infer_into_another_run(finished):
    """Whose lock it does not hold."""
    new = finished.output.parent / "new.zarr"
    stitch_raster(finished.output, new)
    (finished.folder / "records" / "infer" / "0-0.json").unlink()
    with pytest.raises(RetryLater, match="tile blocks are missing; finish the run that they belong to first"):
        finished._replace(output=new).again()
