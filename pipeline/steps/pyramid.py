"""DOWNSAMPLE: the mosaic's coarser levels, block by block, each from the level below it.

Every second row and column of the finer level, from the first on: ids are picked, never averaged, so that a coarse
pixel is a pixel that is there. A block reads what it writes, not the four blocks that this is spread over.
"""

from itertools import count

import numpy as np

from pipeline.errors import UsageError
from pipeline.mosaic.mosaic import Mosaic
from pipeline.spec import RunSpec
from pipeline.steps.clock import Clock
from pipeline.steps.journal import BlockRecord
from pipeline.storage.paths import AnyPath, path_of
from pipeline.tiling import output_block, output_blocks

SMALL = 1024
"""Levels are added until both sides have fewer pixels: a screen shows such a level whole."""


def choose_levels(asked: int | None, shape: tuple[int, int]) -> int:
    """How many resolutions a mosaic gets, the full one with them.

    Args:
        asked: `--levels`, or None: until the coarsest is small.
        shape: Rows and columns of the full resolution.

    Raises:
        UsageError: The raster cannot be halved so often.
    """
    if asked is None:
        return next(levels for levels in count(1) if max(level_shape(shape, levels - 1)) < SMALL)
    most = (max(shape) - 1).bit_length() + 1
    if asked > most:
        raise UsageError(f"--levels {asked}: {shape[0]} x {shape[1]} pixels have at most {most}, the last of one pixel")
    return asked


def level_shape(shape: tuple[int, int], level: int) -> tuple[int, int]:
    """Rows and columns of a level; where a size is odd, its last pixel counts."""
    return -(-shape[0] // 2**level), -(-shape[1] // 2**level)


def level_tasks(spec: RunSpec) -> dict[str, tuple[int, int, int]]:
    """Level, row and column of each block of the coarser levels, by block name; finer levels first.

    A block is one object of each array.
    """
    shape, side = spec.raster.grid.shape, spec.layout.side
    return {
        f"{level}-{block.name}": (level, *block.index)
        for level in range(1, spec.levels)
        for block in output_blocks(level_shape(shape, level), side)
    }


def downsample(spec: RunSpec, level: int, row: int, col: int) -> tuple[BlockRecord, list[AnyPath]]:
    """Write one block of a level whose finer level stands; its record, and the files that hold it."""
    clock, mosaic = Clock(), Mosaic.open(path_of(spec.output))
    block = output_block(level_shape(spec.raster.grid.shape, level), spec.layout.side, row, col)
    window = block.window
    finer = tuple(slice(2 * part.start, 2 * part.stop, 2) for part in window.slices)
    with clock("downsample"):
        arrays = {name: np.asarray(mosaic.array(name, level - 1)[finer]) for name in mosaic.names}
        mosaic.write(window, level=level, **arrays)
    files = [path for path in mosaic.objects(window, level) if path.exists()]
    pixels = window.height * window.width
    name, seconds = f"{level}-{block.name}", clock.rounded()
    return BlockRecord(name, "downsample", spec.render_fingerprint, pixels, seconds=seconds), files
