"""The picture shows the input and, in their colours, its classes."""

import numpy as np
from PIL import Image

from eomt_core.palette import save_palette
from pipeline import RunConfig, segment_raster
from pipeline.export.preview import GAP, draw_preview
from pipeline.journal import Journal


def test_the_picture_has_the_image_left_and_the_class_colours_right(make_raster, tmp_path):
    """Two halves of two colours, pixel by pixel."""
    image = np.zeros((3, 64, 96), np.uint8)
    image[0, :, 48:] = 255
    raster = make_raster("two.tif", image)
    model = save_palette(tmp_path / "palette", [[0, 0, 0], [1, 0, 0]])
    segment_raster(raster, tmp_path / "out.zarr", RunConfig(model=str(model), tile_size=(64, 64)))
    spec = Journal.of(tmp_path / "out.zarr").spec()
    draw_preview(spec, tmp_path / "p.png")
    with Image.open(tmp_path / "p.png") as opened:
        picture = np.asarray(opened)
    assert (picture[:, :96] == image.transpose(1, 2, 0)).all()
    for pixel, colour in ((96 + GAP, 0), (-1, 1)):
        assert (picture[:, pixel] == list(bytes.fromhex(spec.model.colours[colour][1:]))).all()


def test_a_large_raster_is_thinned(make_raster, tmp_path):
    """The picture stays small, whatever the raster."""
    raster = make_raster("large.tif", (3, 900, 1600))
    model = save_palette(tmp_path / "palette", [[0, 0, 0], [1, 1, 1]])
    segment_raster(raster, tmp_path / "out.zarr", RunConfig(model=str(model)))
    draw_preview(Journal.of(tmp_path / "out.zarr").spec(), tmp_path / "p.png")
    with Image.open(tmp_path / "p.png") as picture:
        assert picture.size == (2 * 534 + GAP, 300)
