"""With a model that sees one cell at a time, the mosaic is what the model says of the whole image, bit for bit."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from eomt_core import load_model
from eomt_core.postprocess import fold_scores
from pipeline import RunConfig, open_mosaic, segment_raster
from pipeline.steps.tasks import Tasks

STRIDE = 4


def whole(palette, image):
    """What the model says of the whole image, in float64: scores per cell, enlarged, best class; 254 without any."""
    height, width = image.shape[1:]
    padded = np.pad(image, ((0, 0), (0, -height % 16), (0, -width % 16)), mode="edge")
    scores = fold_scores(load_model(palette)(torch.from_numpy(padded)[None] / 255))
    codes = (scores.double() * 1024).round()
    enlarged = F.interpolate(codes, scale_factor=STRIDE, mode="bilinear", align_corners=False)[0]
    classes = torch.where(enlarged.amax(0) > 0, enlarged.argmax(0), 254)
    return classes.numpy()[:height, :width]


def mosaic(make_raster, tmp_path, palette, image, **options):
    """The classes of a run over the image."""
    raster = make_raster("painted.tif", image)
    segment_raster(raster, tmp_path / "out.zarr", RunConfig(model=palette, **options))
    return open_mosaic(tmp_path / "out.zarr").classes[:]


@pytest.mark.parametrize("tile", [(64, 64), (96, 64), (128, 128), (512, 512)])
@pytest.mark.parametrize("overlap", ["0", "16", "0.25", "50%"])
def test_every_tile_size_and_overlap_gives_the_whole_image(make_raster, tmp_path, palette, painted, tile, overlap):
    """How the image is cut leaves no trace."""
    image = painted((203, 331))
    made = mosaic(make_raster, tmp_path, palette, image, tile_size=tile, overlap=overlap, tile_block=2, chunk=64)
    assert (made == whole(palette, image)).all()


@pytest.mark.parametrize("shape", [(5, 3), (1, 200), (200, 1), (63, 63), (64, 64), (65, 112), (111, 113), (112, 160)])
def test_odd_raster_sizes_give_the_whole_image(make_raster, tmp_path, palette, painted, shape):
    """Smaller than a tile, one pixel wide, a whole number of strides, one more and one less."""
    image = painted(shape)
    made = mosaic(make_raster, tmp_path, palette, image, tile_size=(64, 64), overlap="16", tile_block=2, chunk=64)
    assert (made == whole(palette, image)).all()


def test_the_order_of_the_blocks_does_not_matter(make_raster, tmp_path, palette, painted, monkeypatch):
    """Backwards gives the same bytes."""
    forward = Tasks.of
    monkeypatch.setattr(Tasks, "of", lambda run, step: dict(reversed(forward(run, step).items())))
    image = painted((203, 331))
    made = mosaic(make_raster, tmp_path, palette, image, tile_size=(64, 64), tile_block=2, chunk=64)
    assert (made == whole(palette, image)).all()


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_worker_processes_give_the_whole_image(make_raster, tmp_path, palette, painted, workers):
    """Each writes its own blocks into the same mosaic."""
    image = painted((203, 331))
    made = mosaic(make_raster, tmp_path, palette, image, tile_size=(64, 64), tile_block=2, chunk=64, workers=workers)
    assert (made == whole(palette, image)).all()


def test_another_band_order_is_another_image(make_raster, tmp_path, palette, painted):
    """The equality above is not one of empty mosaics."""
    image = painted((100, 100))
    made = mosaic(make_raster, tmp_path, palette, image, tile_size=(64, 64), bands="3,2,1")
    assert (made != whole(palette, image)).mean() > 0.2
    assert (made == whole(palette, image[::-1])).all()
