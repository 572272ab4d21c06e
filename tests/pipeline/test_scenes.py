"""Drawn landscapes."""

from pathlib import Path

import numpy as np
import rasterio

from pipeline.scenes import CLASSES, COLOURS, WATER, draw_scene, write_scene


def test_a_scene_is_the_same_for_the_same_seed() -> None:
    """And another for another."""
    one, same, other = draw_scene(128, 1), draw_scene(128, 1), draw_scene(128, 2)
    np.testing.assert_array_equal(one.pixels, same.pixels)
    assert (one.classes != other.classes).any()


def test_a_scene_has_every_class() -> None:
    """At the size of the demonstration."""
    assert np.unique(draw_scene().classes).tolist() == list(range(len(CLASSES)))


def test_water_looks_like_water() -> None:
    """The mean colour of a class is what it is drawn with, to a level or two."""
    scene = draw_scene(512)
    np.testing.assert_allclose(scene.pixels[:, scene.classes == WATER].mean(1), COLOURS[WATER], atol=2)


def test_a_written_scene_lies_on_the_ground(tmp_path: Path) -> None:
    """1 m pixels from the corner down and to the right."""
    scene = draw_scene(64)
    write_scene(tmp_path / "scene.tif", scene, corner=(500000, 100000))
    with rasterio.open(tmp_path / "scene.tif") as file:
        assert (file.crs.to_epsg(), tuple(file.bounds)) == (32640, (500000, 99936, 500064, 100000))
        np.testing.assert_array_equal(file.read(), scene.pixels)
