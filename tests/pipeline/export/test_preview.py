"""The picture shows image, classes, objects and confidence, each where it belongs."""

import os

import numpy as np
import pytest
import rasterio
from PIL import Image
from small_mosaic import make, paint, picture

from pipeline import open_mosaic
from pipeline.errors import InputError
from pipeline.export import panes
from pipeline.export.panes import Subject, numbered
from pipeline.export.preview import GAP, LINE, MARGIN, SIDE, draw_preview, round_length
from pipeline.rasters.raster_spec import Grid

TOP = MARGIN + 3 * LINE


def pixels(path):
    """The picture, (h, w, 3)."""
    with Image.open(path) as opened:
        return np.asarray(opened.convert("RGB")).astype(int)


def test_image_classes_and_confidence_have_their_places(done, tmp_path):
    """Sampled in the last third of each panel: light grey, the class's colour, yellow."""
    _, output = done
    draw_preview(Subject.open(output), tmp_path / "p.png")
    found, last = pixels(tmp_path / "p.png"), round(SIDE * 0.7)
    colour = list(bytes.fromhex(open_mosaic(output).colours[2][1:]))
    below = TOP + 360 + LINE + GAP
    assert found[TOP + 300, MARGIN + last].tolist() == [230, 230, 230]
    assert found[TOP + 300, MARGIN + SIDE + GAP + last].tolist() == colour
    np.testing.assert_allclose(found[below + 300, MARGIN + last], [255, 234, 70], atol=30)


def test_a_large_raster_is_thinned(tmp_path):
    """The picture stays small, whatever the raster."""
    mosaic = make(tmp_path / "a.zarr", Grid((9000, 4000)), None)
    draw_preview(Subject.open(mosaic.path), tmp_path / "p.png")
    height, width, _ = pixels(tmp_path / "p.png").shape
    assert height < 2 * (SIDE + LINE + GAP) + 4 * LINE + 2 * MARGIN
    assert width < 2 * SIDE


def test_a_small_raster_is_enlarged(make_run, tmp_path):
    """By a whole factor, so that each pixel is a square."""
    _, output = make_run((64, 96))
    draw_preview(Subject.open(output), tmp_path / "p.png")
    block = pixels(tmp_path / "p.png")[TOP + 7 * 10 : TOP + 7 * 60, MARGIN + 7 * 2 : MARGIN + 7 * 30]
    assert (block == 26).all()


def test_truth_stands_beside_the_image(done, make_raster, tmp_path):
    """In the classes' colours."""
    _, output = done
    truth = make_raster("truth.tif", np.full((1, 360, 720), 1, np.uint8))
    draw_preview(Subject.open(output), tmp_path / "p.png", truth)
    colour = list(bytes.fromhex(open_mosaic(output).colours[1][1:]))
    assert pixels(tmp_path / "p.png")[TOP + 20, MARGIN + SIDE + GAP + 20].tolist() == colour


@pytest.mark.parametrize("instances", [False, True])
def test_a_mosaic_without_its_run_is_drawn(tmp_path, instances):
    """From what it says of itself; a word tells why there is no image."""
    arrays = {name: array for name, array in picture().items() if instances or name != "instances"}
    mosaic = paint(make(tmp_path / "a.zarr", instances=instances), arrays)
    subject = Subject.open(mosaic.path)
    assert [pane.name for pane in subject.panes(SIDE).panes] == ["classes", *["instances"] * instances, "confidence"]
    assert any("no image" in note for note in subject.notes)
    draw_preview(subject, tmp_path / "p.png")
    assert len(np.unique(pixels(tmp_path / "p.png").reshape(-1, 3), axis=0)) > 20


def test_numbers_stand_where_a_class_is_widest():
    """In the middle of the larger of two squares; nodata has none."""
    classes = np.full((100, 100), 255, np.uint8)
    classes[5:10, 5:10] = classes[40:81, 30:71] = 3
    assert numbered(classes, 4) == {3: (60, 50)}


@pytest.mark.parametrize(("most", "length"), [(1, 1), (0.9, 0.5), (7, 5), (4999, 2000), (0.0021, 0.002)])
def test_bars_have_round_lengths(most, length):
    """1, 2 or 5 and noughts."""
    assert round_length(most) == pytest.approx(length)


def test_an_image_is_read_from_the_overviews_of_its_file(make_run, tmp_path):
    """The overview is painted over; what is drawn is the paint."""
    raster, output = make_run((128, 512))
    copy = tmp_path / "copy.tif"
    copy.write_bytes(raster.read_bytes())
    with rasterio.open(copy, "r+") as dataset:
        dataset.build_overviews([4])
    with rasterio.open(copy, "r+", overview_level=0) as dataset:
        dataset.write(np.full((3, 32, 128), 99, np.uint8))
    assert (np.asarray(Subject.open(output, str(copy)).image.read((32, 128)))[..., :3] == 99).all()


def test_a_large_image_without_overviews_is_shown_only_if_asked_for(make_run, monkeypatch):
    """It must be decoded as a whole; of one with overviews next to nothing."""
    raster, output = make_run((128, 512))
    monkeypatch.setattr(panes, "MOST", 128 * 512 - 1)
    assert "no overviews" in Subject.open(output).panes(128).notes[0]
    assert Subject.open(output, str(raster)).panes(128).panes[0].name == "image"
    with rasterio.open(raster, "r+") as dataset:
        dataset.build_overviews([2, 4])
    assert Subject.open(output, str(raster)).image.decoded((32, 128)) == 128 * 512 // 16


@pytest.mark.parametrize("loss", ["gone", "changed", "damaged"])
def test_an_input_that_was_lost_is_left_out(make_run, loss):
    """The rest is shown, and the reason is told; asked for, it is an error."""
    raster, output = make_run()
    size, stat = raster.stat().st_size, raster.stat()
    if loss == "gone":
        raster.unlink()
    elif loss == "changed":
        raster.touch()
    else:
        raster.write_bytes(b"II*\0" + bytes(size - 4))
        os.utime(raster, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    subject = Subject.open(output)
    shown, _, notes = subject.panes(SIDE)
    assert [pane.name for pane in shown] == ["classes", "confidence"]
    assert any("no image: in.tif" in note for note in (*subject.notes, *notes))
    if loss == "damaged":
        with pytest.raises(InputError, match=r"in\.tif"):
            Subject.open(output, str(raster))


def test_an_image_of_another_shape_is_refused(make_run, make_raster):
    """With both shapes."""
    _, output = make_run()
    other = make_raster("other.tif", (3, 10, 20))
    with pytest.raises(InputError, match="has 10 x 20 pixels, the mosaic 160 x 240"):
        Subject.open(output, str(other))


def test_another_image_is_stretched_for_people(make_run, make_raster):
    """One band of 16 bits, where the run had three of 8: its darkest becomes black, its lightest white."""
    _, output = make_run()
    ramp = np.broadcast_to(np.linspace(1000, 2000, 240).astype(np.uint16), (1, 160, 240))
    other = make_raster("other.tif", np.ascontiguousarray(ramp))
    found = np.asarray(Subject.open(output, str(other)).image.read((16, 24)))
    assert (found[..., 0] == found[..., 2]).all()
    assert found[:, 0, 0].max() < 20
    assert found[:, -1, 0].min() > 235
