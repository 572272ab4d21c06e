"""Areas and seams of a mosaic, against numpy and against the seams of the whole."""

import numpy as np
import pytest
from small_mosaic import SHAPE, make, paint, picture

from pipeline.export import survey as module
from pipeline.export.survey import survey
from pipeline.stitch.seams import seam_gradient_ratio
from pipeline.tiling import TilePlan

PLAN = TilePlan(SHAPE, (256, 256), (64, 64), 16)


@pytest.fixture
def mosaic(tmp_path):
    """Patches of all classes, in chunks of 256."""
    return paint(
        make(tmp_path / "a.zarr", chunk=256, instances=False), {k: picture()[k] for k in ("classes", "confidence")}
    )


def test_areas_are_exact(mosaic):
    """Of all ids, unlabelled and nodata among them."""
    found = survey(mosaic, None)
    ids, counts = np.unique(picture()["classes"], return_counts=True)
    assert found.shares == dict(zip(ids.tolist(), (counts / counts.sum()).tolist(), strict=True))
    assert (found.whole, found.seams) == (True, None)


def test_seams_are_those_of_the_whole(mosaic):
    """Block by block or at once."""
    found = survey(mosaic, PLAN)
    assert found.seams == seam_gradient_ratio(picture()["classes"].astype(np.uint32), PLAN, 255)


def test_of_a_large_mosaic_the_middle_is_looked_at(mosaic, monkeypatch):
    """Areas then come from pixels all over it."""
    monkeypatch.setattr(module, "SIDE", 256)
    monkeypatch.setattr(module, "MOST", 512)
    found = survey(mosaic, PLAN)
    assert (found.whole, found.looked_at) == (False, 512 * 512)
    exact = {id: (picture()["classes"] == id).mean() for id in found.shares}
    assert found.shares == pytest.approx(exact, abs=0.02)


def test_seams_of_objects_are_those_of_their_ids(tmp_path):
    """One class, two objects that meet on a tile's edge: the seam is seen."""
    pixels = picture()
    pixels["classes"][:] = 1
    pixels["instances"][:] = 1
    pixels["instances"][:, 192:] = 2
    found = survey(paint(make(tmp_path / "a.zarr"), pixels), PLAN)
    assert found.seams.ratio == np.inf
