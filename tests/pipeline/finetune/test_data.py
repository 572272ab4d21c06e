"""What a training reads: opened and checked as a whole before anything is begun."""

from pathlib import Path

import numpy as np
import pytest
from rasterio.enums import ColorInterp
from small_training import SHAPE, config_of, discs, picture, stripes, write, write_pairs, write_polygons

from eomt_core.card import ModelCard
from pipeline.errors import InputError, UsageError
from pipeline.finetune.data import choose_pairs, open_data

CARD = ModelCard("known", ("land", "road", "roof"), value_range=((0.0, 255.0),) * 3)


def opened(folder, task="semantic", card=None, takes=None, **options):
    """The data of a training of a model that takes so many bands."""
    return open_data(config_of(folder, **options), task, card, takes)


def test_scenes_are_paired_counted_and_told_apart(scenes):
    """Pixels of training alone; what overlaps neither side."""
    data = opened(scenes, val=("b",))
    assert (len(data.training), [stem for stem, _ in data.validation]) == (1, ["b"])
    assert data.counts == tuple(np.bincount(stripes().ravel()))
    assert data.classes == ("class_0", "class_1")
    assert data.training[0].shape == SHAPE
    assert opened(scenes).identity != data.identity == opened(scenes, val=("b",)).identity


def test_no_file_stays_open(scenes):
    """There may be more of them than a process may have open."""
    data = opened(scenes, val=("b",))
    files = [path.resolve() for path in Path("/proc/self/fd").iterdir()]
    assert not [path for path in files if path.is_relative_to(scenes)]
    data.close()


def test_other_labels_are_other_data(scenes):
    """Whatever the names: a training that goes on must not go on with those."""
    before = opened(scenes).identity
    classes = stripes()
    classes[0, 0] = 1
    write(scenes / "labels" / "a.tif", classes)
    assert opened(scenes).identity != before


@pytest.mark.parametrize("share", ["50%", "20%", "80%"])
def test_a_share_is_held_out(tmp_path, share):
    """About so many, and some on either side."""
    folder = write_pairs(tmp_path, [f"s{index}" for index in range(8)])
    for index in range(8):
        noise = np.random.default_rng(index).normal(30 + 20 * index, 5 + 3 * index, (1, *SHAPE))
        write(folder / "images" / f"s{index}.tif", noise.clip(0, 255).astype(np.uint8))
    training, validation = choose_pairs(config_of(folder, val=(share,)))
    assert {pair.stem for pair in (*training, *validation)} == {f"s{index}" for index in range(8)}
    assert len(validation) == pytest.approx(8 * float(share[:-1]) / 100, abs=0.6)
    assert len(training) + len(validation) == 8


@pytest.mark.parametrize(
    ("val", "words"),
    [
        (("x%",), "--val x%: give stems, files, a .txt list, or a percentage"),
        (("0%",), "--val 0%: give more than 0% and less than 100%"),
        (("100%",), "--val 100%: "),
        (("1%",), "--val 1%: of 2 pairs that is 0; give more images, or name some"),
        (("c",), "--val c: is none of the 2 pairs"),
        (("a", "b"), "--val a b: takes all 2 pairs"),
        (("20%", "a"), "--val 20%: is none of the 2 pairs"),
    ],
)
def test_a_validation_that_will_not_do_is_refused(scenes, val, words):
    """With the option as it was given."""
    with pytest.raises(UsageError, match=f"^{words}"):
        choose_pairs(config_of(scenes, val=val))


def test_a_validation_without_labels_is_refused(scenes):
    """There would be nothing to compare with."""
    write(scenes / "labels" / "b.tif", np.full(SHAPE, 255, np.uint8))
    with pytest.raises(UsageError, match="--val b: there is no pixel with a class in it"):
        opened(scenes, val=("b",))


def test_a_validation_without_objects_is_refused(tmp_path):
    """Likewise."""
    folder = write_pairs(tmp_path, truth=discs)
    write(folder / "labels" / "b.tif", np.zeros(SHAPE, np.uint8))
    with pytest.raises(UsageError, match="--val b: there is no object in it"):
        opened(folder, "instance", val=("b",))


def test_numbers_that_a_model_knows_are_its_classes(scenes):
    """A raster of indexes has no names of its own."""
    assert opened(scenes, card=CARD).classes == CARD.classes
    assert opened(scenes, card=CARD, classes=("x", "y")).classes == ("x", "y")


def test_a_class_without_a_pixel_is_told(scenes, caplog):
    """It may be one that these labels number and do not have, so it is no reason to stop."""
    opened(scenes, classes=("land", "road", "roof"))
    assert "no pixel to train on is roof" in caplog.text


def test_polygons_name_their_classes(tmp_path):
    """Sorted, with what lies around them."""
    write(tmp_path / "images" / "a.tif", picture(stripes()))
    path = write_polygons(tmp_path / "labels.geojson", [("road", 0, 0, 20, 100), ("roof", 30, 10, 60, 40)])
    data = opened(tmp_path, labels=str(path), outside="land")
    assert data.classes == ("land", "road", "roof")
    assert data.counts == (7200 - 2000 - 900, 2000, 900)


def test_one_class_alone_is_refused(tmp_path):
    """Everything would be it; the remedy for polygons is named."""
    write(tmp_path / "images" / "a.tif", picture(stripes()))
    path = write_polygons(tmp_path / "labels.geojson", [("roof", 30, 10, 60, 40)])
    with pytest.raises(UsageError, match=r"labels.geojson: roof is the only class.*--outside"):
        opened(tmp_path, labels=str(path))


def test_labels_without_any_class_are_refused(scenes):
    """Every pixel is ignored."""
    for stem in "ab":
        write(scenes / "labels" / f"{stem}.tif", np.full(SHAPE, 255, np.uint8))
    with pytest.raises(UsageError, match=r"labels: every pixel is ignored .--ignore 255"):
        opened(scenes, classes=("x", "y"))


def test_instances_without_an_object_are_refused(tmp_path):
    """In all images to train on."""
    folder = write_pairs(tmp_path, truth=lambda: np.zeros(SHAPE, np.uint8))
    with pytest.raises(UsageError, match="no image to train on has an object"):
        opened(folder, "instance")


def test_instances_have_one_class(tmp_path):
    """Named by the user, the model, or nobody; with more, whose they are is said."""
    folder = write_pairs(tmp_path, truth=discs)
    assert opened(folder, "instance").classes == ("object",)
    assert opened(folder, "instance", classes=("cell",)).classes == ("cell",)
    with pytest.raises(UsageError, match=r"--model new:test: 3 classes, but instances have one; .*--classes"):
        opened(folder, "instance", card=CARD)
    with pytest.raises(UsageError, match="--classes a,b: 2 classes"):
        opened(folder, "instance", classes=("a", "b"))


GRAY, ALPHA = ColorInterp.gray, ColorInterp.alpha


@pytest.mark.parametrize(
    ("bands", "colours", "wanted"),
    [
        (1, None, (1,)),
        (3, None, (1, 2, 3)),
        (5, None, (1, 2, 3)),
        (2, (GRAY, ALPHA), (1,)),
        (3, (GRAY, GRAY, ALPHA), (1,)),
        (4, (GRAY, GRAY, GRAY, ALPHA), (1, 2, 3)),
    ],
)
def test_a_new_model_takes_three_bands_or_one(scenes, make_raster, bands, colours, wanted):
    """Of which alpha is none."""
    pixels = picture(stripes(), bands)
    for stem in "ab":
        make_raster(scenes / "images" / f"{stem}.tif", pixels, colorinterp=colours)
    assert opened(scenes).rasters[0].bands == wanted


def test_images_of_different_bands_are_refused(scenes):
    """Unless the bands are chosen."""
    write(scenes / "images" / "b.tif", picture(stripes(), 1))
    with pytest.raises(UsageError, match=r"b.tif: gives 1 bands, .*a.tif 3; choose with --bands"):
        opened(scenes)
    assert opened(scenes, bands="1").rasters[1].bands == (1,)


def test_too_few_bands_for_a_model_are_refused(scenes):
    """With what to give."""
    write(scenes / "images" / "a.tif", picture(stripes(), 1))
    with pytest.raises(InputError, match=r"a.tif: has 1 band, the model takes 3; .*--bands 1,1,1"):
        opened(scenes, card=CARD, takes=3)


def scaling(folder, **options):
    """The one range of all images."""
    found = opened(folder, **options).training[0].scaling
    return list(zip(found.lo, found.hi, strict=True))


def test_bytes_have_the_range_of_bytes(scenes):
    """Whatever is in them."""
    assert scaling(scenes) == [(0, 255)] * 3


@pytest.mark.parametrize(("dtype", "unit"), [("uint16", 40), ("float32", 1 / 255)])
def test_other_pixels_have_the_median_of_their_own_ranges(tmp_path, dtype, unit):
    """Also for a model of bytes: in 255 steps of theirs there would be nothing to see."""
    folder = write_pairs(tmp_path, dtype=dtype)
    for card in (None, CARD):
        ends = np.array(scaling(folder, card=card, takes=3))
        assert ends == pytest.approx(np.array([[51 * unit, 149 * unit]] * 3), rel=0.05)


def test_a_range_that_is_given_or_known_is_taken(tmp_path):
    """That of a card, also for more bands than it has ranges if all are the same; else their own."""
    folder = write_pairs(tmp_path, dtype="uint16", bands=4)
    assert scaling(folder, scale="0,3000") == [(0, 3000)] * 3
    names = CARD.classes
    even = ModelCard("even", names, value_range=((0.0, 9000.0),) * 3)
    assert scaling(folder, card=even, takes=3, bands="1,2,3,4") == [(0, 9000)] * 4
    uneven = ModelCard("uneven", names, value_range=((0.0, 9000.0), (0.0, 8000.0), (0.0, 7000.0)))
    assert scaling(folder, card=uneven, takes=3) == [(0, 9000), (0, 8000), (0, 7000)]
    assert max(hi for _, hi in scaling(folder, card=uneven, takes=3, bands="1,2,3,4")) < 7000


def test_images_of_different_types_are_refused(scenes):
    """Unless one range for all is given."""
    write(scenes / "images" / "b.tif", picture(stripes(), dtype="uint16"))
    with pytest.raises(UsageError, match=r"b.tif: pixels are uint16, in .*a.tif uint8; .*--scale LO,HI"):
        opened(scenes)
    assert scaling(scenes, scale="0,9000") == [(0, 9000)] * 3
