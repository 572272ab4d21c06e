"""Where the mosaic's folder comes from and how it goes: created whole, opened, removed, and never another's."""

import json
import shutil
from itertools import product
from typing import Any

import numpy as np
import pytest

from pipeline.errors import InputError, OutputError, UsageError
from pipeline.mosaic.mosaic import Mosaic, is_ours, open_mosaic, remove
from pipeline.rasters.raster_spec import Grid
from pipeline.tiling import Window

NODATA = {"classes": 255, "confidence": 255, "instances": 0}


def make(path, **options):
    """An empty mosaic of two classes."""
    chosen: dict[str, Any] = {"instances": True, "provenance": {"model": "none"}} | options
    colours = ["#000000", "#ffffff"]
    return Mosaic.create(path, Grid((1500, 2000), None), None, classes=["no", "yes"], colours=colours, **chosen)


def interrupted(path):
    """A removal that is stopped when all files are gone."""
    for file in path.rglob("*.json"):
        file.unlink()
    raise KeyboardInterrupt


def foreign(path):
    """Somebody else's Zarr group."""
    path.mkdir()
    (path / ".zgroup").write_text('{"zarr_format": 2}')
    (path / ".zattrs").write_text('{"title": "mine"}')
    return path


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_new_mosaic_is_complete_and_all_nodata(tmp_path, zarr_format):
    """Every array reads before the first pixel, from an explicit fill value, and stores nothing."""
    mosaic = make(tmp_path / "masks.zarr", zarr_format=zarr_format)
    for name, nodata in NODATA.items():
        assert mosaic.array(name).fill_value == nodata
        assert (mosaic.array(name)[:] == nodata).all()
    assert [path.name for path in tmp_path.iterdir()] == ["masks.zarr"]
    assert not any(path.exists() for path in mosaic.objects(Window(0, 0, *mosaic.shape)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shard": 4096}, "--zarr-shard 4096: format 2 has no shards; add --zarr-format 3, or --zarr-shard none"),
        ({"zarr_format": 3, "shard": 1500}, "--zarr-shard 1500: must be a multiple of --chunk, 1024"),
    ],
    ids=["format 2", "no multiple"],
)
def test_shards_that_cannot_be_are_refused(tmp_path, options, message):
    """The message names the option and the remedy, and nothing is written."""
    with pytest.raises(UsageError) as caught:
        make(tmp_path / "masks.zarr", **options)
    assert str(caught.value) == message
    assert list(tmp_path.iterdir()) == []


def test_a_creation_that_fails_leaves_nothing(tmp_path):
    """No half of a mosaic is ever found under the name."""
    with pytest.raises(TypeError):
        make(tmp_path / "masks.zarr", provenance={"model": object()})
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    """A taken name and a missing folder are the user's to mend."""
    with pytest.raises(OutputError, match=r"masks.zarr: cannot be written \(No such file or directory\)"):
        make(tmp_path / "missing" / "masks.zarr")
    with pytest.raises(OutputError, match="is already there"):
        make(tmp_path)


def test_only_our_own_is_removed(tmp_path):
    """Somebody else's directory, and a link to ours, stay as they are."""
    ours, theirs, link = make(tmp_path / "ours.zarr").path, foreign(tmp_path / "theirs.zarr"), tmp_path / "link.zarr"
    link.symlink_to(ours)
    for path in (theirs, link):
        with pytest.raises(OutputError, match="is not deleted"):
            remove(path)
    assert len(list(theirs.iterdir())) == 2
    assert (is_ours(ours), is_ours(theirs)) == (True, False)
    remove(ours)
    assert not ours.exists()


def test_removing_nothing_is_fine(tmp_path):
    """To start afresh where nothing is needs no question."""
    remove(tmp_path / "masks.zarr")
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_removal_can_be_taken_up(tmp_path, monkeypatch):
    """The marker goes last, so what is left is still known as ours; only opening it fails, in one line."""
    mosaic = make(tmp_path / "masks.zarr", zarr_format=3)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", interrupted)
        with pytest.raises(KeyboardInterrupt):
            remove(mosaic.path)
    with pytest.raises(InputError, match="damaged"):
        Mosaic.open(mosaic.path)
    remove(mosaic.path)
    assert not mosaic.path.exists()


@pytest.mark.parametrize(("name", "what"), [("theirs.zarr", "not written by eomt-batch"), ("none.zarr", "not there")])
def test_only_our_own_is_opened(tmp_path, name, what):
    """One line says what is wrong with the path."""
    foreign(tmp_path / "theirs.zarr")
    with pytest.raises(InputError, match=rf"{name}: .*{what}") as caught:
        open_mosaic(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_finish_makes_one_file_of_all_metadata(tmp_path):
    """A reader far away asks once, and sees what was written last."""
    mosaic = make(tmp_path / "masks.zarr", levels=2)
    mosaic.finish()
    mosaic.root.attrs["note"] = "written last"
    assert "note" in open_mosaic(mosaic.path).root.attrs, "the groups' own metadata are the truth"
    mosaic.finish()
    assert "note" in json.loads((mosaic.path / ".zmetadata").read_text())["metadata"][".zattrs"]
    listed = json.loads((mosaic.path / ".zmetadata").read_text())["metadata"]
    assert {f"{level}/{name}/.zarray" for level, name in product((0, 1), NODATA)} <= listed.keys()
    assert "classes/.zarray" in json.loads((mosaic.path / "1" / ".zmetadata").read_text())["metadata"]


def test_writing_shards_needs_whole_shards(tmp_path):
    """A shard is one object: whole chunks of it are not enough."""
    mosaic = make(tmp_path / "masks.zarr", zarr_format=3, chunk=256, shard=512)
    with pytest.raises(ValueError, match="whole blocks of 512 pixels"):
        mosaic.write(Window(0, 0, 256, 256), classes=np.zeros((256, 256), "u1"))
