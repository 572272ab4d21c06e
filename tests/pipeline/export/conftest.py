"""A mosaic and its run, of classes with hostile names."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from rasterio.transform import Affine

from eomt_core.palette import save_palette
from pipeline import RunConfig, segment_raster

GREYS = ((0.1, 0.1, 0.1), (0.5, 0.5, 0.5), (0.9, 0.9, 0.9))
HOSTILE = (
    "<script>window.pwned = 1</script>",
    "</script><img src=x onerror='window.pwned = 1'>",
    "land & $water$ 'x\"",
)


def run_in(folder: Path, shape: tuple[int, int], chunk: int = 256) -> tuple[Path, Path]:
    """A raster in three vertical bands of grey, and the complete mosaic of it."""
    raster, place = folder / "in.tif", Affine(1, 0, 3e5, 0, -1, 2e6)
    profile = {"driver": "GTiff", "count": 3, "height": shape[0], "width": shape[1], "dtype": "uint8", "nodata": 0}
    with rasterio.open(raster, "w", crs="EPSG:32640", transform=place, **profile) as dataset:
        dataset.write(bands(shape))
    model = save_palette(folder / "model", [[grey[0]] * 3 for grey in GREYS], HOSTILE, tile=64)
    config = RunConfig(model=str(model), overlap="16", tile_block=2, chunk=chunk, device="cpu")
    segment_raster(raster, folder / "out.zarr", config)
    return raster, folder / "out.zarr"


@pytest.fixture(scope="session")
def done(tmp_path_factory) -> tuple[Path, Path]:
    """A run over 360 x 720 pixels, for reading."""
    return run_in(tmp_path_factory.mktemp("done"), (360, 720))


@pytest.fixture
def make_run(tmp_path) -> Callable[..., tuple[Path, Path]]:
    """`make_run(shape)`: the like, to be harmed."""
    return lambda shape=(160, 240), **options: run_in(tmp_path, shape, **options)


def bands(shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Three greys from left to right; the first 64 rows of the last third have no data."""
    classes = np.broadcast_to(np.arange(shape[1]) * 3 // shape[1], shape)
    image = np.rint(np.asarray(GREYS)[classes].transpose(2, 0, 1) * 255).astype(np.uint8)
    image[:, :64, shape[1] * 2 // 3 :] = 0
    return image


@pytest.fixture
def facts() -> Callable[[Path], dict]:
    """`facts(page)`: what the page holds for its script."""

    def read(page: Path) -> dict:
        text = page.read_text()
        return json.loads(text.partition('type="application/json">')[2].partition("</script>")[0])

    return read
