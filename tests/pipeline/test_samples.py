"""Crops for training: the same for a seed and a step, pixels above their labels, and no more read than is shown."""

import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rasterio.enums import ColorInterp
from scipy.ndimage import maximum_filter, minimum_filter

from pipeline.preprocess import Scaling
from pipeline.rasters.raster import Grid, Pixels, Reader, open_raster
from pipeline.tiling import Window
from pipeline.truth import samples
from pipeline.truth.labels import IGNORE, open_labels
from pipeline.truth.samples import NONE, Augmentation, Sampler, TrainingScene, find_places

UNIT = Scaling((0.0,), (1.0,))


class Array:
    """An array (C, H, W) in the place of a raster or, of one band, of labels; it notes what is read of it."""

    def __init__(self, array, labels=False):
        self.array, self.labels = array, labels
        self.spec = SimpleNamespace(grid=Grid(array.shape[1:]))
        self.windows, self.closed = [], 0

    def read(self, window):
        """A window, which must lie inside."""
        assert window == window.intersect(Window(0, 0, *self.array.shape[1:]))
        self.windows.append(window)
        part = self.array[(..., *window.slices)]
        return part[0].astype(np.int32) if self.labels else Pixels(part, np.ones(part.shape[1:], bool))

    def close(self):
        """Count it."""
        self.closed += 1


def scene_of(labels, pixels=None, weight=1.0):
    """A scene of labels (H, W) whose pixels are the labels too, if no others are given."""
    pixels = labels[None].astype(np.float32) if pixels is None else pixels
    return TrainingScene(Array(pixels), Array(labels[None], labels=True), UNIT, weight=weight)


def blocks(shape, seed=0, side=16):
    """Labels 0 to 9 in squares."""
    coarse = np.random.default_rng(seed).integers(0, 10, [-(-length // side) for length in shape])
    return np.kron(coarse, np.ones((side, side), int))[: shape[0], : shape[1]]


def numbers(shape):
    """A label of its own for each pixel, and pixels that are these labels between 0 and 1."""
    labels = np.arange(shape[0] * shape[1]).reshape(shape)
    return labels, (labels / labels.size)[None].astype(np.float32)


def same(one, other):
    """Whether two batches are the same to the bit."""
    return all(map(np.array_equal, one, other))


def test_a_batch_depends_on_seed_and_step_alone():
    """Not on what was read before, nor on who reads."""
    scenes = [scene_of(blocks((90, 120), seed)) for seed in range(3)]
    first, second = (Sampler(scenes, (16, 8, 24), 4, seed=5) for _ in range(2))
    wanted = [first.batch(step) for step in range(5)]
    assert same(second.batch(3), wanted[3])
    assert same(second.batch(1), wanted[1])
    ahead = second.batches(2)
    assert all(same(next(ahead), wanted[step]) for step in (2, 3, 4))
    ahead.close()
    assert not same(Sampler(scenes, (16, 8, 24), 4, seed=6).batch(0), wanted[0])


def test_batches_have_about_as_many_pixels_whatever_the_size():
    """The first size every other time, so many crops of it as asked for."""
    sampler = Sampler([scene_of(blocks((90, 120)))], (16, 8, 32), 8, seed=0)
    shapes = [sampler.batch(step).labels.shape for step in range(12)]
    assert shapes[::2] == [(8, 16, 16)] * 6
    assert set(shapes) == {(8, 16, 16), (32, 8, 8), (2, 32, 32)}


@settings(deadline=None, max_examples=25)
@given(st.tuples(st.integers(1, 70), st.integers(1, 70)), st.sampled_from([8, 16, 40]), st.integers(0, 99))
def test_pixels_stay_above_their_labels_when_turned(shape, size, seed):
    """Each label is known by its pixel, also where the scene ends in the crop; what overhangs is ignored."""
    labels, pixels = numbers(shape)
    sampler = Sampler([scene_of(labels, pixels)], (size,), 3, seed, dataclasses.replace(NONE, turn=True))
    batch = sampler.batch(0)
    known = batch.labels != IGNORE
    assert np.allclose(batch.pixels[:, 0][known], batch.labels[known] / labels.size, atol=1e-6)
    shown = [min(size, length) for length in shape]
    assert (known.sum((1, 2)) == shown[0] * shown[1]).all()


@settings(deadline=None, max_examples=25)
@given(st.tuples(st.integers(30, 160), st.integers(30, 160)), st.floats(0.5, 2.0), st.integers(0, 99))
@example((41, 153), 2.0, 75)
def test_pixels_stay_above_their_labels_when_zoomed(shape, zoom, seed):
    """Away from the borders of classes, where pixels are mixed; there may be one at the edge of the crop."""
    labels = blocks(shape, seed)
    scene = scene_of(labels, labels[None].astype(np.float32) / 10)
    batch = Sampler([scene], (48,), 2, seed, Augmentation((zoom, zoom), (0, 0, 0, 0))).batch(0)
    for pixels, found in zip(batch.pixels[:, 0], batch.labels, strict=True):
        lowest, highest = (
            extreme(found, 5, mode="constant", cval=IGNORE) for extreme in (minimum_filter, maximum_filter)
        )
        inner = (lowest == highest) & (found != IGNORE)
        assert np.allclose(pixels[inner], found[inner] / 10, atol=0.01)


def test_zoom_shows_more_or_less_of_the_ground():
    """At 2, a crop of 20 pixels shows 40 of the raster."""
    labels, pixels = numbers((200, 200))
    sampler = Sampler([scene_of(labels, pixels)], (20,), 1, 0, dataclasses.replace(NONE, zoom=(2.0, 2.0)))
    rows = sampler.batch(0).labels[0] // 200
    assert rows[-1, 0] - rows[0, 0] == 38


def test_what_overhangs_repeats_the_edge():
    """So that no model learns from a frame."""
    labels = np.full((4, 6), 3)
    batch = Sampler([scene_of(labels, np.full((1, 4, 6), 0.5, np.float32))], (16,), 2, 0, NONE).batch(0)
    assert (batch.pixels == 0.5).all()
    assert ((batch.labels == 3).sum((1, 2)) == 24).all()
    assert (batch.labels == IGNORE).sum() == 2 * (256 - 24)


@pytest.mark.parametrize("how", ["nodata", "mask", "alpha"])
def test_pixels_that_are_not_there_have_no_label(make_raster, how):
    """However the file says so; their pixels are 0."""
    pixels = np.full((4, 40, 40), 200, np.uint8)
    pixels[:, :10] = 0
    colours = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]
    image = {
        "nodata": lambda: make_raster("i.tif", pixels[:3], nodata=0),
        "mask": lambda: make_raster("i.tif", pixels[:3], mask=pixels[0] > 0),
        "alpha": lambda: make_raster("i.tif", pixels, colorinterp=colours),
    }[how]()
    spec = open_raster(image)
    labels = open_labels(make_raster("l.tif", np.ones((1, 40, 40), np.uint8)), spec, "semantic", ("a", "b"))
    found = TrainingScene(Reader(spec), labels, Scaling((0.0,) * 3, (255.0,) * 3)).read(Window(0, 0, 40, 40))
    assert (found[1][:10] == IGNORE).all()
    assert (found[1][10:] == 1).all()
    assert found[0][:, :10].max() == 0
    assert found[0][:, 10:] == pytest.approx(200 / 255)


def test_numbers_that_are_none_do_no_harm(make_raster):
    """NaN and infinities in a float raster are nodata; the rest is scaled and clipped."""
    pixels = np.linspace(-1, 3, 400, dtype=np.float32).reshape(1, 20, 20)
    pixels[0, :2] = np.nan
    pixels[0, 2] = np.inf
    spec = open_raster(make_raster("i.tif", pixels), needed=1)
    labels = open_labels(make_raster("l.tif", np.zeros((1, 20, 20), np.uint8)), spec, "semantic", ("a",))
    unit, found = TrainingScene(Reader(spec), labels, UNIT).read(Window(0, 0, 20, 20))
    assert (unit.min(), unit.max()) == (0, 1)
    assert (found[:3] == IGNORE).all()
    assert (found[3:] == 0).all()


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000), st.tuples(*[st.floats(0, 2)] * 4))
def test_any_light_keeps_pixels_between_0_and_1(seed, light):
    """And there is no number that is none."""
    labels, pixels = numbers((40, 40))
    batch = Sampler([scene_of(labels, pixels)], (16,), 4, seed, Augmentation((0.7, 1.4), light)).batch(0)
    assert np.isfinite(batch.pixels).all()
    assert (batch.pixels.min() >= 0) & (batch.pixels.max() <= 1)


def test_without_light_pixels_are_those_of_the_raster():
    """To a rounding."""
    labels, pixels = numbers((40, 40))
    batch = Sampler([scene_of(labels, pixels)], (40,), 1, 0, NONE).batch(0)
    assert np.abs(batch.pixels[0] - pixels).max() < 1e-6


def spots(shape=(300, 400)):
    """Class 0 everywhere but for two squares of 3 pixels a side, of the classes 1 and 2."""
    labels = np.zeros(shape, int)
    labels[20:23, 380:383], labels[298:, 5:8] = 1, 2
    return labels


def test_a_crop_around_a_class_has_it():
    """Be it at the scene's very edge, and whatever the zoom."""
    labels = np.where(spots() == 2, 2, IGNORE)
    sampler = Sampler([scene_of(labels)], (16,), 50, 0, balanced=1.0)
    assert (sampler.batch(0).labels == 2).any((1, 2)).all()


def test_classes_are_drawn_evenly():
    """A third of the crops around each of three classes, though two of them are one pixel in 13 000."""
    scenes = [scene_of(np.zeros((300, 400), int), weight=9.0), scene_of(spots())]
    batch = Sampler(scenes, (16,), 300, 0, balanced=1.0).batch(0)
    shares = [(batch.labels == kind).any((1, 2)).mean() for kind in (1, 2)]
    assert shares == pytest.approx([1 / 3, 1 / 3], abs=0.08)


def test_where_nothing_is_balanced_crops_are_anywhere():
    """Scenes by their weight."""
    scenes = [scene_of(np.full((50, 50), kind), weight=kind) for kind in (1, 3)]
    batch = Sampler(scenes, (8,), 400, 0, balanced=0.0).batch(0)
    assert (batch.labels.max((1, 2)) == 3).mean() == pytest.approx(0.75, abs=0.07)


def test_places_are_spread_over_a_class(monkeypatch):
    """As many from each window as the window has of it; those of a small class are all kept."""
    monkeypatch.setattr(samples, "STRIP", 64)
    labels = np.zeros((128, 128), int)
    labels[:64, 64:] = IGNORE
    labels[100:, 100:] = 7
    found = find_places(scene_of(labels), seed=0)
    assert {tuple(place) for place in found[7]} == {(row, col) for row in range(100, 128) for col in range(100, 128)}
    counts = np.histogram2d(*found[0].T, bins=(2, 2), range=((0, 128), (0, 128)))[0]
    assert len(found[0]) == pytest.approx(samples.PLACES, abs=2)
    assert counts / counts.sum() == pytest.approx(np.array([[4096, 0], [4096, 3312]]) / 11504, abs=0.01)


def test_of_objects_one_and_all_are_a_kind():
    """Ids do not count as classes."""
    scene = dataclasses.replace(scene_of(np.array([[0, 5], [9, IGNORE]])), instances=True)
    assert {kind: len(places) for kind, places in find_places(scene, 0).items()} == {0: 1, 1: 2}


@settings(deadline=None, max_examples=25)
@given(st.tuples(st.integers(1, 400), st.integers(1, 400)), st.tuples(st.floats(0.01, 1), st.floats(1, 3)))
def test_no_more_is_read_than_a_crop_shows(shape, zoom):
    """A window per crop, of the crop's size times the zoom at most, of pixels and of labels alike."""
    scene = scene_of(blocks(shape))
    sampler = Sampler([scene], (16, 8), 4, 0, Augmentation(zoom))
    for array in (scene.reader, scene.labels):
        array.windows.clear()
    crops = sum(len(sampler.batch(step).pixels) for step in range(4))
    assert scene.reader.windows == scene.labels.windows
    assert len(scene.reader.windows) == crops
    assert max(max(window.height, window.width) for window in scene.reader.windows) <= np.ceil(16 * zoom[1])


def test_no_file_is_read_once_nobody_asks_any_more():
    """When the batches are closed what was asked for ahead is dropped, and no thread is left."""
    scene = scene_of(blocks((90, 90)))
    batches = Sampler([scene], (16,), 4, 0).batches()
    next(batches)
    batches.close()
    assert len(scene.reader.windows) <= 3 * 4
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("crops")]


def test_a_file_that_cannot_be_read_stops_the_training():
    """The error comes out where the batch would have."""
    scene = scene_of(blocks((90, 90)))
    sampler = Sampler([scene], (16,), 4, 0)
    scene.reader.array = None
    with pytest.raises((AttributeError, TypeError)):
        next(sampler.batches())


def test_a_scene_is_closed_by_one_thread_while_another_reads(make_raster):
    """No file is closed under a reader: a validation may look at the scenes that crops are taken from."""
    labels, _ = numbers((120, 160))
    spec = open_raster(make_raster("i.tif", labels[None].astype(np.uint16)), needed=1)
    truth = open_labels(make_raster("l.tif", labels[None].astype(np.uint16)), spec, "instance", None)
    scene = TrainingScene(Reader(spec), truth, UNIT, instances=True)

    def look(number):
        found = scene.read(Window(number, number, 60, 60))[1]
        scene.close()
        return np.array_equal(found, labels[number : number + 60, number : number + 60])

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(look, list(range(60)) * 2))


def test_of_many_scenes_none_stays_open(monkeypatch):
    """A process may have about a thousand files open."""
    monkeypatch.setattr(samples, "MANY", 2)
    scenes = [scene_of(blocks((40, 40), seed)) for seed in range(3)]
    Sampler(scenes, (16,), 8, 0).batch(0)
    assert sum(scene.reader.closed for scene in scenes) == 3 + 8
    few = [scene_of(blocks((40, 40), seed)) for seed in range(2)]
    Sampler(few, (16,), 8, 0).batch(0)
    assert sum(scene.reader.closed for scene in few) == 0
