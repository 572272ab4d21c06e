"""A run that is killed goes on where it was: the same bytes, and nothing done twice."""

import random
import shutil
import time

import pytest
import zarr

from pipeline import segment_raster
from pipeline.run import status, stitch_raster
from pipeline.spec import read_spec
from pipeline.steps.journal import Journal


@pytest.fixture(scope="module")
def unbroken(make_many):
    """An unbroken run of 48 tile blocks and 12 output blocks."""
    made = make_many((300, 400))
    assert [len(status(made.output).done[step]) for step in ("infer", "render")] == [48, 12]
    return made


def finished_blocks(folder):
    """Records of both steps that are there, by name."""
    return [path for step in ("infer", "render") for path in (folder / "records" / step).glob("*.json")]


def kill_at(process, folder, count, delay):
    """SIGKILL a process when so many blocks are done, or a moment later."""
    process.start()
    while process.is_alive() and len(finished_blocks(folder)) < count:
        time.sleep(0.002)
    time.sleep(delay)
    process.kill()
    process.join()


def counted(folder, records):
    """The infer records that count, with inode and time."""
    spec = read_spec(folder)
    names = {record.block for record in Journal(folder).records("infer", spec.infer_fingerprint)}
    return {name: stamp for name, stamp in records(folder).items() if name in names}


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1])
def test_five_kills_leave_no_trace(unbroken, tmp_path, forks, digests, records, seed):
    """At random moments of inference and rendering; every block that was done when it was killed is done once."""
    rng = random.Random(seed)
    made = unbroken._replace(output=tmp_path / "out.zarr")
    kills = sorted(rng.sample(range(1, 48), 3)) + sorted(rng.sample(range(48, 60), 2))
    for count in kills:
        process = forks.Process(target=segment_raster, args=(made.raster, made.output, made.config))
        before = counted(made.folder, records) if (made.folder / "run.json").exists() else {}
        kill_at(process, made.folder, count, rng.uniform(0, 0.03))
        assert process.exitcode == -9
        assert before.items() <= counted(made.folder, records).items()
        assert not status(made.output).complete
    before = counted(made.folder, records)
    report = made.again()
    assert (report.inferred, report.reused) == (48 - len(before), len(before))
    assert before.items() <= counted(made.folder, records).items()
    assert digests(made.output) == digests(unbroken.output)


def count_records(folder):
    """Those of a folder that may be dropped as it is looked at."""
    try:
        return sum(path.suffix == ".json" for path in folder.iterdir())
    except FileNotFoundError:
        return 0


@pytest.mark.slow
def test_stitching_that_is_killed_goes_on(unbroken, tmp_path, forks, digests):
    """By the same command; a run with the old options is then refused, as the new ones have begun."""
    made, expected = (unbroken._replace(output=tmp_path / name / "out.zarr") for name in ("killed", "expected"))
    for copy in (made, expected):
        shutil.copytree(unbroken.output.parent, copy.output.parent)
    stitch_raster(expected.output, score_threshold=0.9)
    process = forks.Process(target=stitch_raster, args=(made.output,), kwargs={"score_threshold": 0.9})
    (made.folder / "records" / "render" / "0-0.json").unlink()
    process.start()
    while process.is_alive() and not 0 < count_records(made.folder / "records" / "render") < 6:
        time.sleep(0.002)
    process.kill()
    process.join()
    assert not status(made.output).complete
    stitch_raster(made.output, score_threshold=0.9)
    assert digests(made.output) == digests(expected.output)


def test_leftovers_of_a_kill_do_no_harm(finished, original, digests):
    """Half a shard, half a record, half a chunk, half a mosaic."""
    for path in [path for path in finished.output.parent.rglob("*") if path.is_file() and path.name != "zarr.json"]:
        path.with_name(f"{path.name}.5f2a.partial").write_bytes(path.read_bytes()[:7])
    shutil.rmtree(finished.folder / "records" / "render")
    (finished.folder / "records" / "infer" / "0-1.json").unlink()
    report = finished.again()
    assert (report.inferred, report.rendered) == (1, 4)
    assert digests(finished.output) == digests(original.output)


@pytest.mark.parametrize("harm", [lambda text: text[:40], lambda text: "", lambda text: text.replace("0", "9")])
def test_a_block_with_a_damaged_record_is_done_again(finished, original, digests, harm):
    """And only that one."""
    path = finished.folder / "records" / "infer" / "1-2.json"
    path.write_text(harm(path.read_text()))
    before = {path.name: path.stat().st_ino for path in path.parent.iterdir()}
    assert finished.again().inferred == 1
    after = {path.name: path.stat().st_ino for path in path.parent.iterdir()}
    assert {name for name in after if after[name] != before[name]} == {"1-2.json"}
    assert digests(finished.output) == digests(original.output)


def test_a_kill_between_object_and_record_costs_one_block(finished, original, digests):
    """The shard is whole, but nothing says so: it is written again, and is the same."""
    shard = next(path for path in (finished.folder / "store" / "scores" / "c").rglob("*") if path.is_file())
    content = shard.read_bytes()
    for path in (finished.folder / "records" / "infer").glob("*.json"):
        path.unlink()
    assert finished.again().inferred == 6
    assert shard.read_bytes() == content
    assert digests(finished.output) == digests(original.output)


def test_a_kill_before_the_finish_costs_nothing(finished, original, digests):
    """All blocks stand; what was not said is said."""
    (finished.folder / "COMPLETE").unlink()
    (finished.output / ".zmetadata").unlink()
    report = finished.again()
    assert (report.inferred, report.rendered) == (0, 0)
    assert status(finished.output).complete
    assert zarr.open_consolidated(finished.output, mode="r")["0/classes"].shape == (150, 210)
    assert digests(finished.output) == digests(original.output)


@pytest.mark.parametrize("step", ["infer", "render"])
def test_an_interrupted_run_goes_on(fresh, original, digests, step):
    """Ctrl-C is raised where the driver is; the lock is let go, and what was done counts."""

    def interrupt(progress):
        if progress.step == step and progress.fresh:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        segment_raster(fresh.raster, fresh.output, fresh.config, interrupt)
    done = {name: len(blocks) for name, blocks in status(fresh.output).done.items()}
    report = fresh.again()
    assert (report.inferred, report.rendered) == (6 - done["infer"], 4 - done["render"])
    assert done[step] > 0
    assert digests(fresh.output) == digests(original.output)


def test_a_run_that_is_taken_up_again_is_not_complete(finished):
    """From its first moment on, whatever stops it then."""
    (finished.folder / "records" / "infer" / "0-0.json").unlink()

    def interrupt(progress):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        segment_raster(finished.raster, finished.output, finished.config, interrupt)
    assert not Journal(finished.folder).complete
