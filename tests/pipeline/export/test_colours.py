"""Numbers as colours: each its own, told back from the picture."""

import base64
import colorsys
import io

import numpy as np
from PIL import Image

from pipeline.export.colours import (
    CIVIDIS,
    UNLABELLED,
    data_uri,
    distinct,
    paint_classes,
    paint_confidence,
    paint_objects,
    tint,
)
from pipeline.mosaic.codes import codes


def rgba(image):
    """Red, green, blue and opacity (h, w, 4), as a browser sees the PNG."""
    buffer = io.BytesIO()
    image.save(buffer, "png")
    return np.asarray(Image.open(buffer).convert("RGBA"))


def test_classes_have_their_colours():
    """What is unlabelled is grey, nodata is transparent."""
    found = rgba(paint_classes(np.array([[0, 1, 254, 255]], "u1"), ("#ff0000", "#0000ff"), codes(2)))
    grey = bytes.fromhex(UNLABELLED[1:])
    assert found[0, :3].tolist() == [[255, 0, 0, 255], [0, 0, 255, 255], [*grey, 255]]
    assert found[0, 3, 3] == 0


def test_more_classes_than_a_palette_has_colours():
    """A thousand, told apart."""
    colours = [f"#{id:06x}" for id in range(1000)]
    found = (
        rgba(paint_classes(np.arange(1000, dtype="u2").reshape(10, 100), colours, codes(1000)))
        .reshape(-1, 4)
        .astype(int)
    )
    assert (found[:, 1] * 256 + found[:, 2]).tolist() == list(range(1000))


def test_no_two_colours_stay_the_same():
    """Those that did not clash stay; the others move by next to nothing, unlabelled's among them."""
    colours = ("#ffffff", "#ffffff", "#102030", UNLABELLED, "#102030", "#102030")
    found = distinct(colours)
    assert len({*found, UNLABELLED}) == len(colours) + 1
    assert (found[0], found[2]) == ("#ffffff", "#102030")
    for before, after in zip(colours, found, strict=True):
        assert max(abs(a - b) for a, b in zip(bytes.fromhex(before[1:]), bytes.fromhex(after[1:]), strict=True)) <= 32


def test_objects_have_colours_of_their_own_and_outlines():
    """Two squares that touch: two colours, a dark line between them, and nothing where no object is."""
    ids = np.zeros((20, 40), np.uint32)
    ids[2:18, 2:20], ids[2:18, 20:38] = 5, 4_000_000_000
    found = rgba(paint_objects(ids))
    assert found[0, 0, 3] == 0
    assert found[10, 10].tolist() != found[10, 30].tolist()
    assert found[10, 19, :3].max() < 40


def test_objects_of_one_pixel_keep_their_colours():
    """Outlines would hide them all."""
    ids = np.arange(1, 65, dtype=np.uint32).reshape(8, 8)
    assert len(np.unique(rgba(paint_objects(ids)).reshape(-1, 4), axis=0)) > 50


def test_tints_are_those_of_colorsys():
    """Against the standard library."""
    for id in (1, 2, 3, 100, 65_537):
        hue, value = id * 0.61803398875 % 1, (1, 0.75, 0.55)[id % 3]
        expected = [255 * band for band in colorsys.hsv_to_rgb(hue, 0.65, value)]
        np.testing.assert_allclose(tint(np.array([id]))[0], expected, atol=1)
    assert tint(np.array([0])).tolist() == [[0, 0, 0]]


def test_confidence_gets_lighter():
    """From the first to the last colour, each as light as the one before or lighter; 255 is transparent."""
    found = rgba(paint_confidence(np.arange(256, dtype=np.uint8)[None]))[0].astype(int)
    assert [f"#{bytes(found[at, :3].tolist()).hex()}" for at in (0, 254)] == [CIVIDIS[0], CIVIDIS[-1]]
    assert (np.diff(found[:255, :3] @ (0.2126, 0.7152, 0.0722)) >= -0.8).all()
    assert found[255, 3] == 0


def test_a_data_uri_holds_the_picture():
    """As PNG without loss, as WebP with opacity."""
    image = Image.new("RGBA", (3, 2), (10, 20, 30, 0))
    for kind in ("png", "webp"):
        head, _, body = data_uri(image, kind).partition(",")
        assert head == f"data:image/{kind};base64"
        with Image.open(io.BytesIO(base64.b64decode(body))) as found:
            assert (found.size, found.convert("RGBA").getpixel((0, 0))[3]) == ((3, 2), 0)
