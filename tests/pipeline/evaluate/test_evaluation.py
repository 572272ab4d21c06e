"""A mosaic against a raster of labels: blocks give what the whole arrays give, and what does not fit is refused."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from pyproj import CRS
from small_mosaic import COLOURS, NAMES, TRANSFORM, UTM, make, paint

from pipeline.errors import InputError
from pipeline.evaluate import Confusion, Contingency, evaluate_mosaic
from pipeline.rasters.raster_spec import Grid
from pipeline.tiling import output_blocks

SHAPE = (300, 410)
PLACE = {"crs": UTM, "transform": TRANSFORM}


def pixels(seed=0, shape=SHAPE):
    """Classes in patches, unlabelled and nodata among them, objects that cross blocks, and any confidence."""
    random = np.random.default_rng(seed)
    coarse = random.choice([0, 1, 2, 3, 254, 255], [-(-size // 30) for size in shape])
    classes = np.kron(coarse, np.ones((30, 30)))[: shape[0], : shape[1]].astype(np.uint8)
    ids = np.kron(random.integers(0, 9, [-(-size // 70) for size in shape]), np.ones((70, 70), int))
    ids = ids[: shape[0], : shape[1]] * (classes < 254)
    return {
        "classes": classes,
        "confidence": random.integers(0, 255, shape).astype(np.uint8),
        "instances": ids.astype(np.uint32),
    }


def noisy(labels, values, seed=1):
    """Labels with a fifth of the pixels replaced."""
    random = np.random.default_rng(seed)
    return np.where(random.random(labels.shape) < 0.2, random.choice(values, labels.shape), labels)


@pytest.fixture
def mosaic(tmp_path):
    """300 x 410 pixels of five classes in chunks of 64, with instances."""
    return paint(make(tmp_path / "m.zarr", Grid(SHAPE, TRANSFORM), chunk=64), pixels())


@pytest.fixture
def labels(make_raster):
    """Class ids of the mosaic, but for some, 255 without label."""
    classes = pixels()["classes"]
    return noisy(np.where(classes > 4, 255, classes), [0, 1, 2, 255]).astype(np.uint8)


def test_classes_are_those_of_the_whole_arrays(mosaic, labels, make_raster, monkeypatch):
    """Over many blocks of one chunk each; without a run folder there are no seams, and a word says why."""
    monkeypatch.setattr("pipeline.evaluate.evaluation.SIDE", 64)
    path = make_raster("labels.tif", labels[None], **PLACE)
    heard = []
    found = evaluate_mosaic(mosaic.path, path, kind="classes", progress=heard.append)
    whole = Confusion(5, 255)
    whole.add(labels, pixels()["classes"])
    assert found.confusion is not None
    assert (found.confusion.matrix == whole.matrix).all()
    assert (found.ignored, found.nodata, found.compared) == (whole.ignored, whole.nodata, whole.pixels)
    assert min(found.ignored, found.nodata, whole.unlabelled) > 0
    assert (len(heard), heard[-1].done) == (5 * 7 + 1, 300 * 410)
    assert "m.run/run.json" in found.notes[0]


def test_instances_are_those_of_the_whole_arrays(mosaic, make_raster, monkeypatch):
    """Nodata of the mosaic is void; the scores of AP50 are mean confidences."""
    monkeypatch.setattr("pipeline.evaluate.evaluation.SIDE", 64)
    arrays = pixels()
    truth = noisy(arrays["instances"], range(9)).astype(np.uint32)
    found = evaluate_mosaic(mosaic.path, make_raster("ids.tif", truth[None], **PLACE))
    valid = arrays["classes"] != 255
    whole = Contingency(99)
    whole.add(np.where(valid, truth, 99), arrays["instances"])
    means = {id: arrays["confidence"][arrays["instances"] == id].mean() for id in whole.predictions}
    assert (found.kind, found.quality) == ("instances", whole.quality())
    assert found.ap50 == whole.detections(means).average_precision
    assert (found.ignored, found.nodata) == (0, (~valid).sum())
    given = evaluate_mosaic(mosaic.path, make_raster("ids.tif", truth[None], **PLACE), scores=dict.fromkeys(means, 1.0))
    assert given.ap50 == whole.detections().average_precision


def test_without_instances_there_is_nothing_to_compare(tmp_path, make_raster):
    """Instance labels for a semantic mosaic."""
    make(tmp_path / "m.zarr", Grid((10, 10)), None, instances=False)
    path = make_raster("ids.tif", (1, 10, 10))
    with pytest.raises(InputError, match="has no instances"):
        evaluate_mosaic(tmp_path / "m.zarr", path, kind="instances")


@pytest.mark.parametrize(
    ("nodata", "given", "ignored"),
    [(None, "file", 255), (4, "file", 4), (0, "file", 0), (4, 255, 255), (4, None, None)],
)
def test_what_is_ignored_in_classes(mosaic, labels, make_raster, nodata, given, ignored):
    """What is given, else the file's nodata, else 255."""
    path = make_raster("labels.tif", labels[None] if ignored == 255 else labels[None] % 5, nodata=nodata, **PLACE)
    found = evaluate_mosaic(mosaic.path, path, kind="classes", ignore=given)
    assert found.ignore == ignored
    assert (found.ignored > 0) == (ignored in (255, 0))


@pytest.mark.parametrize(("nodata", "ignored"), [(None, None), (0, None), (7, 7)])
def test_what_is_ignored_in_instances(mosaic, make_raster, nodata, ignored):
    """The file's nodata, unless it is 0: the background is what finds are wrong against."""
    path = make_raster("ids.tif", pixels()["instances"][None], nodata=nodata, **PLACE)
    assert evaluate_mosaic(mosaic.path, path).ignore == ignored


def test_a_mask_leaves_out_pixels(mosaic, make_raster):
    """Besides a value that is ignored."""
    mask = np.ones(SHAPE, bool)
    mask[:100] = False
    path = make_raster("labels.tif", np.ones((1, *SHAPE), np.uint8), mask=mask, **PLACE)
    assert evaluate_mosaic(mosaic.path, path, kind="classes").ignored == 100 * SHAPE[1]


def refusal(mosaic, path, **options):
    """The words of a refusal."""
    with pytest.raises(InputError) as caught:
        evaluate_mosaic(mosaic.path, path, **options)
    return str(caught.value)


def test_a_label_that_is_no_class_is_refused(mosaic, make_raster):
    """With file, value and place in the raster."""
    labels = np.zeros((1, *SHAPE), np.uint8)
    labels[0, 210, 333] = 9
    words = refusal(mosaic, make_raster("labels.tif", labels, **PLACE), kind="classes")
    assert "labels.tif: 9 at row 210, column 333 is no class" in words
    assert "--ignore 9" in words


def test_a_negative_id_is_refused(mosaic, make_raster):
    """Unless it is what is ignored. In the first 30 columns the mosaic has nodata, and labels do not matter."""
    path = make_raster("ids.tif", np.full((1, *SHAPE), -1, np.int16), **PLACE)
    assert "ids.tif: -1 at row 0, column 30 is no instance id" in refusal(mosaic, path)
    assert evaluate_mosaic(mosaic.path, path, ignore=-1).ignored == SHAPE[0] * SHAPE[1]


MOVED = (0.5, 0.0, 500001.25, 0.0, -0.5, 5400000.75)


@pytest.mark.parametrize(
    ("shape", "place", "words"),
    [
        ((300, 400), PLACE, ("300 x 400 pixels", "300 x 410 pixels")),
        (SHAPE, PLACE | {"transform": MOVED}, ("from x 500001.25", "from x 500000.25")),
        (SHAPE, PLACE | {"crs": "EPSG:32634"}, ("EPSG:32634", "EPSG:32633")),
    ],
)
def test_another_grid_is_refused(mosaic, make_raster, shape, place, words):
    """Size, place or CRS: both are named."""
    text = refusal(mosaic, make_raster("labels.tif", (1, *shape), **place), kind="classes")
    assert all(word in text for word in (*words, "labels.tif", "m.zarr", "gdalwarp"))


@pytest.mark.parametrize(
    ("place", "notes"),
    [
        (PLACE | {"transform": (0.5000001, 0.0, 500000.2500001, 0.0, -0.5, 5400000.75)}, 0),
        (PLACE | {"crs": CRS.from_epsg(32633).to_wkt("WKT1_GDAL")}, 0),
        ({}, 1),
    ],
)
def test_the_same_grid_in_other_words_is_taken(mosaic, labels, make_raster, place, notes):
    """Rounded, in another WKT, or nowhere, which contradicts nothing but is said."""
    path = make_raster("labels.tif", labels[None], **place)
    assert len(evaluate_mosaic(mosaic.path, path, kind="classes").notes) == 1 + notes


@pytest.mark.parametrize(
    ("array", "words"), [(np.zeros((3, *SHAPE), np.uint8), "3 bands"), (np.zeros((1, *SHAPE), np.float32), "float32")]
)
def test_what_holds_no_labels_is_refused(mosaic, make_raster, array, words):
    """Images, and numbers with a fraction."""
    assert words in refusal(mosaic, make_raster("image.tif", array, **PLACE))


def paint_blocks(mosaic, block):
    """The same block all over a mosaic."""
    for place in output_blocks(mosaic.shape, mosaic.side):
        mosaic.write(place.window, **block)


def test_memory_does_not_follow_the_raster(tmp_path, make_raster, monkeypatch):
    """Sixteen times the pixels, in blocks of the same size, take the same memory."""
    peaks = []
    monkeypatch.setattr("pipeline.evaluate.evaluation.SIDE", 256)
    for side in (512, 2048):
        mosaic = make(tmp_path / f"{side}.zarr", Grid((side, side)), None, classes=NAMES, colours=COLOURS, chunk=256)
        paint_blocks(mosaic, {name: values[:256, :256] for name, values in pixels().items()})
        path = make_raster(f"{side}.tif", np.ones((1, side, side), np.uint8), tiled=True, compress="deflate")
        tracemalloc.start()
        for kind in ("classes", "instances"):
            evaluate_mosaic(mosaic.path, path, kind=kind)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]


def test_json_has_no_number_that_json_has_not(tmp_path, make_raster):
    """Nothing could be compared: null, and the counts say why."""
    make(tmp_path / "m.zarr", Grid((10, 10)), None, instances=False)
    found = evaluate_mosaic(tmp_path / "m.zarr", make_raster("l.tif", np.zeros((1, 10, 10), np.uint8))).to_json()
    assert (found["miou"], found["compared"], found["nodata"]) == (None, 0, 100)
    assert Path(found["mosaic"]) == tmp_path / "m.zarr"
