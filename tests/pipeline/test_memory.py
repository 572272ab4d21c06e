"""The plan's memory figure holds, and is not far above what a run takes."""

import pytest
import rasterio
import torch

from eomt_core import save_model
from eomt_core.card import ModelCard
from eomt_core.untrained import untrained_eomt
from pipeline.bench.memory import measure_run, write_repeated
from pipeline.config import RunConfig


@pytest.mark.slow
def test_a_run_stays_within_its_plan(make_raster, tmp_path):
    """Peak of all processes at most what was planned, and the plan at most half above it."""
    raster = write_repeated(make_raster("small.tif", (3, 500, 600)), tmp_path / "large.tif", (4096, 4096))
    model = tmp_path / "model"
    card = ModelCard("any", tuple("abcde"), tasks=("semantic",))
    save_model(untrained_eomt(torch.rand(1, 3, 512, 512), 5), model, card)
    config = RunConfig(model=str(model))
    row = measure_run(raster, tmp_path / "out.zarr", config, ["--model", str(model)])
    assert 1 <= row.ratio <= 1.5


def test_a_raster_is_written_with_the_bands_that_a_model_takes(make_raster, tmp_path):
    """One, for models of grey images."""
    raster = write_repeated(make_raster("small.tif", (1, 50, 60)), tmp_path / "large.tif", (100, 130), bands=1)
    with rasterio.open(raster) as dataset:
        assert (dataset.count, dataset.shape) == (1, (100, 130))
