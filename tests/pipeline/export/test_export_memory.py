"""An export takes no more memory for a longer mosaic."""

import sys

import numpy as np
import pytest
from small_objects import object_mosaic

from pipeline.bench.memory import watch

EXPORT = "from workflows.cli import main; main()"
FEW, MANY = 4, 16
"""Rows of blocks."""


def noisy(rows):
    """Objects of 15 x 15 pixels all over a strip: 2048 pixels wide, `rows` times 1024 high."""
    size = rows * 1024 // 16, 2048 // 16
    ids = np.arange(1, size[0] * size[1] + 1, dtype=np.uint32).reshape(size).repeat(16, axis=0).repeat(16, axis=1)
    ids[::16], ids[:, ::16] = 0, 0
    return ids


@pytest.fixture(scope="module")
def strips(tmp_path_factory):
    """Two strips, one four times as long as the other."""
    folder = tmp_path_factory.mktemp("strips")
    return [object_mosaic(folder / f"{rows}.zarr", noisy(rows), chunk=1024).path for rows in (FEW, MANY)]


@pytest.mark.slow
@pytest.mark.parametrize("to", ["gpkg", "fgb", "parquet"])
def test_memory_does_not_grow_with_the_mosaic(strips, tmp_path, to):
    """Four times the pixels and objects take at most two fifths more."""
    peaks = []
    for strip in strips:
        words = ["export", str(strip), "--to", to, "-o", str(tmp_path / f"{strip.stem}.{to}"), "-q"]
        peaks.append(watch([sys.executable, "-c", EXPORT, *words]))
    assert peaks[1] < 1.4 * peaks[0]
