"""A run from end to end: inferred once, stitched as often as one likes, and nothing done that stands already."""

import json
import os
import shutil
import time
from dataclasses import asdict
from itertools import pairwise

import numpy as np
import pytest
import rasterio
from damaged_raster import damage

from pipeline import open_mosaic, run
from pipeline.errors import OutputError, TransientError
from pipeline.run import status, stitch_raster
from pipeline.spec import read_spec
from pipeline.steps.journal import STALE_SECONDS
from pipeline.stitch.blend import blend
from pipeline.store import Store


@pytest.fixture
def no_cluster(monkeypatch):
    """Any attempt to start or reach a cluster fails."""

    def connect(config):
        raise AssertionError("a cluster was asked for")

    monkeypatch.setattr(run, "connect", connect)


@pytest.mark.usefixtures("no_cluster")
def test_a_finished_run_is_left_alone(finished, contents):
    """No cluster, no block, no file written; the report says so."""
    finished.again()  # which notes that the copy lies elsewhere
    before = contents(finished.output.parent)
    report = finished.again()
    assert (report.inferred, report.reused, report.rendered, report.tiles) == (0, 6, 0, 0)
    assert contents(finished.output.parent) == before


def test_the_report_is_what_was_done(fresh):
    """And the same stands in the run folder."""
    report = fresh.again()
    assert (report.pixels, report.inferred, report.reused, report.rendered) == (150 * 210, 6, 0, 4)
    assert set(report.seconds) == {"infer", "render"}
    assert set(report.parts) == {"read", "model", "write", "blend", "label"}
    assert json.loads((fresh.folder / "report.json").read_text()) == asdict(report)


def test_progress_goes_from_nothing_to_all(fresh):
    """Step by step, block by block, in pixels."""
    seen = []
    run.segment_raster(fresh.raster, fresh.output, fresh.config, seen.append)
    for step, blocks in (("infer", 6), ("render", 4)):
        told = [progress for progress in seen if progress.step == step]
        assert [told[0].done, told[0].block, told[-1].done] == [0, None, 150 * 210]
        assert len({progress.block for progress in told}) == blocks + 1
        assert all(one.done < other.done for one, other in pairwise(told))


def test_progress_counts_what_stands_already(finished):
    """As done, but not as fresh."""
    (finished.folder / "records" / "infer" / "0-1.json").unlink()
    seen = []
    run.segment_raster(finished.raster, finished.output, finished.config, seen.append)
    assert [(told.done, told.fresh, told.block) for told in seen] == [
        (150 * 210 - 96 * 96, 0, None),
        (150 * 210, 96 * 96, "0-1"),
    ]


def test_every_array_of_the_mosaic_has_every_pixel(original):
    """Valid ones have a class and a confidence, invalid ones are 255 in both."""
    mosaic = open_mosaic(original.output)
    with rasterio.open(original.raster) as dataset:
        valid = dataset.dataset_mask() > 0
    assert 0 < valid.mean() < 1
    for array in (mosaic.classes, mosaic.confidence):
        assert ((array[:] == 255) == ~valid).all()


def test_tiles_without_data_are_not_inferred(original, fresh):
    """Two of fifteen lie in the hole."""
    assert fresh.again().tiles == 13
    spec = read_spec(original.folder)
    store = Store(original.folder / "store", spec.plan, spec.record_layout)
    empty = [
        (tile.row, tile.col) for tile in spec.plan.covering(spec.plan.raster) if store.read("scores", tile) is None
    ]
    assert empty == [(0, 3), (0, 4)]


def test_only_nodata_has_no_weight(original):
    """Every valid pixel lies in a cell that some tile has seen."""
    spec = read_spec(original.folder)
    store = Store(original.folder / "store", spec.plan, spec.record_layout)
    known = blend(spec.plan, spec.plan.raster, 4, 5, lambda tile: store.read("scores", tile)).known[1:-1, 1:-1]
    pixels = known.repeat(4, 0).repeat(4, 1)[:150, :210] > 0
    assert not pixels.all()
    assert (pixels | ~store.valid(spec.plan.raster)).all()


def test_a_raster_of_nodata_alone_asks_no_model(make_raster, fresh):
    """It is finished in no time, and stored as nothing: a mosaic that is gone is not told by its chunks."""
    made = fresh._replace(raster=make_raster("empty.tif", np.zeros((3, 1700, 1900), "u1"), nodata=0))
    start = time.process_time()
    report = made.again(tile_size=(256, 256), chunk=512)
    assert time.process_time() - start < 5
    assert (report.tiles, "model" in report.parts) == (0, False)
    mosaic = open_mosaic(fresh.output)
    assert (mosaic.classes[:] == 255).all()
    assert (mosaic.confidence[:] == 255).all()
    assert not [path for path in (fresh.output / "0").rglob("*.*") if path.name[0].isdigit()]
    shutil.rmtree(fresh.output)
    made.again(tile_size=(256, 256), chunk=512)
    assert (open_mosaic(fresh.output).classes[:] == 255).all()


def test_a_mosaic_that_is_gone_is_rendered_again(finished, digests, original):
    """From the store alone, also its blocks of nothing but nodata."""
    shutil.rmtree(finished.output)
    report = finished.again()
    assert (report.inferred, report.rendered) == (0, 4)
    assert digests(finished.output) == digests(original.output)


def test_a_store_may_be_dropped_when_all_is_done(fresh, contents):
    """And is then not made again by the same command."""
    fresh.again(keep_store=False)
    assert not (fresh.folder / "store").exists()
    before = contents(fresh.output.parent)
    assert fresh.again(keep_store=False).inferred == 0
    assert fresh.again().inferred == 0
    assert contents(fresh.output.parent) == before
    assert status(fresh.output).complete
    with pytest.raises(OutputError, match="the per-tile records are not there; run again with --keep-store"):
        stitch_raster(fresh.output, score_threshold=0.5)


@pytest.mark.usefixtures("no_cluster")
def test_a_store_may_be_dropped_later(finished):
    """By the same command with --drop-store."""
    finished.again(keep_store=False)
    assert not (finished.folder / "store").exists()


def test_the_status_tells_what_is_done_and_what_is_missing(finished):
    """By step, with the names of the blocks."""
    assert status(finished.output).complete
    (finished.folder / "records" / "infer" / "1-2.json").unlink()
    next((finished.output / "0" / "classes").glob("2.*")).unlink()
    found = status(finished.output)
    assert found.missing == {"infer": ["1-2"], "render": ["1-0" if "1-0" in found.missing["render"] else "1-1"]}
    assert [len(found.done[step]) for step in ("infer", "render")] == [5, 3]
    assert not found.complete


@pytest.fixture
def damaged(make_raster, painted, fresh):
    """A run over a raster with one block that cannot be decoded, and a function that repairs it unseen."""
    raster = make_raster(
        "in.tif",
        painted((150, 210)),
        transform=(2, 0, 1000, 0, -2, 5000),
        tiled=True,
        blockxsize=64,
        blockysize=64,
        compress="deflate",
    )
    return fresh._replace(raster=raster), damage(raster, 2, 3, band=2)


def test_a_block_that_fails_stops_the_run_and_the_same_command_goes_on(damaged, records):
    """The error names block, file and window, and is an exit code of 1."""
    made, repair = damaged
    words = r"^tile block 1-[12] of \S+out\.run: \S+in\.tif: cannot read rows .*, columns .* copy the file again"
    with pytest.raises(TransientError, match=words) as caught:
        made.again()
    assert (caught.value.exit_code, "\n" in str(caught.value)) == (1, False)
    done = records(made.folder)
    assert 0 < len(done) < 6
    assert not status(made.output).complete
    repair()
    assert made.again().inferred == 6 - len(done)
    assert done.items() <= records(made.folder).items()


def test_an_object_that_is_lost_is_made_again_and_nothing_else(finished, original, digests, records):
    """Of the store, and of the mosaic."""
    before = records(finished.folder)
    spec = read_spec(finished.folder)
    (shard, *_) = Store(finished.folder / "store", spec.plan, spec.record_layout).objects(spec.plan.block(1, 0))
    shard.unlink()
    next((finished.output / "0" / "confidence").glob("0.*")).write_bytes(b"")
    report = finished.again()
    assert (report.inferred, report.rendered) == (1, 1)
    assert {name for name, record in records(finished.folder).items() if record != before[name]} == {"1-0"}
    assert digests(finished.output) == digests(original.output)


def test_a_run_sweeps_what_a_kill_has_left_long_ago(finished):
    """Shards half written may be large."""
    left = finished.folder / "store" / "scores" / "c" / "0.7f.partial"
    left.write_bytes(b"x")
    os.utime(left, (time.time() - STALE_SECONDS - 60,) * 2)
    (finished.folder / "records" / "infer" / "0-0.json").unlink()
    finished.again()
    assert not left.exists()


def test_half_a_store_is_not_taken_for_one(fresh):
    """Its metadata appear together, or are made again."""
    fresh.again()
    begun = fresh.folder / ".store.5f2a" / "store"
    begun.parent.mkdir()
    (fresh.folder / "store").rename(begun)
    (fresh.folder / "COMPLETE").unlink()
    assert fresh.again().inferred == 6
    assert status(fresh.output).complete
    assert not begun.parent.exists()
