"""What exports of large mosaics take, from the shell."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from small_objects import instances, object_mosaic

from pipeline.bench.exports import write_repeated


def test_each_copy_has_objects_of_its_own(tmp_path: Path) -> None:
    """2 x 2 whole copies of 90 x 120 pixels for a side of 180: the ids go on, the table has a row for each."""
    small = object_mosaic(tmp_path / "small.zarr", instances())
    large = write_repeated(small.path, tmp_path / "large.zarr", 180)
    assert large.shape == (180, 240)
    assert large.instances is not None
    ids, once = large.instances[:], instances()
    for copy, (row, col) in enumerate([(0, 0), (0, 120), (90, 0), (90, 120)]):
        np.testing.assert_array_equal(ids[row : row + 90, col : col + 120], np.where(once > 0, once + 7 * copy, 0))
    table = pq.read_table(tmp_path / "large.run" / "objects.parquet")
    found, areas = np.unique(ids[ids > 0], return_counts=True)
    assert dict(zip(table["id"].to_pylist(), table["area"].to_pylist(), strict=True)) == dict(
        zip(found.tolist(), areas.tolist(), strict=True)
    )


def test_each_export_is_a_row_for_machines(command, tmp_path: Path) -> None:
    """Of both arrays; nothing is left of what was written."""
    object_mosaic(tmp_path / "small.zarr", instances())
    (tmp_path / "work").mkdir()
    options = ("--side", 100, "--to", "fgb", "--to", "cog", "--folder", tmp_path / "work", "--json")
    result = command("bench", "export", tmp_path / "small.zarr", *options)
    assert result.exit_code == 0, result.stderr
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(row["array"], row["to"]) for row in rows] == [
        ("classes", "fgb"),
        ("classes", "cog"),
        ("instances", "fgb"),
        ("instances", "cog"),
    ]
    assert all(row["pixels"] == 180 * 120 and row["peak"] > 10e6 and row["size"] > 0 for row in rows)
    assert list((tmp_path / "work").iterdir()) == []
