"""Every family, trained for a moment, segments a raster in tiles that do not show."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from eomt_core import save_model
from eomt_core.card import ModelCard
from eomt_core.family import PRESETS
from eomt_core.recipes import new_model
from eomt_core.training.batch import Batch
from eomt_core.training.trainer import Trainer, Training
from pipeline import RunConfig, open_mosaic, segment_raster
from pipeline.steps.journal import Journal
from pipeline.stitch.seams import seam_gradient_ratio

pytest.importorskip("vit_pytorch", reason="the extra vit-pytorch is not installed")

TILE, STEPS, SHAPE = 128, 20, (520, 600)
TIMM = ("vit_tiny_patch16_224", "vit_small_patch16_dinov3_qkvb")


def draw_blobs(shape: tuple[int, int], seed: int) -> NDArray[np.int64]:
    """Three classes (H, W) in blobs of some 20 pixels."""
    noise = np.random.default_rng(seed).normal(size=(3, *shape))
    return np.asarray(gaussian_filter(noise, (0, 6, 6)).argmax(0))


def show(classes: NDArray[np.int64], seed: int) -> NDArray[np.float32]:
    """Pixels (3, H, W) in [0, 1]: each class has a band, under noise."""
    noise = np.random.default_rng(seed).normal(size=(3, *classes.shape)) * 0.08
    bright = np.stack([classes == value for value in range(3)]) * 0.6 + 0.2
    return np.asarray((bright + noise).clip(0, 1), np.float32)


def draw_batch(seed: int) -> Batch:
    """Two crops with their truth."""
    truth = [draw_blobs((TILE, TILE), seed), draw_blobs((TILE, TILE), seed + 1)]
    return Batch(np.stack([show(each, seed) for each in truth]), np.stack(truth).astype(np.int32))


@pytest.fixture(scope="module", params=[*(name for name in PRESETS if name != "scalable-vit"), *TIMM])
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[float]]:
    """A model of each family after a short training, and the losses on the way."""
    torch.manual_seed(0)
    model = new_model(request.param, 3, semantic=True, image_size=TILE)
    trainer = Trainer(model, Training("semantic", matched=False, deep=False, ema=0.0), torch.device("cpu"))
    losses = [trainer.advance(draw_batch(1000 + 2 * step), step / STEPS) for step in range(STEPS)]
    kept = trainer.average.model
    kept.set_mask_probs((0.0,) * kept.num_blocks)
    folder = tmp_path_factory.mktemp("families") / request.param
    save_model(kept, folder, ModelCard("tiny", tuple("abc"), tasks=("semantic",)))
    return folder, losses


@pytest.mark.slow
def test_tiles_do_not_show(trained: tuple[Path, list[float]], tmp_path: Path) -> None:
    """On 30 tiles a seam has at most a tenth more changes than a line like it elsewhere, and the map is no flat one."""
    model, losses = trained
    assert losses[-1] < 0.6 * losses[0]
    truth = draw_blobs(SHAPE, seed=0)
    place = {"crs": "EPSG:32631", "transform": Affine(1.0, 0.0, 5e5, 0.0, -1.0, 5e6)}
    sizes = {"height": SHAPE[0], "width": SHAPE[1], "count": 3, "dtype": "uint8"}
    with rasterio.open(tmp_path / "in.tif", "w", driver="GTiff", **sizes, **place) as raster:
        raster.write((255 * show(truth, seed=0)).astype(np.uint8))
    output = tmp_path / "out.zarr"
    segment_raster(tmp_path / "in.tif", output, RunConfig(model=str(model), overlap="32"))
    classes = np.asarray(open_mosaic(output).classes[:])
    assert (classes == truth).mean() > 0.7
    assert seam_gradient_ratio(classes, Journal.of(output).spec().plan, 255).relative <= 1.10
