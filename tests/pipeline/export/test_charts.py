"""Charts: 900 pixels wide, the right colours in the right place, and a word where matplotlib is missing."""

import sys

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import UsageError
from pipeline.evaluate import Confusion
from pipeline.export.charts import draw_comparison, draw_confusion, draw_instances, draw_loss_curve

COLOURS, NAMES = ("#ff0000", "#0000ff"), ("roofs $ 1", "roads $ 2")


def picture(path):
    """The pixels of a PNG (H, W, 3)."""
    with Image.open(path) as opened:
        assert opened.width == 900
        return np.asarray(opened.convert("RGB"))


def share(pixels, colour):
    """The share of pixels of a colour, all but."""
    return (np.abs(pixels.astype(int) - list(bytes.fromhex(colour[1:]))).max(-1) < 8).mean()


def confusion(classes=2):
    """Half of each class is taken for class 0, and one pixel has no class."""
    counts = Confusion(classes)
    counts.add(np.arange(4 * classes) % classes, np.arange(4 * classes) % classes * (np.arange(4 * classes) % 4 > 1))
    counts.add([0], [254])
    return counts


@pytest.mark.parametrize(("count", "validations"), [(1, ()), (30, ()), (500, [(10, 0.1), (400, 0.6)])])
def test_a_loss_curve(tmp_path, count, validations):
    """Short, or long and averaged, with a second chart where there are validations."""
    draw_loss_curve(tmp_path / "a.png", range(count), np.linspace(9, 1, count), validations, "PQ")
    assert (picture(tmp_path / "a.png").shape[0] > 400) == bool(validations)
    assert (share(picture(tmp_path / "a.png"), "#d55e00") > 0) == bool(validations)


@pytest.mark.parametrize("classes", [1, 2, 30, 150])
def test_a_confusion_matrix(tmp_path, classes):
    """Of any number of classes; the height stays such that it can be looked at."""
    draw_confusion(tmp_path / "a.png", confusion(classes), [f"name {id}" for id in range(classes)])
    assert 300 < len(picture(tmp_path / "a.png")) < 1100


def test_a_confusion_of_nothing(tmp_path):
    """An empty picture rather than an error."""
    draw_confusion(tmp_path / "a.png", Confusion(2), NAMES)
    assert len(picture(tmp_path / "a.png")) > 300


def test_a_comparison_has_image_truth_and_prediction(tmp_path):
    """From left to right: green; red; half blue and half grey. A dollar in a name is no formula."""
    image, truth, predicted = np.zeros((3, 80, 60), np.uint8), np.zeros((80, 60), int), np.ones((80, 60), int)
    image[1], predicted[:40] = 255, 255
    draw_comparison(tmp_path / "a.png", [(image, truth, predicted)] * 2, COLOURS, NAMES)
    thirds = np.split(picture(tmp_path / "a.png"), 3, axis=1)
    assert share(thirds[0], "#00ff00") > 0.8
    assert share(thirds[1], "#ff0000") > 0.8
    assert share(thirds[2], "#0000ff") == pytest.approx(share(thirds[2], "#b0b0b0"), rel=0.1)
    assert share(thirds[2], "#0000ff") > 0.4


def test_instances_have_colours_of_their_own(tmp_path):
    """Six objects side by side on black: six colours, the same in truth and prediction."""
    ids = np.zeros((50, 80), np.uint32)
    ids[10:40] = np.repeat(np.arange(8) % 7, 10)
    draw_instances(tmp_path / "a.png", [(np.zeros((3, 50, 80), np.uint8), ids, ids)])
    thirds = np.split(picture(tmp_path / "a.png"), 3, axis=1)
    colours, counts = np.unique(thirds[1].reshape(-1, 3), axis=0, return_counts=True)
    large = {tuple(colour.tolist()) for colour in colours[counts > 500]}
    assert len(large - {(0, 0, 0), (255, 255, 255)}) == 6
    assert {tuple(colour) for colour in thirds[2].reshape(-1, 3).tolist()} >= large


def test_without_matplotlib_a_word_says_what_to_install(tmp_path, monkeypatch):
    """It is an extra."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UsageError, match=r"pip install 'eomt-batch\[training\]'"):
        draw_confusion(tmp_path / "a.png", confusion(), NAMES)
