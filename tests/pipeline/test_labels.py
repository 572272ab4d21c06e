"""Truth on the grid of a raster: classes or instances, from rasters or polygons."""

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import InputError, UsageError
from pipeline.rasters.raster import open_raster
from pipeline.tiling import Window
from pipeline.truth.labels import IGNORE, gather_classes, open_labels

UTM = (2.0, 0.0, 400000.0, 0.0, -2.0, 5600000.0)
SHAPE = (120, 160)
WHOLE = Window(0, 0, *SHAPE)
NAMES = ("land", "road", "house")


@pytest.fixture
def image(make_raster):
    """240 x 320 m of noise, in UTM."""
    return open_raster(make_raster("image.tif", (3, *SHAPE), "EPSG:32632", UTM))


def classes(shape=SHAPE):
    """Three classes and the value 255, in stripes of unequal width."""
    return np.array([0, 0, 0, 1, 1, 2, 255, 0, 2, 1], np.uint8)[np.arange(shape[1]) // 7 % 10][None, None].repeat(
        shape[0], axis=1
    )


def expected():
    """The same, as labels."""
    found = classes()[0].astype(np.int32)
    found[found == 255] = IGNORE
    return found


@pytest.mark.parametrize("window", [WHOLE, Window(17, 23, 50, 64), Window(119, 159, 1, 1)])
def test_a_window_of_classes_is_a_part_of_them(image, make_raster, window):
    """Indexes, and nothing where the value says so."""
    path = make_raster("l.tif", classes(), "EPSG:32632", UTM, tiled=True, blockxsize=32, blockysize=32)
    with open_labels(path, image, "semantic", NAMES) as labels:
        found = labels.read(window)
    assert found.dtype == np.int32
    assert (found == expected()[window.slices]).all()


def test_nodata_and_mask_say_nothing(image, make_raster):
    """Whichever tells of it."""
    mask = np.ones(SHAPE, bool)
    mask[:30] = False
    masked = make_raster("m.tif", classes(), mask=mask)
    with open_labels(masked, image, "semantic", NAMES) as labels:
        assert (labels.read(WHOLE) == np.where(mask, expected(), IGNORE)).all()
    with open_labels(make_raster("n.tif", classes(), nodata=1), image, "semantic", NAMES) as labels:
        assert (labels.read(WHOLE) == np.where(expected() == 1, IGNORE, expected())).all()


def test_indexes_of_a_palette_are_the_classes(image, tmp_path):
    """A PNG with colours for the eye."""
    picture = Image.frombytes("P", SHAPE[::-1], (classes() % 200).tobytes())
    picture.putpalette(bytes(range(256)) * 3)
    picture.save(tmp_path / "p.png")
    with open_labels(tmp_path / "p.png", image, "semantic", (*NAMES, "x"), ignore=55) as labels:
        assert (labels.read(WHOLE) == expected()).all()


def test_values_count_pixels_by_class(image, make_raster, monkeypatch):
    """Window by window, the same as of the whole."""
    monkeypatch.setattr("pipeline.truth.label_raster.SCAN_SIDE", 32)
    path = make_raster("l.tif", classes(), tiled=True, blockxsize=16, blockysize=16)
    with open_labels(path, image, "semantic", NAMES) as labels:
        values = labels.values()
    assert values.counts == {index: int((expected() == index).sum()) for index in range(3)}
    assert values.ignored == (expected() == IGNORE).sum()
    assert values.instances == 0


def test_without_names_a_raster_numbers_its_classes(image, make_raster):
    """Up to the highest."""
    with open_labels(make_raster("l.tif", classes()), image, "semantic", None) as labels:
        assert labels.names() == ("class_0", "class_1", "class_2")


def test_instances_are_ids_and_background(image, make_raster):
    """255 is an id, and nodata 0 the background."""
    ids = (np.arange(SHAPE[0] * SHAPE[1]).reshape(1, *SHAPE) // 50).astype(np.uint16)
    with open_labels(make_raster("i.tif", ids, nodata=0), image, "instance", None) as labels:
        assert (labels.read(WHOLE) == ids[0]).all()
        assert labels.values() == ({0: 50, 1: ids.size - 50}, 0, 383)
        assert labels.names() == ()


def test_instances_may_be_ignored(image, make_raster):
    """By a value that is named, or by nodata other than 0."""
    ids = np.zeros((1, *SHAPE), np.uint32)
    ids[0, 0, :5] = [7, 7, 9, 4294967295, 8]
    with open_labels(make_raster("i.tif", ids, nodata=4294967295), image, "instance", None, ignore=9) as labels:
        assert labels.read(Window(0, 0, 1, 6)).tolist() == [[7, 7, IGNORE, IGNORE, 8, 0]]
        assert labels.values().instances == 2


def test_threads_read_the_same(image, make_raster):
    """Each has a handle of its own."""
    path = make_raster("l.tif", classes(), tiled=True, blockxsize=32, blockysize=32)
    windows = [Window(row, col, 40, 40) for row in range(0, 80, 8) for col in range(0, 120, 8)]
    with open_labels(path, image, "semantic", NAMES) as labels, ThreadPoolExecutor(4) as pool:
        assert all(map(np.array_equal, pool.map(labels.read, windows), [expected()[w.slices] for w in windows]))


@pytest.mark.parametrize(
    ("array", "options", "words"),
    [
        (classes((120, 161)), {}, "120 x 161 pixels .*, but .*image.tif: 120 x 160 pixels"),
        (classes(), {"crs": "EPSG:32633", "transform": UTM}, "in EPSG:32633, but .* in EPSG:32632"),
        (classes(), {"crs": "EPSG:32632", "transform": (2, 0, 400003, 0, -2, 5600000)}, "up to 1.5 pixels beside"),
        (classes(), {"crs": "EPSG:32632", "transform": (2.01, 0, 400000, 0, -2, 5600000)}, "up to 0.8 pixels beside"),
        (classes().repeat(3, 0), {}, "has 3 bands"),
        (classes().astype(np.float32), {}, "pixels are float32"),
        (classes().astype(np.uint8) // 2 * 3, {}, r"\d+ pixels have the class 3 .*0 land, 1 road, 2 house.*--ignore 3"),
        (classes().astype(np.int16) - 1, {}, r"\d+ pixels have the value -1, which is no class"),
    ],
)
def test_a_raster_that_does_not_fit_is_refused(image, make_raster, array, options, words):
    """Naming the file, the value and the remedy."""
    path = make_raster("l.tif", array, **options)
    with pytest.raises(InputError, match=rf"l\.tif: .*{words}"):
        open_labels(path, image, "semantic", NAMES, ignore=381).values()


def test_a_window_with_a_class_outside_the_list_is_refused(image, make_raster):
    """Even if nobody looked through the values first."""
    with (
        open_labels(make_raster("l.tif", classes()), image, "semantic", NAMES[:2]) as labels,
        pytest.raises(InputError, match="the class 2"),
    ):
        labels.read(WHOLE)


def test_a_slightly_rounded_transform_is_the_same(image, make_raster):
    """Files are written with few digits; another name of the CRS is no other CRS."""
    place = (2.0001, 0, 400000.02, 0, -2, 5600000)
    crs = "+proj=utm +zone=32 +datum=WGS84 +units=m"
    with open_labels(make_raster("l.tif", classes(), crs, place), image, "semantic", NAMES) as labels:
        assert labels.read(WHOLE).max() == classes()[classes() != 255].max()


def test_heights_are_no_classes(image, make_raster):
    """Nor are instance ids."""
    path = make_raster("l.tif", np.full((1, *SHAPE), 3000, np.uint16))
    with pytest.raises(InputError, match=r"l\.tif: has the class 3000; .*--task instance"):
        open_labels(path, image, "semantic", None).names()


@pytest.mark.parametrize("content", [None, b"", b"hello", b"II*\0broken"])
def test_a_file_that_cannot_be_read_is_refused(image, tmp_path, content):
    """Missing, empty, no raster and no polygons, broken."""
    if content is not None:
        (tmp_path / "l.tif").write_bytes(content)
    with pytest.raises(InputError, match=r"l\.tif: "):
        open_labels(tmp_path / "l.tif", image, "semantic", NAMES)


def test_outside_is_for_polygons(image, make_raster):
    """Rasters have a value everywhere."""
    with pytest.raises(UsageError, match="--outside land"):
        open_labels(make_raster("l.tif", classes()), image, "semantic", NAMES, outside="land")


@pytest.fixture
def named(tmp_path):
    """`named(name)`: a polygon of a class, in a file of its own."""

    def write(name):
        ring = [[400002, 5599998], [400052, 5599998], [400002, 5599958], [400002, 5599998]]
        shape = {"type": "Polygon", "coordinates": [ring]}
        feature = {"type": "Feature", "properties": {"class": name}, "geometry": shape}
        crs = {"type": "name", "properties": {"name": "EPSG:32632"}}
        path = tmp_path / f"{name}.geojson"
        path.write_text(json.dumps({"type": "FeatureCollection", "crs": crs, "features": [feature]}))
        return path

    return write


def test_classes_of_several_files_are_put_together(image, named, make_raster):
    """Names are sorted, numbers go up to the highest, and the two do not mix."""

    def opened(path):
        return open_labels(path, image, "semantic", None)

    words = [opened(named(name)) for name in ("tree", "car", "tree2")]
    counted = [opened(make_raster(f"{n}.tif", np.full((1, *SHAPE), n, np.uint8))) for n in (3, 12, 255)]
    assert gather_classes(words) == ("car", "tree", "tree2")
    assert gather_classes(counted) == tuple(f"class_{n}" for n in range(13))
    with pytest.raises(UsageError, match=r"3\.tif: numbers its classes.*--classes"):
        gather_classes([*words, *counted])
    with pytest.raises(UsageError, match="no pixel has a class"):
        gather_classes(counted[2:])


def test_real_labels_fit_their_images(data_dir):
    """Ids of nuclei, as many as the index says."""
    name = "00071198d059ba7f5914a526d124d28e6d010c92466da21d4a04cd5413362552.png"
    folder = data_dir / "nuclei"
    with open_labels(folder / "labels" / name, open_raster(folder / "images" / name), "instance", None) as labels:
        assert labels.values().instances == 27
