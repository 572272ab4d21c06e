"""Images find their labels by name, and the user says which are kept for validation."""

import pytest

from pipeline.errors import UsageError
from pipeline.truth.pairs import find_pairs, split_pairs


@pytest.fixture
def files(tmp_path, monkeypatch):
    """`files("images/a.tif", ...)`: empty files, in the folder that the test stands in."""
    monkeypatch.chdir(tmp_path)

    def make(*names):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()

    return make


def names(pairs):
    """Stem and both file names."""
    return [(pair.stem, pair.image.name, pair.labels.name) for pair in pairs]


def test_files_of_two_folders_are_paired_by_stem(files):
    """Whatever their endings, in the order of stems."""
    files("i/b.png", "i/a.tif", "l/a.png", "l/b.geojson")
    assert names(find_pairs("i", "l")) == [("a", "a.tif", "a.png"), ("b", "b.png", "b.geojson")]


def test_one_file_with_one_file_is_a_pair(files):
    """No name is asked for where there is no choice."""
    files("scene.tif", "truth.gpkg")
    assert names(find_pairs("scene.tif", "truth.gpkg")) == [("scene", "scene.tif", "truth.gpkg")]


@pytest.mark.parametrize(("one", "other"), [("_rgb", "_labels"), ("", "_mask"), ("-image", ""), ("_1_rgb", "_1_truth")])
def test_an_ending_that_a_side_shares_is_left_out(files, one, other):
    """`tile4_rgb` and `tile4_labels` are both `tile4`."""
    files(
        *(f"{name}{one}.tif" for name in ("tile4", "tile7")), *(f"t/{name}{other}.tif" for name in ("tile4", "tile7"))
    )
    pairs = find_pairs(f"*{one}.tif", f"t/*{other}.tif")
    assert [pair.labels.name for pair in pairs] == [f"tile4{other}.tif", f"tile7{other}.tif"]
    assert [pair.image.name for pair in pairs] == [f"tile4{one}.tif", f"tile7{one}.tif"]


def test_no_more_of_a_name_is_left_out_than_helps(files):
    """Both of the images end in `_1_rgb`, but the labels tell by the number."""
    files("i/t_1_rgb.tif", "i/u_1_rgb.tif", "l/t_1.tif", "l/u_1.tif")
    assert [pair.stem for pair in find_pairs("i", "l")] == ["t_1", "u_1"]


def test_sidecars_and_hidden_files_are_no_images(files):
    """GDAL and file managers leave them anywhere."""
    files("i/a.tif", "i/a.tif.aux.xml", "i/a.tif.ovr", "i/a.tif.msk", "i/.DS_Store", "i/a.tfw", "l/a.shp", "l/a.dbf")
    assert names(find_pairs("i", "l")) == [("a", "a.tif", "a.shp")]


def test_a_pattern_goes_into_folders(files):
    """With two stars."""
    files("i/x/a.tif", "i/y/b.tif", "l/a.tif", "l/b.tif")
    assert [pair.image.parent.name for pair in find_pairs("i/**/*.tif", "l")] == ["x", "y"]


@pytest.mark.parametrize(
    ("made", "images", "labels", "words"),
    [
        (["i/a.tif", "i/b.tif", "l/a.tif"], "i", "l", r"i/b.tif: nothing in l has the stem b; there are a"),
        (["i/a.tif", "l/a.tif", "l/c.tif", "l/d.tif"], "i", "l", r"l/c.tif: nothing in i .* c \(and 1 more"),
        (["i/a.tif", "i/a.png", "l/a.tif"], "i", "l", r"i/a.tif: has the same stem as i/a.png"),
        (["i/.hidden", "l/a.tif"], "i", "l", "IMAGES i: holds no files"),
        (["i/a.tif"], "i", "l/*.tif", r"LABELS l/\*.tif: matches no file"),
        (["i/a.tif"], "i", "none", "LABELS none: there is no such file or folder"),
    ],
)
def test_files_without_a_partner_are_refused(files, made, images, labels, words):
    """Naming the file and what to do."""
    files(*made)
    with pytest.raises(UsageError, match=words):
        find_pairs(images, labels)


@pytest.fixture
def pairs(files):
    """Tiles 1 to 4."""
    files(*(f"i/tile{n}_rgb.tif" for n in (1, 2, 3, 4)), *(f"l/tile{n}_labels.png" for n in (1, 2, 3, 4)))
    return find_pairs("i", "l")


@pytest.mark.parametrize(
    "val",
    [
        ["tile2"],
        ["tile2_rgb"],
        ["i/tile2_rgb.tif"],
        ["l/tile2_labels.png"],
        ["tile2_rgb.tif"],
        ["*2_rgb.tif"],
        ["i/*2*"],
        ["tile2", "i/tile2_rgb.tif"],
    ],
)
def test_validation_is_named_in_many_ways(pairs, val):
    """Stems, files of either side, patterns."""
    training, validation = split_pairs(pairs, val)
    assert [pair.stem for pair in validation] == ["tile2"]
    assert [pair.stem for pair in training] == ["tile1", "tile3", "tile4"]


def test_an_absolute_path_names_a_pair(pairs, tmp_path):
    """Wherever the user stands."""
    assert split_pairs(pairs, [str(tmp_path / "i" / "tile3_rgb.tif")])[1] == [pairs[2]]


def test_a_list_in_a_file_names_pairs(pairs, tmp_path):
    """One stem or path a line."""
    (tmp_path / "val.txt").write_text("# held out\ntile1\n\ni/tile4_rgb.tif\n")
    assert [pair.stem for pair in split_pairs(pairs, ["val.txt"])[1]] == ["tile1", "tile4"]


def test_no_name_holds_nothing_out(pairs):
    """All are trained on."""
    assert split_pairs(pairs, []) == (pairs, [])


@pytest.mark.parametrize(
    ("val", "words"),
    [
        (["tile9"], r"--val tile9: is none of the 4 pairs \(tile1, tile2, tile3 …\)"),
        (["tile?"], "takes all 4 pairs"),
        (["none.txt"], "cannot be read as a list"),
    ],
)
def test_a_validation_that_will_not_do_is_refused(pairs, val, words):
    """Naming the value."""
    with pytest.raises(UsageError, match=words):
        split_pairs(pairs, val)
