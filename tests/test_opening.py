"""docs/opening.md: each recipe does what it says, copied as it stands into a folder with a mosaic."""

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from click.testing import CliRunner

from eomt_core.palette import save_palette
from pipeline import open_mosaic
from workflows.cli.main import cli

PAGE = (Path(__file__).parents[1] / "docs" / "opening.md").read_text(encoding="utf-8")
COLOURS = np.array([[200, 40, 40], [40, 200, 40], [40, 40, 200]], np.uint8)
NAMES = ["red", "green", "blue"]

gdal_needed = pytest.mark.skipif(shutil.which("gdalinfo") is None, reason="GDAL's tools are not installed")


def needs(package: str) -> Any:
    """Skip where a package is not installed."""
    return pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=f"{package} is not installed")


def blocks(heading: str, language: str) -> list[str]:
    """The code under a heading, block by block."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    found: list[str] = re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)
    assert found
    return found


def run_line(line: str) -> None:
    """One line of a shell; our own command in this process, others without the data folders of Python's packages."""
    words = shlex.split(line)
    if words[0] == "eomt-batch":
        done = CliRunner().invoke(cli, words[1:])
        assert done.exit_code == 0, done.stderr
        return
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("GDAL", "PROJ"))}
    told = subprocess.run(words, capture_output=True, text=True, env=environment)
    assert (told.returncode, told.stderr) == (0, ""), told.stderr


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `masks.zarr` and what stands beside it: stripes of three colours."""
    folder = tmp_path_factory.mktemp("made")
    ids = np.broadcast_to((np.arange(160) // 32 % 3)[:, None], (160, 224))
    profile = {"driver": "GTiff", "count": 3, "dtype": "uint8", "crs": "EPSG:32640", "height": 160, "width": 224}
    with rasterio.open(folder / "in.tif", "w", transform=rasterio.Affine(1, 0, 5, 0, -1, 500), **profile) as target:
        target.write(COLOURS[ids].transpose(2, 0, 1))
    save_palette(folder / "model", (COLOURS / 255).tolist(), NAMES, tile=64)
    run_line(f"eomt-batch run {folder}/in.tif -m {folder}/model -o {folder}/masks.zarr --levels 2 -q")
    return folder


@pytest.fixture
def there(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, as the working directory."""
    shutil.copytree(made, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return tmp_path / "copy"


@gdal_needed
def test_gdal_makes_a_tiff_and_a_picture(there: Path) -> None:
    """With the pixels, the place and the colours of the mosaic."""
    for line in blocks("GDAL", "sh")[0].splitlines():
        run_line(line)
    mosaic = open_mosaic(there / "masks.zarr")
    with rasterio.open(there / "classes.tif") as source:
        np.testing.assert_array_equal(source.read(1), mosaic.classes[:])
        assert (source.crs.to_epsg(), source.nodata) == (32640, 255)
        assert [source.colormap(1)[value][:3] for value in range(3)] == [
            tuple(bytes.fromhex(colour[1:])) for colour in mosaic.colours
        ]
    with rasterio.open(there / "overview.png") as source:
        assert (source.count, source.shape) == (4, (40, 56))


@pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")  # in rioxarray
def test_xarray_cuts_out_a_part(there: Path) -> None:
    """The lower left quarter at its place; the shares of the classes in it are those of the stripes."""
    space: dict[str, Any] = {}
    exec(blocks("xarray and rioxarray", "python")[0], space)
    assert space["shares"] == {"red": 0.4, "green": 0.4, "blue": 0.2}
    with rasterio.open(there / "part.tif") as source:
        assert (source.bounds, source.nodata, source.crs.to_epsg()) == ((5, 340, 117, 420), 255, 32640)


def test_napari_is_given_labels_in_levels(there: Path) -> None:
    """All that comes before the window, which needs a screen."""
    for line in blocks("napari", "sh")[0].splitlines():
        run_line(line)
    before, _, _ = blocks("napari", "python")[0].partition("viewer =")
    space: dict[str, Any] = {}
    exec(before.replace("import napari, zarr", "import zarr"), space)
    assert [level.shape for level in space["levels"]] == [(160, 224), (80, 112)]
    assert json.loads((there / "three.zarr" / "zarr.json").read_text())["attributes"]["ome"]["version"] == "0.5"


@needs("duckdb")
def test_duckdb_counts_the_objects(there: Path) -> None:
    """By class, from the outlines: each row has a name, a count and an area."""
    for line in blocks("DuckDB and PostGIS", "sh")[0].splitlines():
        run_line(line)
    space: dict[str, Any] = {}
    exec(blocks("DuckDB and PostGIS", "python")[0], space)
    assert [row[0] for row in space["rows"]] == sorted(NAMES)
    assert sum(row[2] for row in space["rows"]) == 160 * 224


def test_the_files_that_it_names_are_made(made: Path) -> None:
    """But those of objects, which this run has none of."""
    table = PAGE.partition("| file |")[2].partition("\n\n")[0]
    named = set(re.findall(r"`(masks\.[\w./]+)`", table)) - {"masks.instances.vrt", "masks.run/objects.parquet"}
    assert named == {"masks.zarr/0", "masks.zarr/1", "masks.classes.vrt", "masks.confidence.vrt", "masks.classes.qml"}
    assert all((made / name).exists() for name in named)
