"""Seams: the measure itself, and a real scene on which pasted tiles show and blended ones do not."""

import warnings

import numpy as np
import pytest
import rasterio
import torch
from rasterio.errors import NotGeoreferencedWarning
from rasterio.windows import Window

from eomt_core import save_model
from eomt_core.card import ModelCard
from eomt_core.untrained import untrained_eomt
from pipeline import RunConfig, open_mosaic, segment_raster
from pipeline.scenes import read_samples
from pipeline.steps.journal import Journal
from pipeline.stitch.label import enlarge
from pipeline.stitch.seams import phantom_lines, seam_gradient_ratio, seam_lines
from pipeline.store import Store
from pipeline.tiling import TilePlan

PLAN = TilePlan((1000, 1000), (256, 256), (64, 64), 16)
SIDES = {"width": 3000, "height": 3000}


def test_noise_has_no_seams():
    """Changes are as likely on the lines as off them."""
    noise = np.random.default_rng(0).integers(0, 4, PLAN.shape)
    assert seam_gradient_ratio(noise, PLAN, 255).relative == pytest.approx(1, abs=0.03)


def test_a_step_at_every_cut_is_seen():
    """Noise that changes its classes at each cut has more changes there."""
    noise = np.random.default_rng(0).integers(0, 2, PLAN.shape)
    cuts = [line for line in seam_lines(PLAN.rows) if line % 192 == 32]
    noise += 2 * (np.searchsorted(cuts, np.arange(PLAN.shape[0]), side="right") % 2)[:, None]
    assert seam_gradient_ratio(noise, PLAN, 255).relative > 1.1


def test_changes_to_nodata_do_not_count():
    """A collar is no seam."""
    image = np.zeros(PLAN.shape, int)
    image[: seam_lines(PLAN.rows)[0]] = 255
    assert seam_gradient_ratio(image, PLAN, 255).ratio == 0


def test_phantom_lines_meet_no_seam():
    """Else they would measure what they are to be compared with."""
    assert not set(phantom_lines(PLAN.rows)) & set(seam_lines(PLAN.rows))


@pytest.fixture(scope="module")
def scene(scene7, tmp_path_factory):
    """Three thousand pixels a side from the middle of scene 7: seven tiles a side."""
    path = tmp_path_factory.mktemp("scene") / "middle.tif"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(scene7) as whole, rasterio.open(path, "w", **whole.profile | SIDES) as middle:
            middle.write(whole.read(window=Window(1500, 1200, SIDES["width"], SIDES["height"])))
    return path


@pytest.fixture(scope="module")
def stitched(scene, tmp_path_factory):
    """The classes of the scene by the model that is alive, and the run's spec and store."""
    folder = tmp_path_factory.mktemp("seams")
    samples = torch.from_numpy(read_samples(scene, 256)).float() / 255
    card = ModelCard("alive", tuple("abcdefgh"), tasks=("semantic",))
    save_model(untrained_eomt(samples, 8), model := folder / "model", card)
    segment_raster(scene, folder / "out.zarr", RunConfig(model=str(model), overlap="0.25"))
    journal = Journal.of(folder / "out.zarr")
    spec = journal.spec()
    return (
        open_mosaic(folder / "out.zarr").classes[:],
        spec,
        Store(journal.folder / "store", spec.plan, spec.record_layout),
    )


def pasted(spec, store):
    """The same store without blending: each tile alone up to the cuts midway to its neighbours."""
    classes = np.empty(spec.plan.shape, np.uint8)
    rows, cols = map(owned, (spec.plan.rows, spec.plan.cols))
    for tile in spec.plan.covering(spec.plan.raster):
        planes = [enlarge(np.pad(plane.astype(np.uint32), 1, mode="edge"), 4) for plane in store.read("scores", tile)]
        here, there = rows[tile.row], cols[tile.col]
        part = np.s_[here.start - tile.window.row : here.stop - tile.window.row,
                     there.start - tile.window.col : there.stop - tile.window.col]  # fmt: skip
        classes[here, there] = np.argmax(planes, 0)[part]
    return classes


def owned(axis):
    """The pixels of each tile along one axis, from cut to cut."""
    cuts = [(start + end + axis.tile) // 2 for start, end in zip(axis.origins[1:], axis.origins, strict=False)]
    return [slice(*pair) for pair in zip([0, *cuts], [*cuts, axis.size], strict=True)]


@pytest.mark.slow
def test_the_map_of_the_real_scene_is_alive(stitched):
    """Four classes or more above 5 % of the area, and 1 to 20 % of neighbours differ; else the next test is void."""
    classes, _, _ = stitched
    shares = np.bincount(classes.ravel()) / classes.size
    assert (shares > 0.05).sum() >= 4
    assert 0.01 <= (classes[1:] != classes[:-1]).mean() <= 0.2


@pytest.mark.slow
def test_pasted_tiles_show_on_the_real_scene_and_blended_ones_do_not(stitched):
    """At an overlap of a quarter: 1.5 or more without blending, 1.1 or less with it."""
    classes, spec, store = stitched
    without = seam_gradient_ratio(pasted(spec, store), spec.plan, 255)
    assert min(without.ratio, without.relative) >= 1.5
    assert seam_gradient_ratio(classes, spec.plan, 255).relative <= 1.10
    print(f"pasted {without.relative:.2f}, blended {seam_gradient_ratio(classes, spec.plan, 255).relative:.3f}")
