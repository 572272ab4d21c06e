"""Drawn landscapes: the same for the same seed, all classes in each, and not to be told by colour alone."""

from pathlib import Path

import numpy as np
import pytest
import rasterio

from pipeline.scenes import CLASSES, Scene, draw_scene, read_samples, write_scene, write_truth

SEEDS = range(5)


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    """Some landscapes of 1024 x 1024 pixels."""
    return [draw_scene(1024, seed) for seed in SEEDS]


@pytest.fixture(scope="module")
def small() -> Scene:
    """A landscape that is quick to draw, of a side that is no multiple of anything."""
    return draw_scene(131, 1)


def nearest_mean_colour(scene: Scene) -> np.ndarray:
    """Classes (H, W) of the class means that are nearest to the pixels' colours."""
    colours = scene.pixels.reshape(3, -1).T.astype(np.float32)
    means = np.stack([colours[scene.classes.ravel() == number].mean(0) for number in range(len(CLASSES))])
    distance: np.ndarray = (means**2).sum(1) - 2 * colours @ means.T
    return np.asarray(distance.argmin(1).reshape(scene.classes.shape))


def mean_iou(found: np.ndarray, truth: np.ndarray) -> float:
    """Mean over the classes of the shared area by the joint area."""
    pairs = [(found == number, truth == number) for number in range(len(CLASSES))]
    return float(np.mean([(one & other).sum() / (one | other).sum() for one, other in pairs]))


def test_the_same_seed_draws_the_same_bytes(small: Scene) -> None:
    """Pixels and truth."""
    again = draw_scene(131, 1)
    assert small.pixels.tobytes() == again.pixels.tobytes()
    assert small.classes.tobytes() == again.classes.tobytes()


def test_another_seed_draws_another_scene(small: Scene) -> None:
    """Most pixels and many classes differ."""
    other = draw_scene(131, 2)
    assert (small.pixels != other.pixels).mean() > 0.9
    assert (small.classes != other.classes).mean() > 0.3


def test_pixels_and_truth_have_the_same_shape(small: Scene) -> None:
    """Three bands of bytes, and a byte for the class."""
    assert (small.pixels.shape, small.pixels.dtype.name) == ((3, 131, 131), "uint8")
    assert (small.classes.shape, small.classes.dtype.name) == ((131, 131), "uint8")


def test_each_scene_has_every_class(scenes: list[Scene]) -> None:
    """2 % of the pixels or more, and no other value."""
    for scene in scenes:
        counts = np.bincount(scene.classes.ravel())
        assert len(counts) == len(CLASSES)
        assert counts.min() >= 0.02 * scene.classes.size


def test_colour_alone_does_not_tell_the_classes(scenes: list[Scene]) -> None:
    """The nearest mean colour, with means of the scene's own truth, has an mIoU of 0.6 at most."""
    assert max(mean_iou(nearest_mean_colour(scene), scene.classes) for scene in scenes) <= 0.6


def test_nothing_is_painted_flat(scenes: list[Scene]) -> None:
    """In hardly any 3 x 3 pixels are all of one brightness, except where the sensor saturates."""
    for scene in scenes:
        green = scene.pixels[1].astype(int)
        flat = (np.ptp(np.lib.stride_tricks.sliding_window_view(green, (3, 3)), (2, 3)) == 0) & (
            green[1:-1, 1:-1] < 255
        )
        assert flat.mean() < 0.01


def test_scenes_are_lit_differently(scenes: list[Scene]) -> None:
    """Brightness, contrast and cast are each seed's own."""
    means = np.array([scene.pixels.mean((1, 2)) for scene in scenes])
    assert np.ptp(means.mean(1)) > 5
    assert np.ptp(means[:, 0] - means[:, 2]) > 3


def test_a_written_scene_lies_on_the_ground(small: Scene, tmp_path: Path) -> None:
    """1 m pixels from the corner down and to the right."""
    write_scene(tmp_path / "scene.tif", small, corner=(500000, 100000))
    with rasterio.open(tmp_path / "scene.tif") as file:
        assert (file.crs.to_epsg(), tuple(file.bounds)) == (32640, (500000, 99869, 500131, 100000))
        np.testing.assert_array_equal(file.read(), small.pixels)


def test_the_truth_lies_on_the_grid_of_its_scene(small: Scene, tmp_path: Path) -> None:
    """Same transform, same CRS, and what is nodata is no class."""
    write_scene(tmp_path / "scene.tif", small, "EPSG:32631", (1000, 2000))
    write_truth(tmp_path / "truth.tif", small, "EPSG:32631", (1000, 2000))
    with rasterio.open(tmp_path / "scene.tif") as scene, rasterio.open(tmp_path / "truth.tif") as truth:
        assert (truth.transform, truth.crs, truth.shape) == (scene.transform, scene.crs, scene.shape)
        assert (truth.count, truth.nodata) == (1, 255)
        np.testing.assert_array_equal(truth.read(1), small.classes)


def test_the_truth_names_and_colours_its_classes(small: Scene, tmp_path: Path) -> None:
    """As a viewer shows them."""
    write_truth(tmp_path / "truth.tif", small)
    with rasterio.open(tmp_path / "truth.tif") as truth:
        assert truth.tags()["classes"] == "building,land,road,vegetation,water"
        assert len({truth.colormap(1)[number] for number in range(len(CLASSES))}) == len(CLASSES)


def test_samples_are_windows_of_the_raster(small: Scene, tmp_path: Path) -> None:
    """The first is its upper left corner."""
    write_scene(tmp_path / "scene.tif", small)
    samples = read_samples(tmp_path / "scene.tif", 32, 4)
    assert samples.shape == (4, 3, 32, 32)
    np.testing.assert_array_equal(samples[0], small.pixels[:, :32, :32])
