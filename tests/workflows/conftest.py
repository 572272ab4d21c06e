"""A raster of three colours, a model that knows them, and the command."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from click.testing import CliRunner, Result
from rasterio.transform import Affine

from workflows.cli.main import cli

COLOURS = np.array([[200, 40, 40], [40, 200, 40], [40, 40, 200]], np.uint8)
STRIPE = 32

Command = Callable[..., Result]


def striped(shape: tuple[int, int]) -> np.ndarray:
    """Class ids (H, W): rows in stripes of 32, so that every cell has one class."""
    return np.broadcast_to((np.arange(shape[0]) // STRIPE % 3)[:, None], shape)


@pytest.fixture(scope="session")
def make_stripes(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Write a GeoTIFF of coloured stripes."""

    def make(name: str = "stripes.tif", shape: tuple[int, int] = (160, 224), folder: Path | None = None) -> Path:
        path = (folder or tmp_path_factory.mktemp("raster")) / name
        profile = {"driver": "GTiff", "count": 3, "dtype": "uint8", "crs": "EPSG:32640", "tiled": True}
        place = Affine(1, 0, 330000, 0, -1, 2780000)
        with rasterio.open(path, "w", height=shape[0], width=shape[1], transform=place, **profile) as file:
            file.write(COLOURS[striped(shape)].transpose(2, 0, 1))
        return path

    return make


@pytest.fixture(scope="session")
def raster(make_stripes: Callable[..., Path]) -> Path:
    """160 x 224 pixels in stripes."""
    return make_stripes()


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that knows the three colours; tiles of 64 pixels."""
    from eomt_core.palette import save_palette

    folder = tmp_path_factory.mktemp("models") / "palette"
    return save_palette(folder, (COLOURS / 255).tolist(), ["red", "green", "blue"], tile=64)


@pytest.fixture(scope="session")
def command() -> Command:
    """The command, called with arguments."""

    def call(*args: object) -> Result:
        return CliRunner().invoke(cli, [str(arg) for arg in args])

    return call


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, raster: Path, model: Path, command: Command) -> Path:
    """A complete mosaic, for reading."""
    mosaic = tmp_path_factory.mktemp("finished") / "masks.zarr"
    result = command("run", raster, "-m", model, "-o", mosaic, "--chunk", 64)
    assert result.exit_code == 0, result.stderr
    return mosaic


def one_line(result: Any) -> str:
    """The one line of a command that was not started."""
    assert (result.exit_code, result.stdout) == (2, "")
    (line,) = str(result.stderr).splitlines()
    assert line.startswith("eomt-batch: error: ")
    return line


@pytest.fixture
def refused() -> Callable[[Any], str]:
    """`refused(result)`: the one line of a command that was not started."""
    return one_line
