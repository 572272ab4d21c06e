"""A validation sees every pixel of the scenes that are held out, and counts each once."""

import numpy as np
import pytest
from small_training import SHAPE, discs, stripes, write

from pipeline.finetune import validation
from pipeline.finetune.validation import quality_of, validate
from pipeline.preprocess import Scaling
from pipeline.rasters.raster import Reader, open_raster
from pipeline.truth.labels import IGNORE, open_labels
from pipeline.truth.samples import TrainingScene


@pytest.fixture
def scene(tmp_path):
    """`scene(truth, task, name)`: a scene whose pixels are its labels."""

    def make(truth, task="semantic", name="a"):
        raster = open_raster(write(tmp_path / f"{name}.tif", truth.astype(np.uint16)), needed=1)
        labels = open_labels(write(tmp_path / f"{name}-truth.tif", truth), raster, task, None)
        return name, TrainingScene(Reader(raster), labels, Scaling((0.0,), (1000.0,)), task == "instance")

    return make


def read_off(pixels):
    """The model that knows: pixels are labels."""
    return np.rint(1000 * pixels[0]).astype(np.int32)


def test_every_pixel_is_compared_once(scene):
    """Also at the edges, where tiles overhang."""
    scenes = [scene(stripes(), name="a"), scene(stripes((40, 33)), name="b")]
    verdict = validate(scenes, read_off, (32, 32), 8, 2)
    assert verdict.score == 1
    assert verdict.confusion.pixels == SHAPE[0] * SHAPE[1] + 40 * 33
    assert len(verdict.examples) == 4


def test_what_the_truth_does_not_say_is_not_compared(scene):
    """Nor what overhangs."""
    truth = stripes()
    truth[:, :30] = 255
    verdict = validate([scene(truth)], read_off, (32, 32), 8, 2)
    assert verdict.confusion.pixels == SHAPE[0] * (SHAPE[1] - 30)


def test_small_images_of_objects_are_seen_whole(scene):
    """Cut ones would not match; the model gets sizes on its lattice."""
    seen = []

    def label(pixels):
        seen.append(pixels.shape)
        return read_off(pixels)

    verdict = validate([scene(discs(), "instance")], label, (32, 32), 8, 1)
    assert seen == [(1, 72, 104)]
    assert (verdict.score, verdict.quality.matched) == (1, 20)


def test_large_images_of_objects_are_cut(scene, monkeypatch):
    """Into tiles."""
    monkeypatch.setattr(validation, "WHOLE", 64)
    assert validate([scene(discs(), "instance")], read_off, (40, 40), 8, 1).quality.matched == 20


def test_of_many_tiles_some_are_looked_at(scene, monkeypatch):
    """Evenly spread, and no more than that."""
    monkeypatch.setattr(validation, "MOST_TILES", 5)
    rows = []

    def label(pixels):
        rows.append(int(1000 * pixels[0, 0, 0]))
        return np.zeros(pixels.shape[1:], np.int32)

    truth = (np.arange(80) // 8).astype(np.uint8)[:, None].repeat(8, axis=1)
    validate([scene(truth)], label, (8, 8), 8, 10)
    assert rows == [0, 2, 4, 6, 8]


def test_of_many_scenes_none_stays_open(scene, monkeypatch):
    """A process may have about a thousand files open."""
    monkeypatch.setattr(validation, "MANY", 1)
    scenes = [scene(stripes(), name=name) for name in "abc"]
    validate(scenes, read_off, (64, 64), 8, 2)
    assert not any(one.reader._opened for _, one in scenes)


def test_an_object_where_nothing_is_known_is_no_fault():
    """Though one that is half known is compared where it is."""
    truth = np.zeros((4, 8), np.int32)
    truth[:, 4:] = IGNORE
    truth[0, :4] = 3
    answer = np.zeros((4, 8), np.int32)
    answer[0], answer[2, 5:] = 1, 2
    assert quality_of(truth, answer).scores.pq == 1
