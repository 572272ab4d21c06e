"""Rasters that tests make, and the folder of real ones."""

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import Affine
from real_scenes import write_image
from small_disk import SmallDisk, mounted

from pipeline.devices import gpus

MakeRaster = Callable[..., Path]


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a CUDA device where there is none."""
    if item.get_closest_marker("gpu") and not gpus():
        pytest.skip("needs a CUDA device")


@pytest.fixture
def make_raster(tmp_path: Path) -> MakeRaster:
    """A factory of small rasters: `make_raster(name, array (bands, rows, cols) or shape, crs, transform, nodata, ...)`.

    A shape is filled with seeded noise. A relative name lies in the test's own folder. `mask` (rows, cols) becomes an
    internal mask, `colorinterp` and `descriptions` are set per band, anything else goes into rasterio's profile.
    """

    def make(
        name: str | Path,
        array: NDArray[Any] | Sequence[int],
        crs: Any = None,
        transform: Any = None,
        nodata: float | None = None,
        *,
        mask: NDArray[np.bool_] | None = None,
        colorinterp: Sequence[Any] | None = None,
        descriptions: Sequence[str] | None = None,
        **profile: Any,
    ) -> Path:
        pixels = array if isinstance(array, np.ndarray) else noise(tuple(array), profile.pop("dtype", "uint8"))
        count, height, width = pixels.shape
        shape = {"count": count, "height": height, "width": width, "dtype": pixels.dtype.name}
        place = {"crs": crs, "transform": Affine(*tuple(transform)[:6]) if transform is not None else None}
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with warnings.catch_warnings(), rasterio.Env(GDAL_TIFF_INTERNAL_MASK="YES"):
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(
                path, "w", **{"driver": "GTiff"} | shape | place | {"nodata": nodata} | profile
            ) as dataset:
                if colorinterp is not None:  # before the pixels: a TIFF's header is set by then
                    dataset.colorinterp = colorinterp
                dataset.write(pixels)
                if mask is not None:
                    dataset.write_mask(mask)
                for index, description in enumerate(descriptions or (), 1):
                    dataset.set_band_description(index, description)
        return path

    return make


def noise(shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    """Numbers that fill a type: the same ones for the same shape."""
    random = np.random.default_rng(7)
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return random.random(shape).astype(kind)
    limits = np.iinfo(kind)
    return random.integers(limits.min, limits.max, shape, dtype=kind, endpoint=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A file system of 32 MB."""
    with mounted(tmp_path / "disk", megabytes=32) as disk:
        if disk is None:
            pytest.skip("only root mounts file systems, and not in every container")
        yield disk


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The real data: `$EOMT_DATA`, else the folder shared/data beside the checkout."""
    given = os.environ.get("EOMT_DATA")
    path = Path(given) if given else Path(__file__).parents[2] / "shared" / "data"
    if not path.is_dir():
        pytest.skip(f"the real data are not at {path}; set EOMT_DATA")
    return path


@pytest.fixture(scope="session")
def scene7(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Aerial scene 7 of the real data: 6184 x 5450 pixels, red, green, blue, without a georeference."""
    return write_image(data_dir, 7, tmp_path_factory.mktemp("scenes") / "tile7_rgb.tif")
