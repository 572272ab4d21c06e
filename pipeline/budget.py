"""The bill before the order: memory and disk that a run takes, computed from its plan.

The terms are those of the code: what a reader holds, what a batch holds, what a block's blended scores hold. The fixed
parts were measured on the process itself (see the constants). All figures are bytes.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from eomt_core.batch import AUTO_BATCH
from pipeline.cluster import together
from pipeline.config import RunConfig
from pipeline.devices import choose_device
from pipeline.errors import UsageError
from pipeline.rasters.source import CACHE_BYTES
from pipeline.spec import RunSpec
from pipeline.steps.pyramid import level_shape
from pipeline.stitch.paint import SMALL
from pipeline.stitch.sieve import margin
from pipeline.stitch.views import REMEMBERED
from pipeline.storage.paths import AnyPath
from pipeline.tiling import Window

MIB = 2**20

DRIVER = 120 * MIB
"""Interpreter, numpy, rasterio, zarr, dask with its scheduler: resident before any torch (96 MiB, and 17 of dask)."""

REPORT = 128 * MIB
"""The pictures of the run's report, which are drawn at its end while the allocator still keeps what came before."""

TORCH = 690 * MIB
"""What importing torch and timm adds to a process that infers (680 MiB with the build for CUDA)."""

LEAVING = 128 * MIB
"""What torch's libraries touch of themselves as a process ends, after all else was touched (123 MiB)."""

CUDA_CONTEXT = 600 * MIB
"""Host memory of a CUDA context."""

SCRATCH = 128 * MIB
"""What a process at work holds besides: arenas of its threads, buffers of torch's and of the codecs (70 to 110 MiB)."""

SLACK = 1.5
"""What the allocator keeps between tasks, on top of what they use at a time (1.3 seen over a gigapixel)."""

TOKEN_COPIES = 12
"""Copies of the token features alive at a block's widest: the MLP's fourfold layer, queries, keys, values, sums."""

SCORE_COPIES = 2
"""Copies of attention's scores, where they are not fused with what uses them: before and after the softmax."""

CELL_COPIES = 3
"""Copies of the upscaled features alive at once: in and out of a convolution and its scratch space (2.5 to 3 seen)."""

MASKS = 8
"""Times that the masks of a fused tile's segments, or a window's objects, cut to their boxes, cover it."""

TAKEN, SEGMENT = 3, 350
"""One in so many queries is a segment in a crowded tile; bytes of one with its links (290 to 300: `bench resolve`)."""

MERGED = 4
"""Times the masks of a tile that are there besides while those of its views are merged: another view's, their sums."""

SIEVED = 64
"""Bytes of a pixel whose second best is known too, while parts are sought."""

DISK_MARGIN = 0.1
"""Part of the estimate by which compressed records may pass it."""


@dataclass(frozen=True)
class Bill:
    """What a run takes on this machine.

    Attributes:
        memory: All processes together, at the peak.
        inference: Of which one process that infers, beyond its fixed part.
        rendering: Of which one process that renders, beyond its fixed part.
        store: Disk for the per-tile records, at most.
        mosaic: Disk for the mosaic before compression.
    """

    memory: int
    inference: int
    rendering: int
    store: int
    mosaic: int


def bill(spec: RunSpec, *, batch_size: int, readers: int, workers: int | None, threads: int, cuda: bool) -> Bill:
    """The bill of a run.

    Args:
        spec: The run.
        batch_size: Tiles per forward.
        readers: Reader threads per worker.
        workers: Worker processes; 0: all in this process; None: they are elsewhere.
        threads: Blocks that a process renders at a time.
        cuda: Whether the processes that infer use a GPU.
    """
    work = _reading(spec, readers) + batch_size * _forward(spec)
    infer = spec.model.weights + max(spec.model.weights, work)  # while loading, file and model are both there
    render = max(threads * max(_link(spec), _paint(spec)), _resolve(spec)) if spec.objects else threads * _render(spec)
    fixed = DRIVER + TORCH + LEAVING + SCRATCH + (CUDA_CONTEXT if cuda else 0)
    # What inference has freed serves rendering too: a process peaks once.
    worker = fixed + int(SLACK * max(infer, render))
    memory = REPORT + (DRIVER if workers is None else (DRIVER if workers else 0) + max(1, workers) * worker)
    return Bill(memory, infer, render, _tiles(spec) * spec.record_layout.tile_bytes, _mosaic(spec))


def _tiles(spec: RunSpec) -> int:
    """Tiles that may be inferred: all, or those of the tile blocks that the area of interest touches."""
    if spec.aoi is None:
        return len(spec.plan)
    return sum(len(block.tiles) for block in spec.plan.blocks() if spec.aoi.within(block.extent))


def _mosaic(spec: RunSpec) -> int:
    """Classes and confidence of all levels."""
    shapes = [level_shape(spec.plan.shape, level) for level in range(spec.levels)]
    return sum(rows * cols for rows, cols in shapes) * (np.dtype(spec.codes.dtype).itemsize + 1)


def of_config(spec: RunSpec, config: RunConfig) -> Bill:
    """The bill of a run on this machine with the options that a user gave."""
    cuda = choose_device(config).startswith("cuda")
    return bill(
        spec,
        batch_size=config.batch_size or (AUTO_BATCH if cuda else 1),
        readers=config.readers,
        workers=None if config.scheduler or config.scheduler_file else config.workers,
        threads=1 if config.workers else together(),
        cuda=cuda,
    )


def _reading(spec: RunSpec, readers: int) -> int:
    """GDAL's cache, the super-windows read ahead and the one at work, and the block's validity with its copies."""
    block, raster = spec.plan.block(0, 0), spec.raster
    windows = [raster.snap(read.window) for read in block.reads]
    pixels = max(window.height * window.width for window in windows)
    item = np.dtype(raster.dtype).itemsize
    # Bytes stay as they are; what is scaled to floats is there twice more while it is.
    each = len(raster.bands) * (item if raster.dtype == "uint8" else item + 8) + 1
    rows, cols = raster.grid.shape
    cache = min(CACHE_BYTES, rows * cols * raster.count * item)
    return cache + min(readers + 1, len(windows)) * pixels * each + 2 * block.owned.height * block.owned.width


def _forward(spec: RunSpec) -> int:
    """One tile in the model: pixels as floats, activations of a block and of the upscaling, masks, scores and codes."""
    rows, cols = spec.tile_size
    model = spec.model
    cells = rows * cols // model.stride**2
    pixels = 3 * rows * cols * len(spec.raster.bands)
    features = TOKEN_COPIES * model.features + SCORE_COPIES * model.scores + CELL_COPIES * model.width * cells
    merged = MERGED if spec.objects and spec.tta != "none" else 0
    return 4 * (pixels + features + cells * ((3 + merged) * model.num_queries + 3 * model.num_classes))


def _render(spec: RunSpec) -> int:
    """One output block: blended scores and their rims, its labels, and the validity that it reads."""
    window = _window(spec)
    cells = (window.height // spec.model.stride + 2) * (window.width // spec.model.stride + 2)
    valid = spec.tile_block**2 * spec.plan.rows.stride * spec.plan.cols.stride
    # The reference's order goes by strips and keeps all tiles of the block decoded; the lattice's takes one at a time.
    decoded = 1 if spec.kind == "scores" else len(spec.plan.covering(window))
    tile = 2 * spec.record_layout.tile_bytes * decoded
    pixels = window.height * window.width * (8 + _sieving(spec))
    return cells * (spec.model.num_classes * 4 + 16) + pixels + valid + tile


def _window(spec: RunSpec) -> Window:
    """The largest output block, with what the sieve sees around it."""
    side = spec.block_side + 2 * margin(spec.sieve)
    return Window(0, 0, side, side).intersect(spec.plan.raster)


def _sieving(spec: RunSpec) -> int:
    return SIEVED if spec.sieve else 0


def _link(spec: RunSpec) -> int:
    """One tile block's tiles with all their neighbours, fused; and the one that is being decoded."""
    rows, cols = (min(spec.tile_block + 2, len(axis.origins)) for axis in (spec.plan.rows, spec.plan.cols))
    return min(rows * cols, REMEMBERED) * _view(spec) + 3 * spec.record_layout.tile_bytes


def _paint(spec: RunSpec) -> int:
    """One output block: its tiles, what they say of its objects, its pixels, and the arrays made of these."""
    window = _window(spec)
    tiles = min(len(spec.plan.covering(window)), REMEMBERED)
    rows, cols = (size // spec.model.stride + 2 * SMALL for size in window[2:])
    pixels = window.height * window.width * (48 + _sieving(spec))
    return tiles * _view(spec) + 3 * spec.record_layout.tile_bytes + MASKS * 8 * rows * cols + pixels


def _view(spec: RunSpec) -> int:
    """One fused tile: labels, things, weights and shares of its cells, and the masks of its segments."""
    rows, cols = spec.tile_size
    return rows * cols // spec.model.stride**2 * (24 + MASKS)


def _resolve(spec: RunSpec) -> int:
    """All segments and their links at once, each several times while they are sorted."""
    return len(spec.plan) * spec.model.num_queries // TAKEN * SEGMENT


def available_memory() -> int:
    """80 % of the machine's memory, or of what the control group allows."""
    limits = [psutil.virtual_memory().total]
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            limits.append(int(Path(path).read_text()))
        except (OSError, ValueError):
            continue
    return int(0.8 * min(limits))


def check(bill: Bill, output: AnyPath, max_memory: int | None, left: tuple[float, float] = (1, 1)) -> None:
    """Refuse a run that does not fit.

    Args:
        bill: Of the whole run.
        output: Where the mosaic goes.
        max_memory: `--max-memory`.
        left: The part of the records and of the mosaic that is still to be written.

    Raises:
        UsageError: Too little memory or disk; both figures are named.
    """
    allowed = max_memory or available_memory()
    if bill.memory > allowed:
        raise UsageError(
            f"--max-memory: the run needs {bill.memory / 1e9:.2f} GB and may take {allowed / 1e9:.2f} GB; "
            "lower --batch-size, --tile-size, --tile-block or --workers, or raise --max-memory"
        )
    if not isinstance(output, Path):  # a bucket is never full
        return
    free = shutil.disk_usage(_existing_parent(output)).free
    needed = int((bill.store * left[0] + bill.mosaic * left[1]) * (1 + DISK_MARGIN))
    if needed > free:
        raise UsageError(
            f"{output}: the run may need {needed / 1e6:.1f} MB of disk and {free / 1e6:.1f} MB are free; "
            "take another --out"
        )


def _existing_parent(path: Path) -> Path:
    return next(parent for parent in (path, *path.absolute().parents) if parent.exists() and os.access(parent, os.R_OK))
