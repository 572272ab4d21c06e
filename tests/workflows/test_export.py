"""`eomt-batch export`: one file that other programs read, or one line that says why there is none."""

import json
import shutil

import pyogrio
import pytest
import rasterio

from pipeline.steps.journal import Journal


@pytest.mark.parametrize("to", ["cog:tif", "gpkg:gpkg", "fgb:fgb", "parquet:parquet", "stac:json"])
def test_every_format_is_written(finished, command, tmp_path, to):
    """The file is there, and a line says how large it is."""
    name, _, suffix = to.partition(":")
    result = command("export", finished, "--to", name, "-o", tmp_path / f"out.{suffix}")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith(f"{tmp_path}/out.{suffix}: ")
    assert (tmp_path / f"out.{suffix}").stat().st_size > 0


def test_the_stripes_become_polygons(finished, command, tmp_path):
    """Five stripes of 32 x 224 pixels of a square metre, told to machines too."""
    result = command("export", finished, "--to", "gpkg", "-o", tmp_path / "out.gpkg", "--json")
    assert json.loads(result.stdout)["polygons"] == 5
    meta, _, _, fields = pyogrio.raw.read(tmp_path / "out.gpkg")
    values = dict(zip(meta["fields"], fields, strict=True))
    assert sorted(values["name"]) == ["blue", "green", "green", "red", "red"]
    assert values["area"].tolist() == [32 * 224] * 5


def test_the_item_says_which_raster_it_is_of(finished, raster, command, tmp_path):
    """The link leads to the file."""
    assert command("export", finished, "--to", "stac", "-o", tmp_path / "item.json").exit_code == 0
    (link,) = json.loads((tmp_path / "item.json").read_text())["links"]
    assert (link["rel"], (tmp_path / link["href"]).resolve()) == ("derived_from", raster.resolve())


def test_a_file_that_is_there_stays(finished, command, refused, tmp_path):
    """Unless it is to be replaced."""
    path = tmp_path / "out.tif"
    path.write_text("mine")
    assert "is already there; take another name, or --overwrite" in refused(
        command("export", finished, "--to", "cog", "-o", path)
    )
    assert path.read_text() == "mine"
    assert command("export", finished, "--to", "cog", "-o", path, "--overwrite").exit_code == 0
    with rasterio.open(path) as tiff:
        assert tiff.shape == (160, 224)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--to", "cog", "-o", "out.gpkg"), "ends in .tif"),
        (("--to", "gpkg", "-o", "out.gpkg", "--array", "instances"), "its run was semantic"),
        (("--to", "gpkg", "-o", "out.gpkg", "--array", "confidence"), "take --to cog"),
        (("--to", "cog", "-o", "out.tif", "--simplify", "2"), "is for polygons"),
        (("--to", "stac", "-o", "out.json", "--array", "classes"), "leave it out"),
        (("--to", "fgb", "-o", "out.fgb", "--simplify", "-2"), "--simplify"),
    ],
)
def test_options_that_do_not_go_together_are_refused(finished, command, refused, options, words):
    """With what to do."""
    assert words in refused(command("export", finished, *options))


def test_a_run_that_is_not_complete_is_refused(finished, command, refused, tmp_path):
    """What is missing would pass for nodata."""
    for folder in (finished, Journal.of(finished).folder):
        shutil.copytree(folder, tmp_path / folder.name)
    (tmp_path / "masks.run" / "COMPLETE").unlink()
    result = command("export", tmp_path / "masks.zarr", "--to", "cog", "-o", tmp_path / "out.tif")
    assert "is not complete" in refused(result)


def test_what_is_no_mosaic_is_refused(raster, command, refused, tmp_path):
    """A GeoTIFF, for one."""
    assert "was not written by eomt-batch" in refused(
        command("export", raster, "--to", "gpkg", "-o", tmp_path / "out.gpkg")
    )


@pytest.mark.parametrize("to", ["cog:tif", "gpkg:gpkg", "fgb:fgb", "parquet:parquet"])
def test_a_full_disk_is_for_later(finished, command, small_disk, to):
    """Whichever library writes; nothing of the file is left."""
    name, _, suffix = to.partition(":")
    small_disk.fill(small_disk.path / "others")
    result = command("export", finished, "--to", name, "-o", small_disk.path / f"out.{suffix}")
    assert result.exit_code == 75, result.stderr
    assert "the disk is full" in result.stderr
    assert [path.name for path in small_disk.path.iterdir()] == ["others"]
