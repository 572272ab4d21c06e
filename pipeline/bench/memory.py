"""Peak memory of a run against what its plan said, on a raster of any size made from real pixels."""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import rasterio
from numpy.typing import NDArray

from pipeline import budget
from pipeline.config import RunConfig
from pipeline.prepare import prepare
from pipeline.rasters.raster import Reader, open_raster
from pipeline.tiling import Window, output_blocks

BLOCK = 2048
"""Pixels a side of what is written at a time."""

EVERY = 0.02
"""Seconds between two looks at the memory."""

RUN = "import sys; from workflows.cli import main; sys.exit(main())"


@dataclass(frozen=True)
class MemoryRow:
    """One run.

    Attributes:
        pixels: Of the raster.
        planned: Bytes that the plan said.
        peak: Bytes of all processes together, at the most.
        ratio: planned / peak.
        seconds: Wall time.
    """

    pixels: int
    planned: int
    peak: int
    ratio: float
    seconds: float


def measure_run(raster: Path, output: Path, config: RunConfig, options: Sequence[str]) -> MemoryRow:
    """Run `eomt-batch run` in a process of its own and watch it.

    Args:
        raster: The input.
        output: The mosaic; a run that is there is dropped.
        config: What `options` say, for the plan.
        options: Of the command.

    Raises:
        subprocess.CalledProcessError: The run failed.
    """
    spec = prepare(str(raster), output, config)
    planned = budget.of_config(spec, config).memory
    command = [sys.executable, "-c", RUN, "run", str(raster), "--out", str(output), "--overwrite", "-q", *options]
    start = time.perf_counter()
    peak = watch(command)
    rows, cols = spec.plan.shape
    return MemoryRow(rows * cols, planned, peak, round(planned / peak, 3), round(time.perf_counter() - start, 1))


def watch(command: Sequence[str]) -> int:
    """Peak resident bytes of a command and all its children together.

    Raises:
        subprocess.CalledProcessError: It failed.
    """
    peak = 0
    with subprocess.Popen(command) as process:
        top = psutil.Process(process.pid)
        while process.poll() is None:
            peak = max(peak, resident(top))
            time.sleep(EVERY)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return peak


def resident(top: psutil.Process) -> int:
    """Resident bytes of a process and its children; those that end meanwhile count nothing."""
    total = 0
    try:
        family = [top, *top.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    for process in family:
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


def write_repeated(source: Path, path: Path, shape: tuple[int, int], bands: int = 3) -> Path:
    """Write a GeoTIFF of `shape` rows and columns, filled block by block with so many bands of a smaller raster."""
    spec = open_raster(source, needed=bands)
    profile = {"driver": "GTiff", "count": bands, "dtype": spec.dtype, "height": shape[0], "width": shape[1]}
    layout = {
        "tiled": True,
        "blockxsize": 512,
        "blockysize": 512,
        "compress": "zstd",
        "zstd_level": 1,
    }
    place = {"crs": "EPSG:32640", "transform": rasterio.Affine(1.0, 0.0, 300000.5, 0.0, -1.0, 2800000.25)}
    with Reader(spec) as reader, rasterio.open(path, "w", bigtiff="if_safer", **profile, **layout, **place) as target:
        for block in output_blocks(shape, BLOCK):
            target.write(_repeat(reader, block.window), window=_gdal(block.window))
    return path


def _repeat(reader: Reader, window: Window) -> NDArray[Any]:
    """The window of an endless mosaic of the source, shifted so that it lies within one copy where it can."""
    rows, cols = reader.spec.grid.shape
    height, width = min(window.height, rows), min(window.width, cols)
    row, col = window.row % max(1, rows - height + 1), window.col % max(1, cols - width + 1)
    pixels = reader.read(Window(row, col, height, width)).pixels
    return np.pad(pixels, ((0, 0), (0, window.height - height), (0, window.width - width)), mode="wrap")


def _gdal(window: Window) -> rasterio.windows.Window:
    return rasterio.windows.Window(window.col, window.row, window.width, window.height)


def as_json(rows: Sequence[MemoryRow]) -> str:
    """The table for machines."""
    return json.dumps([asdict(row) for row in rows], indent=1)
