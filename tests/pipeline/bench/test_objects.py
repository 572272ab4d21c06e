"""A model of objects, image by image."""

from pathlib import Path

import numpy as np
import pytest
import torch

from eomt_core import save_model
from eomt_core.card import ModelCard
from eomt_core.recipes import RECIPES, Recipe, new_model
from pipeline.bench.objects import ObjectsRow, measure_objects
from pipeline.evaluate import Quality
from pipeline.truth.pairs import find_pairs


def test_images_are_pooled_and_averaged():
    """Nine found of ten in one image, one of two in the other: pooled the objects count, in the mean the images."""
    row = ObjectsRow.of([Quality(9, 0, 1, 9.0), Quality(1, 1, 1, 1.0)])
    assert (row.images, row.matched, row.spurious, row.missed) == (2, 10, 1, 2)
    assert row.pq == pytest.approx(10 / 11.5, abs=1e-4)
    assert row.mean_pq == pytest.approx((9 / 9.5 + 1 / 2) / 2, abs=1e-4)


def test_sizes_have_rows_of_their_own(make_raster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Images of any size are padded to the lattice; objects that an untrained model misses are missed."""
    monkeypatch.setitem(RECIPES, "small", Recipe((8, 8, 8), 32, 3, 2, 1, 2, 16, 64, 9))
    torch.manual_seed(0)
    model = new_model("small", 1, semantic=False, in_channels=1)
    save_model(model, tmp_path / "model", ModelCard("small", ("object",), (0,), tasks=("instance",), bands=("1",)))
    for name, shape in (("a", (64, 64)), ("b", (50, 70))):
        labels = np.zeros((1, *shape), "uint16")
        labels[:, 5:15, 5:15], labels[:, 30:40, 30:40] = 1, 2
        make_raster(f"images/{name}.tif", (1, *shape))
        make_raster(f"labels/{name}.tif", labels)
    found = measure_objects(find_pairs(str(tmp_path / "images"), str(tmp_path / "labels")), str(tmp_path / "model"))
    assert list(found) == ["all", "64x64", "50x70"]
    assert found["all"].images == 2
    assert found["all"].matched + found["all"].missed == 4
