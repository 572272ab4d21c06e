"""A model whose answer is known, rasters painted for it, and a run of it that is complete."""

import hashlib
import json
import shutil
from collections.abc import Callable
from multiprocessing import forkserver, get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import rasterio
import zarr
from numpy.typing import NDArray
from rasterio.transform import Affine

from eomt_core.palette import save_palette
from pipeline import RunConfig, segment_raster

COLOURS = ((0.1, 0.1, 0.1), (0.9, 0.1, 0.1), (0.1, 0.9, 0.1), (0.1, 0.1, 0.9), (0.8, 0.8, 0.2))
STRIDE = 4
SMALL = {"tile_size": (64, 64), "overlap": "16", "tile_block": 2, "chunk": 64, "device": "cpu"}


@pytest.fixture(scope="session")
def palette(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A saved palette model of five colours."""
    return str(save_palette(tmp_path_factory.mktemp("palette"), COLOURS))


def paint(shape: tuple[int, int], seed: int = 0) -> NDArray[np.uint8]:
    """Whole cells in the palette's colours, (3, H, W)."""
    cells = np.random.default_rng(seed).integers(0, len(COLOURS), [-(-size // STRIDE) for size in shape])
    image = np.asarray(COLOURS)[cells].transpose(2, 0, 1).repeat(STRIDE, 1).repeat(STRIDE, 2)
    return np.rint(image * 255).astype(np.uint8)[:, : shape[0], : shape[1]]


@pytest.fixture(scope="session")
def painted() -> Callable[..., NDArray[np.uint8]]:
    """`painted(shape, seed)`: whole cells in the palette's colours, (3, H, W) uint8."""
    return paint


class Made(NamedTuple):
    """A raster, and the run over it."""

    raster: Path
    output: Path
    config: RunConfig

    @property
    def folder(self) -> Path:
        """Of the run."""
        return self.output.with_suffix(".run")

    def again(self, **changes: Any) -> Any:
        """The same command, with changes."""
        return segment_raster(self.raster, self.output, changed(self.config, **changes))


def changed(config: RunConfig, **changes: Any) -> RunConfig:
    """The same options but for some."""
    return RunConfig(**{**vars(config), **changes})


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory, palette: str) -> Made:
    """A complete run over 150 x 210 pixels: 3 x 5 tiles in 2 x 3 blocks, 2 x 2 output blocks, two tiles all nodata."""
    folder = tmp_path_factory.mktemp("original")
    image = paint((150, 210))
    image[:, :64, 144:] = 0
    profile = {"driver": "GTiff", "count": 3, "height": 150, "width": 210, "dtype": "uint8", "nodata": 0}
    with rasterio.open(folder / "in.tif", "w", transform=Affine(2, 0, 1000, 0, -2, 5000), **profile) as dataset:
        dataset.write(image)
    made = Made(folder / "in.tif", folder / "out.zarr", RunConfig(model=palette, **SMALL))
    made.again()
    return made


@pytest.fixture(scope="session")
def make_many(tmp_path_factory: pytest.TempPathFactory, palette: str, original: Made) -> Callable[..., Made]:
    """`make_many(shape, **layout)`: a complete run over (rows, cols) pixels in tile blocks of a tile, stride 48."""

    def make(shape: tuple[int, int], **layout: Any) -> Made:
        folder = tmp_path_factory.mktemp("many")
        profile = {"driver": "GTiff", "count": 3, "height": shape[0], "width": shape[1], "dtype": "uint8", **layout}
        place = {"crs": "EPSG:32633", "transform": Affine(1, 0, 5, 0, -1, 5)}
        with rasterio.open(folder / "in.tif", "w", **profile, **place) as dataset:
            dataset.write(paint(shape))
        config = RunConfig(model=palette, **SMALL | {"tile_block": 1})
        made = original._replace(raster=folder / "in.tif", output=folder / "out.zarr", config=config)
        made.again()
        return made

    return make


@pytest.fixture
def finished(original: Made, tmp_path: Path) -> Made:
    """A copy of the complete run, to be harmed."""
    shutil.copytree(original.output, tmp_path / "out.zarr")
    shutil.copytree(original.folder, tmp_path / "out.run")
    return original._replace(output=tmp_path / "out.zarr")


@pytest.fixture
def fresh(original: Made, tmp_path: Path) -> Made:
    """The same raster and options, nothing done yet."""
    return original._replace(output=tmp_path / "out.zarr")


@pytest.fixture(scope="session")
def forks() -> Any:
    """Processes that begin with everything imported, so that many may be started, and killed."""
    context = get_context("forkserver")
    context.set_forkserver_preload(
        ["pipeline.run", "pipeline.steps.infer", "eomt_core.predict", "eomt_core.checkpoint"]
    )
    forkserver.ensure_running()  # before Dask, which forks its workers here too, has wishes of its own
    return context


@pytest.fixture(scope="session")
def digests() -> Callable[[Path], dict[str, str]]:
    """`digests(output)`: SHA-256 of every array of a mosaic, and of every array of its store if it has one."""

    def of(output: Path) -> dict[str, str]:
        found = {}
        for group in (output, output.with_suffix(".run") / "store"):
            if group.exists():
                root = zarr.open_group(group, mode="r", use_consolidated=False)
                found |= {f"{group.suffix or group.name}/{path}": digest(array) for path, array in arrays(root)}
        return found

    def arrays(group: zarr.Group, at: str = "") -> list[tuple[str, zarr.Array[Any]]]:
        below = [pair for name, child in group.groups() for pair in arrays(child, f"{at}{name}/")]
        return [(f"{at}{name}", array) for name, array in group.arrays()] + below

    def digest(array: zarr.Array[Any]) -> str:
        return hashlib.sha256(np.ascontiguousarray(array[...]).tobytes()).hexdigest()

    return of


@pytest.fixture(scope="session")
def contents() -> Callable[[Path], dict[str, tuple[int, int, int]]]:
    """`contents(folder)`: every file below with inode, size and time: what changes if anything is written."""

    def of(folder: Path) -> dict[str, tuple[int, int, int]]:
        stats = {str(path.relative_to(folder)): path.stat() for path in folder.rglob("*") if path.is_file()}
        return {name: (stat.st_ino, stat.st_size, stat.st_mtime_ns) for name, stat in stats.items()}

    return of


@pytest.fixture(scope="session")
def records() -> Callable[..., dict[str, tuple[int, int]]]:
    """`records(run folder, step)`: the done records by block, with inode and time: a block done twice has a new one."""

    def of(folder: Path, step: str = "infer") -> dict[str, tuple[int, int]]:
        found = {}
        for path in (folder / "records" / step).glob("*.json"):
            json.loads(path.read_text())  # a record is whole or not there
            found[path.stem] = (path.stat().st_ino, path.stat().st_mtime_ns)
        return found

    return of


@pytest.fixture(scope="session")
def countries(palette, tmp_path_factory):
    """The palette model for panoptic runs: colours 0 and 1 are stuff."""
    folder = tmp_path_factory.mktemp("countries") / "model"
    shutil.copytree(palette, folder)
    card = json.loads((folder / "eomt_batch.json").read_text())
    card["card"] |= {"tasks": ["panoptic"], "things": [2, 3, 4]}
    (folder / "eomt_batch.json").write_text(json.dumps(card))
    return str(folder)


@pytest.fixture(scope="session")
def land():
    """Classes (160, 224): stuff 0 and 1, and one connected region of each thing; a corner without data, as -1."""
    classes = np.zeros((160, 224), np.int64)
    classes[:, 120:] = 1
    classes[20:100, 16:200] = 2  # larger than a tile
    classes[40:60, 100:120] = 3
    classes[120:140, 24:28] = 4
    classes[:32, 208:] = -1
    return classes


@pytest.fixture(scope="session")
def whole(countries, land, tmp_path_factory):
    """A complete run."""
    folder = tmp_path_factory.mktemp("whole")
    colours = np.array([(0.1, 0.1, 0.1), (0.9, 0.1, 0.1), (0.1, 0.9, 0.1), (0.1, 0.1, 0.9), (0.8, 0.8, 0.2), (0, 0, 0)])
    profile = {"driver": "GTiff", "count": 3, "height": 160, "width": 224, "dtype": "uint8", "nodata": 0}
    with rasterio.open(folder / "in.tif", "w", transform=Affine(2, 0, 1000, 0, -2, 5000), **profile) as dataset:
        dataset.write(np.rint(colours[land] * 255).astype(np.uint8).transpose(2, 0, 1))
    config = RunConfig(model=countries, **{**SMALL, "overlap": "32"})
    return segment_raster(folder / "in.tif", folder / "out.zarr", config), folder / "in.tif", folder / "out.zarr"


@pytest.fixture
def harmed(whole, tmp_path):
    """A copy of it."""
    _, _, output = whole
    shutil.copytree(output, tmp_path / "out.zarr")
    shutil.copytree(output.with_suffix(".run"), tmp_path / "out.run")
    return tmp_path / "out.zarr"
