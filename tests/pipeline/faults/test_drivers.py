"""Drivers that are killed, stopped or doubled: what was done stays done, and the same command ends alike."""

import errno
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from types import SimpleNamespace

import psutil
import pytest
from doomed_run import run_and_die, run_with_few_files
from faults_fleet import drive, seeded

from pipeline import segment_raster
from pipeline.cluster.flight import Flight
from pipeline.errors import EomtBatchError, RetryLater
from pipeline.run import status
from pipeline.steps import journal
from pipeline.steps.infer import InferWorker
from pipeline.steps.journal import Journal
from pipeline.storage import shards

MORE_SEEDS = [pytest.param(seed, marks=pytest.mark.soak) for seed in range(3, 13)]


def done(made):
    """How many blocks have a record."""
    return sum(1 for path in (made.folder / "records").rglob("*.json") if path.parent.name != "resolve")


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "seed"), seeded(12))
def test_a_killed_driver_costs_what_was_under_way(fleet, many, unbroken, forks, digests, kind, seed):
    """F2: at most the window for each kill; its worker processes go with it; no block that was done is done again."""
    rng, window = random.Random(seed), 4
    with fleet(kind, pace=0.02) as made:
        config = type(many.config)(**{**vars(many.config), **made.options})
        for count in sorted(rng.sample(range(1, 60), 2)):
            driver = forks.Process(target=drive, args=(made.folder, many.raster, many.output, config))
            driver.start()
            while driver.is_alive() and done(many) < count:
                time.sleep(0.005)
            family = psutil.Process(driver.pid).children(recursive=True)
            driver.kill()
            driver.join()
            assert driver.exitcode == -signal.SIGKILL
            assert not psutil.wait_procs(family, timeout=30)[1]
        report = segment_raster(many.raster, many.output, config)
        assert report.inferred + report.reused == 64
        assert len(set(made.tried())) == 64
        assert len(made.tried()) <= 64 + 2 * window
    assert digests(many.output) == digests(unbroken.output)


POINTS = [
    "after a shard, before its record",
    "in the middle of a shard",
    "in the middle of a record",
    "before the finish",
    "in the middle of the finish",
    "before it is said to be complete",
]


@pytest.mark.parametrize("point", POINTS)
def test_a_kill_at_the_worst_moment_is_healed(fresh, original, forks, digests, point):
    """F3: no half of anything is taken for a whole."""
    driver = forks.Process(target=run_and_die, args=(point, fresh.raster, fresh.output, fresh.config))
    driver.start()
    driver.join()
    assert driver.exitcode == -signal.SIGKILL
    if (fresh.folder / "run.json").exists():
        assert not status(fresh.output).complete
    fresh.again()
    assert status(fresh.output).complete
    assert digests(fresh.output) == digests(original.output)


@pytest.mark.slow
def test_a_dead_scheduler_ends_the_run_for_later(fleet, many, unbroken, digests):
    """F4: within a minute, with 75; its workers go away by themselves; a rerun does only what was not done."""
    with fleet("own scheduler", pace=0.05) as made:
        config = type(many.config)(**{**vars(many.config), **made.options})
        workers, killed = made.workers, []

        def follow(progress):
            if progress.step == "infer" and progress.fresh and len(made.tried()) > 20 and not killed:
                killed.append(time.monotonic())
                made.processes[0].kill()

        with pytest.raises(RetryLater, match="the Dask scheduler is gone"):
            segment_raster(many.raster, many.output, config, follow)
        assert time.monotonic() - killed[0] < 60
        assert not psutil.wait_procs(workers, timeout=30)[1]
    before = len(status(many.output).done["infer"])
    assert 0 < before < 64
    assert many.again().inferred == 64 - before
    assert digests(many.output) == digests(unbroken.output)


def test_every_task_may_be_done_twice(fresh, original, digests, monkeypatch):
    """F10: by two workers at once; whichever is last leaves the same."""
    submit, twice = Flight._submit, []

    def doubled(self, attempt):
        submit(self, attempt)
        twice.append(self.client.submit(self.function, *attempt.task, pure=False))

    monkeypatch.setattr(Flight, "_submit", doubled)
    fresh.again()
    assert len(twice) >= 10
    assert digests(fresh.output) == digests(original.output)


# What the one is writing, the other may see while it lists.
@pytest.mark.filterwarnings("ignore:Object at .*partial is not recognized")
@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, *MORE_SEEDS])
def test_two_drivers_without_a_lock_end_alike(fresh, original, digests, monkeypatch, seed):
    """F10: where a file system does not keep locks; every object is one driver's, whole."""
    monkeypatch.setattr(Journal, "lock", lambda *args: nullcontext())
    start = random.Random(seed).uniform(0, 0.3)

    def again(delay):
        time.sleep(delay)
        try:
            return fresh.again()
        except EomtBatchError as error:  # the other may clear away what one is about to touch; a rerun heals it
            return error

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(again, (0, start)))
    fresh.again()
    assert digests(fresh.output) == digests(original.output)


def command(made, *options):
    """The program over a run's raster, its blocks so slow that it can be stopped at any of them."""
    words = ["run", made.raster, "--model", made.config.model, "--out", made.output, "--tile-size", "64"]
    words += ["--overlap", "16", "--tile-block", "1", "--chunk", "64", "--device", "cpu", "--levels", "1", *options]
    code = (
        "import time; from pipeline.steps.infer import InferWorker; run = InferWorker.run\n"
        "InferWorker.run = lambda *args: (time.sleep(0.2), run(*args))[1]\n"
        "if __name__ == '__main__':\n    from workflows.cli import main\n    main()"
    )
    script = made.output.with_name("slow.py")
    script.write_text(code)
    return subprocess.Popen([sys.executable, script, *map(str, words)], stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["0", "2"])
@pytest.mark.parametrize(("kind", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_run_in_order(many, unbroken, digests, kind, code, workers):
    """F11: within five seconds and one batch; nothing is left running, and the same command goes on."""
    process = command(many, "--workers", workers)
    while process.poll() is None and done(many) < 5:
        time.sleep(0.02)
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(kind)
    start = time.monotonic()
    words = process.communicate(timeout=60)[1].splitlines()
    assert time.monotonic() - start < 10
    assert process.returncode == code
    assert words[-1] == f"eomt-batch: error: stopped by {kind.name}; the same command continues"
    assert not psutil.wait_procs(family, timeout=10)[1]
    before = len(status(many.output).done["infer"])
    assert 5 <= before < 64
    assert many.again(levels=1).reused == before


@pytest.mark.slow
def test_a_second_signal_ends_it_at_once(many):
    """F11: whatever it is at; what was done stays done."""
    process = command(many)
    while process.poll() is None and done(many) < 5:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=10)
    assert process.returncode in (130, 143)
    assert many.again(levels=1).reused >= 5


def test_a_full_disk_ends_the_run_for_later(fresh, original, digests, monkeypatch):
    """F9: with 75, and no shard that is not whole; with room made, the same command goes on."""
    add, count = shards.ShardWriter.add, []

    def full(self, *args):
        count.append(args)
        if len(count) > 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        add(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(shards.ShardWriter, "add", full)
        with pytest.raises(RetryLater, match=r"tile block \d-\d of .*: the disk is full .* make room and run the same"):
            fresh.again()
    assert not list(fresh.folder.rglob("*.partial"))
    assert 0 < len(status(fresh.output).done["infer"]) < 6
    fresh.again()
    assert digests(fresh.output) == digests(original.output)


def test_a_disk_that_really_is_full_ends_the_run_for_later(fresh, original, digests, small_disk):
    """F9: others fill it while the run goes on; once there is room, the same command ends it."""
    made, others = fresh._replace(output=small_disk.path / "out.zarr"), small_disk.path / "others"

    def fill(progress):
        if progress.fresh and not others.exists():
            small_disk.fill(others)

    with pytest.raises(RetryLater, match="the disk is full"):
        segment_raster(made.raster, made.output, made.config, fill)
    others.unlink()
    assert not list(made.folder.rglob("*.partial"))
    assert not status(made.output).complete
    made.again()
    assert digests(made.output) == digests(original.output)


def test_a_clock_that_jumps_changes_nothing(fresh, original, digests, monkeypatch):
    """F17: a day back and forth with every look at it."""
    now, looks = time.time, []

    def jump():
        looks.append(1)
        return now() + (-1) ** len(looks) * 86400

    monkeypatch.setattr(journal, "time", SimpleNamespace(time=jump))
    fresh.again()
    assert looks
    assert digests(fresh.output) == digests(original.output)


def test_a_path_may_have_spaces_and_any_letter(fresh, original, digests):
    """F17: and everything that is named by it works."""
    odd = fresh._replace(output=fresh.output.with_name("mit Leerzeichen, 地図 'x'.zarr"))
    odd.again()
    assert digests(odd.output) == digests(original.output)


@pytest.mark.slow
def test_few_open_files_are_enough_or_are_said_to_be_too_few(fresh, forks):
    """F17: 64 of them; either the run is done, or it ends with one of our errors and can be continued."""
    driver = forks.Process(target=run_with_few_files, args=(fresh.raster, fresh.output, fresh.config))
    driver.start()
    driver.join(60)
    assert driver.exitcode in (0, 101, 175)
    fresh.again()
    assert status(fresh.output).complete


def test_a_block_is_stopped_between_two_batches(fresh, monkeypatch):
    """Whatever is left of it is not waited for."""
    seen = []

    def slow(self, batch, *args):
        seen.append(batch)
        time.sleep(0.3)

    def stop(progress):
        if progress.block:
            raise KeyboardInterrupt

    monkeypatch.setattr(InferWorker, "_infer", slow)
    with pytest.raises(KeyboardInterrupt):
        segment_raster(fresh.raster, fresh.output, type(fresh.config)(**{**vars(fresh.config), "batch_size": 1}), stop)
    before = len(seen)
    time.sleep(1)
    assert len(seen) <= before + 1
