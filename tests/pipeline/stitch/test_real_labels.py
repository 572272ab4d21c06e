"""True labels of real images, told tile by tile: what is right in every tile must come back right."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import rasterio

from pipeline.stitch.queries import Rules
from pipeline.stitch.whole import stitched


@pytest.fixture(scope="session")
def nuclei(data_dir: Path):
    """Nine images of nuclei side by side: ids (768, 768), 0 for none."""
    tiles, count = [], 0
    for path in islice(sorted((data_dir / "nuclei" / "labels").iterdir()), 200):
        with rasterio.open(path) as dataset:
            ids = dataset.read(1).astype(np.int64)
        if ids.shape == (256, 256) and len(tiles) < 9:
            tiles.append(np.where(ids, ids + count, 0))
            count += int(ids.max())
    return np.block([tiles[:3], tiles[3:6], tiles[6:]])


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("overlap", [16, 32, 64, 128])
def test_true_nuclei_come_back_at_every_overlap(nuclei, overlap, tell, plan_of, numbered):
    """The same ids and pixels, where each pixel is a cell."""
    found = stitched(plan_of(nuclei.shape, overlap, tile=256), tell(nuclei), Rules())
    np.testing.assert_array_equal(numbered(found), numbered(nuclei))
