"""`evaluate`: a mosaic against labels, in words and as JSON."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from pipeline import open_mosaic
from pipeline.steps.journal import Journal
from pipeline.stitch.seams import seam_gradient_ratio

CRS, TRANSFORM = "EPSG:32640", (1, 0, 330000, 0, -1, 2780000)


@pytest.fixture
def labels(finished: Path, make_raster) -> Path:
    """What the mosaic has, but for the first ten rows, which are red in the labels, and ten columns without label."""
    classes = np.asarray(open_mosaic(finished).classes)
    classes[:10], classes[:, -10:] = 2, 255
    return make_raster("labels.tif", classes[None], CRS, TRANSFORM)


def test_words_have_a_line_for_each_class(command, finished: Path, labels: Path) -> None:
    """Blue is in the labels' first ten rows, where the mosaic has red; the rest is right."""
    result = command("evaluate", finished, labels)
    assert result.exit_code == 0, result.stderr
    rows = {line.split()[0]: line.split()[1:] for line in result.stdout.splitlines() if line}
    assert rows["class"] == ["IoU", "recall", "precision", "share"]
    assert rows["green"][:3] == ["1.000", "1.000", "1.000"]
    assert (rows["red"][1], rows["blue"][2]) == ("1.000", "1.000")
    assert float(rows["red"][2]) == pytest.approx(1 - 10 / 64, abs=0.02)
    assert f"{160 * 214} compared; left out: {160 * 10} without label (labels 255), 0 nodata" in result.stdout
    assert {"mIoU", "accuracy", "gradient", "straight"} <= rows.keys()


def test_json_is_one_object(command, finished: Path, labels: Path) -> None:
    """With the seams of the whole array, and the sums that the words are made of."""
    found = json.loads(command("evaluate", finished, labels, "--json").stdout)
    assert np.sum(found["confusion"]) == found["compared"] == 160 * 214
    assert found["miou"] == pytest.approx(np.mean([entry["iou"] for entry in found["classes"]]))
    assert [entry["name"] for entry in found["classes"]] == ["red", "green", "blue"]
    plan = Journal.of(finished).spec().plan
    assert found["seams"]["ratio"] == seam_gradient_ratio(np.asarray(open_mosaic(finished).classes), plan, 255).ratio


def test_without_the_run_folder_there_are_no_seams(command, finished: Path, labels: Path, tmp_path: Path) -> None:
    """A word on stderr, and all else as before."""
    copy = shutil.copytree(finished, tmp_path / "copy.zarr")
    result = command("evaluate", copy, labels, "--json")
    assert "no seam metrics: copy.run/run.json" in result.stderr
    assert "seams" not in json.loads(result.stdout)


def test_values_may_be_ignored(command, refused, finished: Path, labels: Path) -> None:
    """Another one than 255, which is then no class; or none."""
    assert "labels.tif: 255 at row 0, column 214" in refused_last(command("evaluate", finished, labels, "--ignore", 2))
    assert "--ignore 255" in refused_last(command("evaluate", finished, labels, "--ignore", "none"))
    assert "give a whole number" in refused(command("evaluate", finished, labels, "--ignore", "x"))


def refused_last(result) -> str:
    """The last line of a command that was refused after it began to read."""
    assert (result.exit_code, result.stdout) == (2, "")
    return str(result.stderr).splitlines()[-1]


def test_labels_on_another_grid(command, refused, finished: Path, make_raster) -> None:
    """One line that names both, exit 2."""
    other = make_raster("other.tif", (1, 160, 220), CRS, TRANSFORM)
    line = refused(command("evaluate", finished, other))
    assert "other.tif: 160 x 220" in line
    assert "masks.zarr: 160 x 224" in line


def test_instances_need_instances(command, refused, finished: Path, labels: Path) -> None:
    """The mosaic of a semantic model has none."""
    assert "has no instances" in refused(command("evaluate", finished, labels, "--labels", "instances"))


def test_instances_in_words(command, make_raster, tmp_path: Path) -> None:
    """Of two true objects one is found exactly, and one find is wrong."""
    from small_mosaic import make, paint

    from pipeline.rasters.raster_spec import Grid

    ids = np.zeros((64, 64), np.uint32)
    ids[:10, :10], ids[20:30, 20:30] = 7, 8
    truth = np.zeros((1, 64, 64), np.uint16)
    truth[0, :10, :10], truth[0, 50:, 50:] = 1, 2
    pixels = {"classes": np.zeros((64, 64), np.uint8), "confidence": np.full((64, 64), 99, np.uint8), "instances": ids}
    paint(make(tmp_path / "m.zarr", Grid((64, 64)), None), pixels)
    result = command("evaluate", tmp_path / "m.zarr", make_raster("ids.tif", truth))
    assert "PQ        0.500 = SQ 1.000 x RQ 0.500" in result.stdout
    assert "objects   1 matched, 1 spurious, 1 missed" in result.stdout
    assert "AP50      0.252" in result.stdout


def test_a_matrix_of_many_classes_is_left_to_json(command, make_raster, tmp_path: Path) -> None:
    """No terminal has room for it."""
    from small_mosaic import make, paint

    from pipeline.rasters.raster_spec import Grid

    names = [f"class {id}" for id in range(20)]
    ids = np.arange(64 * 64).reshape(64, 64).astype(np.uint8) % 20
    mosaic = make(tmp_path / "m.zarr", Grid((64, 64)), None, names, ["#000000"] * 20, instances=False)
    paint(mosaic, {"classes": ids, "confidence": ids})
    words = command("evaluate", tmp_path / "m.zarr", make_raster("l.tif", ids[None])).stdout
    assert "confusion matrix: 20 classes; --json has it" in words
