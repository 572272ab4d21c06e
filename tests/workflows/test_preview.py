"""`eomt-batch preview`: a picture or a page, and one line where neither can be made."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image


def test_a_picture(command, finished: Path, tmp_path: Path) -> None:
    """The run's input is found by itself; what was written is printed."""
    result = command("preview", finished, "-o", tmp_path / "a.png")
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"{tmp_path / 'a.png'}\n", "")
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.width > 700


def test_a_page(command, finished: Path, raster: Path, tmp_path: Path) -> None:
    """With an image that is named; --json tells its size."""
    result = command("preview", finished, "--image", raster, "-o", tmp_path / "a.html", "--json")
    found = json.loads(result.stdout)
    assert found == {"preview": str(tmp_path / "a.html"), "bytes": (tmp_path / "a.html").stat().st_size}
    assert "<!doctype html>" in (tmp_path / "a.html").read_text()[:20]


def test_no_image_is_a_note(command, finished: Path, tmp_path: Path) -> None:
    """Not an error, if none was asked for."""
    shutil.copytree(finished, tmp_path / "alone.zarr")
    result = command("preview", tmp_path / "alone.zarr", "-o", tmp_path / "a.png")
    assert result.exit_code == 0
    assert "no image: give it with --image" in result.stderr


@pytest.mark.parametrize(
    ("target", "words"),
    [("a.jpg", "ends in .png for a picture"), ("nowhere/a.png", "in a folder that is there"), ("a", "ends in .png")],
)
def test_where_it_cannot_be_written(command, refused, finished: Path, tmp_path: Path, target: str, words: str) -> None:
    """Told before anything is read."""
    line = refused(command("preview", finished, "-o", tmp_path / target))
    assert words in line
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_shown(command, refused, finished: Path, make_stripes, tmp_path: Path) -> None:
    """No mosaic; no such image; an image of another shape."""
    other = make_stripes("other.tif", (64, 96), tmp_path)
    for words, args in (
        ("is not there", (tmp_path / "no.zarr",)),
        ("no.tif", (finished, "--image", tmp_path / "no.tif")),
        ("has 64 x 96 pixels, the mosaic 160 x 224", (finished, "--image", other)),
    ):
        assert words in refused(command("preview", *args, "-o", tmp_path / "a.png"))
    assert not (tmp_path / "a.png").exists()
