"""A slide of real images, from the shell."""

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine

from eomt_core.palette import save_palette
from pipeline.bench.slides.edges import BANDS
from pipeline.bench.slides.table import METHODS


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four images with a red square each, their labels, and a model of red objects."""
    folder = tmp_path_factory.mktemp("slide")
    card = save_palette(folder / "model", [(1, 0, 0)], tile=64) / "eomt_batch.json"
    facts = json.loads(card.read_text())
    facts["card"] |= {"tasks": ["instance"], "things": [0]}
    card.write_text(json.dumps(facts))
    square = np.zeros((64, 64), np.uint8)
    square[20:52, 20:52] = 1
    profile = {"driver": "GTiff", "height": 64, "width": 64, "dtype": "uint8", "transform": Affine(1, 0, 0, 0, -1, 64)}
    for side, bands in (("images", [255 * square, 0 * square, 0 * square]), ("labels", [square])):
        (folder / side).mkdir()
        for index in range(4):
            with rasterio.open(folder / side / f"{index}.tif", "w", count=len(bands), **profile) as file:
                file.write(np.stack(bands))
    return folder


def test_each_rule_is_a_line_for_machines(command, folder: Path) -> None:
    """After the images in forwards of their own; the share of objects that cuts cross is in each."""
    places = folder / "images", folder / "labels", "--model", folder / "model"
    result = command("bench", "slide", *places, "--overlap", "50%", "--json")
    assert result.exit_code == 0, result.output
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [row["rule"] for row in rows] == ["each alone", *METHODS]
    assert {row["overlap"] for row in rows} == {32}
    assert len({row["mean"]["crossed"] for row in rows}) == 1
    assert rows[0]["mean"]["shift_pq"] is None


def test_edges_are_a_line_per_band(command, folder: Path) -> None:
    """And one of rates; for machines and for people."""
    places = folder / "images", folder / "labels", "--model", folder / "model"
    result = command("bench", "edges", *places, "--json")
    assert result.exit_code == 0, result.output
    *bands, faults = [json.loads(line) for line in result.stdout.splitlines()]
    assert [band["start"] for band in bands] == list(BANDS)
    assert faults["rates"]["miss"] is not None
    words = command("bench", "edges", *places).stdout.splitlines()
    assert words[0].startswith("  0 to 4   px from the edge")
    assert [line.split()[0] for line in words[-2:]] == ["measured", "simulated"]


def test_a_model_of_classes_is_refused(command, folder: Path, model: Path) -> None:
    """In one line, before anything is inferred."""
    result = command("bench", "slide", folder / "images", folder / "labels", "--model", model)
    assert result.exit_code == 2
    assert "give a model of objects, such as nuclei-tiny" in result.stderr
    assert "Traceback" not in result.stderr
