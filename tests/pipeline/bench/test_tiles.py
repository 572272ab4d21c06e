"""A model's scores at other tile sizes: which ways there are, and that a perfect model is perfect in each."""

from pathlib import Path

import numpy as np
import pytest

from eomt_core.palette import save_palette
from pipeline.bench.tiles import measure_tiles, ways
from pipeline.config import RunConfig
from pipeline.truth.pairs import find_pairs


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    """A model that tells red from green at 64 pixels."""
    return RunConfig(model=str(save_palette(tmp_path / "model", [(1, 0, 0), (0, 1, 0)], tile=64)))


def test_the_training_size_comes_first(config: RunConfig):
    """Then two overlaps, three sizes, one that is no square, and other views."""
    found = [(way.tile_size, way.overlap, way.tta) for way in ways(config, ("flips",))]
    sizes = [(64, 64)] * 3 + [(48, 48), (96, 96), (128, 128), (48, 96), (64, 64)]
    assert [size for size, _, _ in found] == sizes
    assert [overlap for _, overlap, _ in found] == ["0.25", "0", "0.5", *["0.25"] * 5]
    assert [tta for _, _, tta in found] == ["none"] * 7 + ["flips"]


def test_scenes_are_scored_together(make_raster, config: RunConfig, tmp_path: Path):
    """One scene is all right, and of the other, as large, half: three quarters of the pixels are."""
    red, green = np.zeros((3, 64, 64), "uint8"), np.zeros((3, 64, 64), "uint8")
    red[0], green[1] = 255, 255
    for name, image, classes in (("a", red, 0), ("b", green, 1)):
        make_raster(f"images/{name}.tif", image)
        labels = np.full((1, 64, 64), classes, "uint8")
        labels[:, 32:] = 0
        make_raster(f"labels/{name}.tif", labels, nodata=255)
    pairs = find_pairs(str(tmp_path / "images"), str(tmp_path / "labels"))
    row = measure_tiles(pairs, next(iter(ways(config, ()))))
    assert row.accuracy == 0.75
    assert row.iou == (0.6667, 0.5)
    assert row.miou == pytest.approx(0.5833, abs=1e-4)
