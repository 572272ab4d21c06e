"""Runs for objects: a model of colours, some of them things, over a raster whose answer is known."""

import hashlib
import random
import shutil
import signal
from itertools import product

import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio
import torch
from killed_run import ordered, run_until

from eomt_core import load_model
from eomt_core.postprocess import panoptic
from pipeline import RunConfig, open_mosaic, segment_raster
from pipeline.errors import RetryLater, UsageError
from pipeline.mosaic.codes import NO_CONFIDENCE, NO_INSTANCE
from pipeline.run import status, stitch_raster
from pipeline.verify import verify

THINGS = (2, 3, 4)
UNLABELLED, NODATA = 254, 255
OPTIONS = {"tile_size": (64, 64), "overlap": "32", "tile_block": 2, "chunk": 64, "device": "cpu"}


@pytest.fixture(scope="session")
def at_once(whole, countries):
    """What the model says of the whole raster in one forward: ids (H, W) from 1 with 0 for stuff, and classes."""
    with rasterio.open(whole[1]) as dataset:
        pixels = torch.from_numpy(dataset.read()).float()[None] / 255
    masks = load_model(countries).eval()(pixels)
    stored = masks._replace(mask_logits=masks.mask_logits.clamp(-8, 8 - 1 / 16))  # as far as records go
    found = panoptic(stored, pixels.shape[2:], (0, 1))[0]
    kinds = np.array([segment.class_id for segment in found.segments] + [UNLABELLED])[found.ids.numpy()]
    return np.where(np.isin(kinds, THINGS), kinds - 1, 0), kinds


def test_tiles_give_what_one_forward_gives(whole, land, at_once):
    """Classes to the pixel, things and stuff; what has no data is nodata."""
    found = open_mosaic(whole[2]).classes[...]
    np.testing.assert_array_equal(found, np.where(land < 0, NODATA, at_once[1]))


def test_every_thing_is_one_object(whole, land, at_once):
    """Also where it is larger than its tiles; stuff has no ids."""
    mosaic = open_mosaic(whole[2])
    np.testing.assert_array_equal(mosaic.instances[...], np.where(land < 0, NO_INSTANCE, at_once[0]))
    assert (mosaic.confidence[...][land < 0] == NO_CONFIDENCE).all()


def test_the_table_has_a_row_for_each_object(whole, land):
    """With the area and the box of its pixels in the mosaic, counted by numpy."""
    table = pq.read_table(whole[2].with_suffix(".run") / "objects.parquet").to_pylist()
    ids = open_mosaic(whole[2]).instances[...]
    assert [row["id"] for row in table] == [1, 2, 3]
    for row in table:
        rows, cols = np.nonzero(ids == row["id"])
        assert row["area"] == len(rows)
        assert (row["top"], row["left"], row["bottom"], row["right"]) == (
            rows.min(), cols.min(), rows.max() + 1, cols.max() + 1
        )  # fmt: skip
        assert row["name"] == f"class_{land[rows[0], cols[0]]}"
        assert 0.9 < row["score"] <= 1


def test_the_report_counts_objects(whole):
    """And no tile was saturated but those in which every colour was seen."""
    assert whole[0].objects == 3


@pytest.fixture(scope="session")
def sums(digests):
    """`sums(output)`: SHA-256 of all arrays of a run, and of its table of objects."""

    def of(output):
        table = (output.with_suffix(".run") / "objects.parquet").read_bytes()
        return digests(output) | {"objects.parquet": hashlib.sha256(table).hexdigest()}

    return of


ORDERS, CHUNKS = ("forward", "reversed", "shuffled"), (32, 64)
OFTEN = {(2, "shuffled", 64): (), (1, "reversed", 32): pytest.mark.again, (4, "forward", 32): pytest.mark.again}
"""Of the runs with worker processes, those that are not left for the night."""

WAYS = [
    pytest.param(*way, marks=OFTEN.get(way, pytest.mark.soak if way[0] else ()))
    for way in product((0, 1, 2, 4), ORDERS, CHUNKS)
]


@pytest.mark.parametrize(("workers", "order", "chunk"), WAYS)
def test_no_worker_no_order_and_no_chunk_changes_a_byte(whole, tmp_path, countries, sums, workers, order, chunk):
    """Of any array, or of the table of objects."""
    config = RunConfig(model=countries, **{**OPTIONS, "chunk": chunk, "workers": workers})
    with ordered(order):
        segment_raster(whole[1], tmp_path / "out.zarr", config)
    assert sums(tmp_path / "out.zarr") == sums(whole[2])


STEPS = ("infer", "link", "resolve", "render")


SEEDS = [pytest.param(seed, marks=pytest.mark.again if seed < 3 else pytest.mark.soak) for seed in range(1, 30)]


@pytest.mark.parametrize("seed", [0, *SEEDS])
def test_a_run_that_is_killed_in_every_step_ends_with_the_same_bytes(whole, tmp_path, countries, sums, forks, seed):
    """At a random moment of each, by SIGKILL; the same command goes on, whatever the order of its tasks."""
    rng, order = random.Random(seed), ORDERS[seed % 3]
    config = RunConfig(model=countries, **{**OPTIONS, "chunk": CHUNKS[seed % 2], "workers": seed % 5 // 2})
    run = whole[1], tmp_path / "out.zarr", config
    for step in STEPS:
        process = forks.Process(target=run_until, args=(step, rng.uniform(0, 0.03), order, *run))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert not status(tmp_path / "out.zarr").complete
    with ordered(order):
        segment_raster(*run)
    assert sums(tmp_path / "out.zarr") == sums(whole[2])


@pytest.mark.parametrize("step", STEPS)
def test_a_run_that_lost_a_step_goes_on_from_there(whole, harmed, countries, digests, step):
    """And ends with the same bytes."""
    shutil.rmtree(harmed.with_suffix(".run") / "records" / step)
    (harmed.with_suffix(".run") / "COMPLETE").unlink()
    shutil.rmtree(harmed)
    assert status(harmed).missing[step]
    segment_raster(whole[1], harmed, RunConfig(model=countries, **OPTIONS))
    assert digests(harmed) == digests(whole[2])
    assert (harmed.with_suffix(".run") / "objects.parquet").exists()


def test_damaged_queries_are_inferred_and_joined_again(whole, harmed, countries, sums):
    """Their order may be another one, so that all that was made of them is made anew."""
    path = next(path for path in (harmed.with_suffix(".run") / "store").rglob("c/*/*/*") if path.is_file())
    path.write_bytes(b"")
    assert [damage.step for damage in verify(harmed).damaged] == ["infer"]
    assert not status(harmed).done["render"]
    segment_raster(whole[1], harmed, RunConfig(model=countries, **OPTIONS))
    assert sums(harmed) == sums(whole[2])


def test_other_thresholds_need_no_inference_and_link_no_more_than_they_must(harmed, records):
    """What joins objects leaves the links alone; what cuts segments makes them anew."""
    folder = harmed.with_suffix(".run")
    before = records(folder, "infer"), records(folder, "link")
    stitch_raster(harmed, min_area=200)
    assert (records(folder, "infer"), records(folder, "link")) == before
    stitch_raster(harmed, score_threshold=0.5)
    assert records(folder, "infer") == before[0]
    assert not records(folder, "link").items() & before[1].items()


def test_stitching_with_min_area_drops_the_small_thing(harmed, land):
    """Its pixels are nobody's then."""
    stitch_raster(harmed, min_area=200)
    mosaic = open_mosaic(harmed)
    assert not mosaic.instances[...][land == 4].any()
    assert (mosaic.classes[...][124:136, 25:27] == UNLABELLED).all()
    assert len(pq.read_table(harmed.with_suffix(".run") / "objects.parquet")) == 2


def test_the_sieve_gives_a_small_thing_to_the_second_best(harmed, land, records):
    """Whatever its pixels would be without it; nothing is linked or resolved again, whatever the chunks."""
    before = [records(harmed.with_suffix(".run"), step) for step in ("infer", "link", "resolve")]
    stitch_raster(harmed, sieve=100)
    found = [open_mosaic(harmed).array(name)[...] for name in ("classes", "instances", "confidence")]
    assert not found[1][land == 4].any()
    assert len(pq.read_table(harmed.with_suffix(".run") / "objects.parquet")) == 2
    for chunk in (16, 48):
        stitch_raster(harmed, chunk=chunk)
        for name, expected in zip(("classes", "instances", "confidence"), found, strict=True):
            np.testing.assert_array_equal(open_mosaic(harmed).array(name)[...], expected)
    assert [records(harmed.with_suffix(".run"), step) for step in ("infer", "link", "resolve")] == before


def test_stitching_there_and_back_gives_the_first_mosaic(whole, harmed, digests):
    """Nothing of the detour is left."""
    stitch_raster(harmed, min_area=200, chunk=32)
    assert digests(harmed) != digests(whole[2])
    stitch_raster(harmed, min_area=0, chunk=64)
    assert digests(harmed) == digests(whole[2])
    first, again = (pq.read_table(place.with_suffix(".run") / "objects.parquet") for place in (whole[2], harmed))
    assert again.equals(first)


def test_a_new_place_gets_links_of_its_own(whole, harmed, digests):
    """The old run stays as it is."""
    new = harmed.with_name("new.zarr")
    stitch_raster(harmed, new, mask_threshold=0.6)
    assert digests(harmed) == digests(whole[2])
    assert (new.with_suffix(".run") / "objects.parquet").exists()


def test_links_that_are_missing_are_made_again(harmed, whole, digests):
    """A file that somebody deleted."""
    for path in (harmed.with_suffix(".run") / "links").iterdir():
        path.unlink()
    shutil.rmtree(harmed.with_suffix(".run") / "records" / "render")
    stitch_raster(harmed)
    assert digests(harmed) == digests(whole[2])


def test_objects_cannot_be_stitched_from_missing_tiles(harmed):
    """Exit 75, with the blocks."""
    (harmed.with_suffix(".run") / "records" / "infer" / "0-1.json").unlink()
    with pytest.raises(RetryLater, match="0-1"):
        stitch_raster(harmed, min_area=5)


def test_the_reference_order_is_refused(whole, tmp_path, countries):
    """With the option, the task and why it needs no option."""
    with pytest.raises(UsageError, match=r"--exact: is for semantic runs; .*--task panoptic .* enlarged mask logits"):
        segment_raster(whole[1], tmp_path / "out.zarr", RunConfig(model=countries, exact=True, **OPTIONS))
    assert not (tmp_path / "out.run").exists()


@pytest.mark.parametrize("tta", ["flips", "d4"])
def test_a_model_that_every_view_tells_the_same_finds_the_same(whole, tmp_path, countries, tta):
    """The queries of all views are matched, in their places."""
    segment_raster(whole[1], tmp_path / "out.zarr", RunConfig(model=countries, tta=tta, **OPTIONS))
    one, other = (open_mosaic(output) for output in (whole[2], tmp_path / "out.zarr"))
    for name in ("classes", "instances"):
        np.testing.assert_array_equal(other.array(name)[...], one.array(name)[...])


def test_a_panoptic_model_may_run_semantic(whole, tmp_path, countries, land):
    """Without instances then."""
    config = RunConfig(model=countries, task="semantic", **OPTIONS)
    report = segment_raster(whole[1], tmp_path / "out.zarr", config)
    assert report.objects is None
    assert open_mosaic(tmp_path / "out.zarr").instances is None
    assert not (tmp_path / "out.run" / "objects.parquet").exists()
