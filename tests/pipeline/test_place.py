"""A run writes where it may, continues what is its own, and touches nothing else."""

import os
import shutil
from pathlib import Path

import pytest

from pipeline.errors import ChangedError, EomtBatchError, OutputError
from pipeline.place import words
from pipeline.run import status, stitch_raster
from pipeline.steps.journal import Journal


def foreign_folder(path):
    """A folder of somebody else's."""
    path.mkdir()
    (path / "precious.txt").write_text("mine")


def foreign_file(path):
    """A file of somebody else's."""
    path.write_text("mine")


def foreign_zarr(path):
    """A Zarr group, but none of ours."""
    path.mkdir()
    (path / ".zgroup").write_text('{"zarr_format": 2}')
    (path / ".zattrs").write_text('{"title": "mine"}')


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("suffix", [".zarr", ".run"])
@pytest.mark.parametrize("make", [foreign_folder, foreign_file, foreign_zarr])
def test_what_is_not_ours_is_not_touched(fresh, contents, make, suffix, overwrite):
    """Not even with --overwrite; exit code 2, and nothing is written beside it either."""
    make(fresh.output.with_suffix(suffix))
    before = contents(fresh.output.parent)
    with pytest.raises(
        OutputError, match="something else is there that this tool did not make; take another"
    ) as caught:
        fresh.again(overwrite=overwrite)
    assert caught.value.exit_code == 2
    assert contents(fresh.output.parent) == before


def test_a_foreign_folder_beside_a_mosaic_of_ours_is_not_touched(finished, contents):
    """--overwrite drops both or nothing."""
    shutil.rmtree(finished.folder)
    foreign_folder(finished.folder)
    before = contents(finished.output.parent)
    with pytest.raises(OutputError, match="something else is there"):
        finished.again(overwrite=True)
    assert contents(finished.output.parent) == before


def test_names_that_look_like_our_scratch_files_are_not_touched(fresh):
    """A user may have such a folder."""
    foreign_folder(fresh.output.with_name("out.zarr.partial"))
    fresh.again()
    assert (fresh.output.with_name("out.zarr.partial") / "precious.txt").read_text() == "mine"


@pytest.mark.parametrize("name", ["out", "out.tif", "out.zarr.zip", "zarr"])
def test_a_mosaic_is_called_zarr(fresh, name):
    """The message says how it would be called."""
    with pytest.raises(OutputError, match=r"path ends in \.zarr; give \w+\S*\.zarr"):
        fresh._replace(output=fresh.output.with_name(name)).again()
    assert not list(fresh.output.parent.iterdir())


def test_a_file_is_no_parent(fresh):
    """And is not replaced by a folder."""
    parent = fresh.output.with_name("parent")
    parent.write_text("mine")
    with pytest.raises(OutputError, match="parent is a file, no folder; take another path"):
        fresh._replace(output=parent / "deep" / "out.zarr").again()
    assert parent.read_text() == "mine"


def test_a_folder_that_takes_no_files_is_told(fresh, tmp_path):
    """By permission, or, for those who have them all, by the file system."""
    with pytest.raises(OutputError, match=r"out\.run: cannot be written .*take another --out"):
        Journal(Path("/proc/out.run")).lock().__enter__()
    if os.getuid():
        tmp_path.chmod(0o500)
        with pytest.raises(OutputError, match="cannot be written; take another path"):
            fresh.again()


def test_parents_are_made(fresh):
    """As deep as it takes."""
    deep = fresh._replace(output=fresh.output.parent / "a b" / "ü" / "out.zarr")
    assert deep.again().inferred == 6


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_second_run_at_the_same_time_is_refused(finished, contents, overwrite):
    """Whoever holds the lock has the run."""
    before = contents(finished.output.parent)
    with Journal(finished.folder).lock(), pytest.raises(OutputError, match=r"out\.run is in use by another run"):
        finished.again(overwrite=overwrite)
    with Journal(finished.folder).lock(), pytest.raises(OutputError, match="in use"):
        stitch_raster(finished.output, score_threshold=0.5)
    assert contents(finished.output.parent) == before


def test_overwriting_starts_afresh(finished, digests, records):
    """All blocks again, with the new options; nothing of the old run is left."""
    before = records(finished.folder)
    report = finished.again(overwrite=True, tile_size=(96, 96), overlap="32")
    assert (report.inferred, report.reused) == (2, 0)
    assert not set(before.items()) & set(records(finished.folder).items())
    alone = finished._replace(output=finished.output.parent / "alone" / "out.zarr")
    alone.again(tile_size=(96, 96), overlap="32")
    assert digests(alone.output) == digests(finished.output)


def test_overwriting_works_where_the_run_spec_is_damaged(finished):
    """Which is what the message about it advises."""
    (finished.folder / "run.json").write_text("{")
    with pytest.raises(OutputError, match=r"not a run of this version .*--overwrite"):
        finished.again()
    assert finished.again(overwrite=True).inferred == 6


def test_overwriting_that_was_killed_can_be_done_again(finished):
    """The run spec goes last, so what is left is still known as ours."""
    for name in ("records", "COMPLETE"):
        (shutil.rmtree if name == "records" else os.unlink)(finished.folder / name)
    shutil.rmtree(finished.output)
    assert finished.again(overwrite=True).inferred == 6


def test_a_run_that_never_began_is_no_obstacle(fresh):
    """A kill may leave the lock and half a run spec."""
    fresh.folder.mkdir()
    for name in ("run.lock", "run.json.5f2.partial"):
        (fresh.folder / name).write_text("{")
    assert fresh.again().inferred == 6


def test_a_mosaic_without_its_run_folder_is_not_written_over(finished, contents):
    """Unless that is asked for."""
    shutil.rmtree(finished.folder)
    before = contents(finished.output)
    with pytest.raises(OutputError, match=r"a mosaic without its run folder out\.run; give --overwrite"):
        finished.again()
    assert contents(finished.output) == before
    assert finished.again(overwrite=True).inferred == 6


CHANGED = {
    "tile_size": ({"tile_size": (96, 64)}, "tile-size 64x64, now tile-size 96x64"),
    "overlap": ({"overlap": "32"}, "overlap 16x16, now overlap 32x32"),
    "bands": ({"bands": "3,2,1"}, "bands 1,2,3, now bands 3,2,1"),
    "scale": ({"scale": "0,254"}, "scale 0,255;0,255;0,255, now scale 0,254;0,254;0,254"),
    "nodata": ({"nodata": "7"}, r"nodata 0\.0, now nodata 7\.0"),
    "exact": ({"exact": True}, "kind scores, now kind exact"),
    "precision": ({"precision": "bf16"}, "precision fp32, now precision bf16"),
    "tile_block": ({"tile_block": 1}, "tile-block 2, now tile-block 1"),
}


@pytest.mark.parametrize("name", CHANGED)
def test_what_inference_depends_on_cannot_change(finished, contents, name):
    """Both values are named, and what --overwrite would drop; exit code 2, and nothing has changed on disk."""
    options, message = CHANGED[name]
    before = contents(finished.output.parent)
    with pytest.raises(ChangedError, match=rf"begun with {message}; .*--overwrite to drop the 6 inferred") as caught:
        finished.again(**options)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    assert contents(finished.output.parent) == before


def test_another_model_is_another_run(finished, contents, tmp_path, palette):
    """Told by its weights, not by its path: a copy elsewhere continues."""
    shutil.copytree(palette, tmp_path / "copy")
    assert finished.again(model=str(tmp_path / "copy")).inferred == 0
    weights = tmp_path / "copy" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    before = contents(finished.output.parent)
    with pytest.raises(ChangedError, match=r"begun with model sha256 \w{64}, now model sha256 \w{64}"):
        finished.again(model=str(tmp_path / "copy"))
    assert contents(finished.output.parent) == before


def test_another_input_is_another_run(finished, tmp_path):
    """Told by name, size and time; both are in the message."""
    shutil.copy(finished.raster, tmp_path / "in.tif")
    with pytest.raises(
        ChangedError, match=r"begun with input file in\.tif of \d+ bytes, .*, now input file in\.tif of"
    ):
        finished._replace(raster=tmp_path / "in.tif").again()


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        ({"score_threshold": 0.5}, "score-threshold 0.0, now score-threshold 0.5; .* --score-threshold 0.5"),
        ({"chunk": 32}, "chunk 64, now chunk 32; .* --chunk 32"),
        ({"zarr_format": 3}, "zarr-format 2, now zarr-format 3; .* --zarr-format 3"),
        ({"zarr_format": 3, "chunk": 32}, "zarr-format 2, now zarr-format 3; .* --zarr-format 3 --chunk 32"),
    ],
)
def test_what_stitching_can_change_points_to_stitch(finished, contents, options, advice):
    """With the whole command, and nothing has changed on disk."""
    before = contents(finished.output.parent)
    with pytest.raises(ChangedError, match=f"made with {advice.replace('; .*', '.*eomt-batch stitch .*out.zarr')}$"):
        finished.again(**options)
    assert contents(finished.output.parent) == before


@pytest.mark.parametrize("options", [{"batch_size": 3}, {"readers": 1}, {"max_memory": 10**10}, {"overlap": "9"}])
def test_what_decides_nothing_may_change(finished, options):
    """The run goes on as if nothing were."""
    assert finished.again(**options).inferred == 0


@pytest.mark.parametrize("ask", [status, stitch_raster])
def test_without_a_run_there_is_nothing_to_ask(tmp_path, ask):
    """The message names the file that is missing."""
    with pytest.raises(OutputError, match=r"no run was begun here \(none\.run/run\.json is missing\)"):
        ask(tmp_path / "none.zarr")


def test_facts_are_worded_as_options():
    """No brackets, no braces."""
    assert words("score_threshold", 0.5) == "score-threshold 0.5"
    assert words("bands", [1, 2]) == "bands 1,2"
    assert words("path", None) == "path None"


def test_every_error_has_the_exit_code_of_its_kind():
    """2 before the start, 1 after it, 75 where a rerun may do."""
    kinds = [EomtBatchError, *EomtBatchError.__subclasses__()]
    codes = {kind.__name__: kind.exit_code for parent in kinds for kind in (parent, *parent.__subclasses__())}
    assert codes == {
        "EomtBatchError": 1, "UsageError": 2, "InputError": 2, "OutputError": 2, "ChangedError": 2,
        "RunError": 1, "BlockError": 1, "RetryLater": 75,
    }  # fmt: skip
