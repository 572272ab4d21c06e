"""Wherever the tasks run: the same bytes, nothing open to the network, and a word for what goes wrong."""

import errno
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise

import psutil
import pytest

from eomt_core.errors import ModelError
from pipeline import RunConfig, cluster, segment_raster
from pipeline.cluster import together
from pipeline.errors import BlockError, InputError, RetryLater, RunError, TransientError
from pipeline.steps import worker

LOCAL = ("127.0.0.1", "::1")


def double(number):
    """A task: done at once."""
    return 2 * number


def nap(number):
    """A task that takes a moment: from when to when."""
    start = time.monotonic()
    time.sleep(0.02)
    return start, time.monotonic()


def overlap(spans):
    """Whether any began before the one before it had ended."""
    return any(one[1] > other[0] for one, other in pairwise(sorted(spans)))


def fail(number):
    """A task that fails, if it is the first."""
    if number == 0:
        raise ZeroDivisionError
    time.sleep(0.05)


def connected(**options):
    """The cluster of these options, as a context."""
    return cluster.connect(RunConfig(model="m", **options))


def listening():
    """Addresses that this process and its children listen on."""
    family = [psutil.Process(), *psutil.Process().children(recursive=True)]
    found = set()
    for process in family:
        with psutil_gone():
            found |= {c.laddr.ip for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN}
    return found


@contextmanager
def psutil_gone():
    """A process may end while it is looked at."""
    try:
        yield
    except psutil.NoSuchProcess:
        return


def watched(made, **options):
    """Run, and note what is listened on meanwhile."""
    seen = set()
    config = RunConfig(**{**vars(made.config), **options})
    report = segment_raster(made.raster, made.output, config, lambda progress: seen.update(listening()))
    return report, seen


def test_in_this_process_nothing_but_loopback_is_listened_on(fresh):
    """Dask's own default is all interfaces."""
    report, seen = watched(fresh)
    assert report.inferred == 6
    assert seen <= set(LOCAL)


@pytest.mark.slow
def test_worker_processes_make_the_same_bytes_on_loopback_alone(fresh, original, digests):
    """Two of them, each with its own model; all gone afterwards."""
    report, seen = watched(fresh, workers=2)
    assert (report.inferred, report.rendered) == (6, 4)
    assert digests(fresh.output) == digests(original.output)
    assert seen
    assert seen <= set(LOCAL)
    assert not [child for child in psutil.Process().children(recursive=True) if "dask" in " ".join(child.cmdline())]


@pytest.mark.slow
def test_worker_processes_share_the_cores(monkeypatch):
    """Eight for three: two each."""
    monkeypatch.setattr("pipeline.cluster.connection.cores", lambda: 8)
    with connected(workers=3) as made:
        assert made.threads == 2


def test_no_more_than_the_window_is_in_flight():
    """And what is done is let go of: two tasks for each that can run at a time."""
    with connected() as made:
        scheduler, most, seen = made.client.cluster.scheduler, 2 * together(), []
        for number in made.run(double, [(index,) for index in range(30)], alone=False):
            assert len(scheduler.tasks) <= most
            assert len(made.client.futures) <= most
            seen.append(number)
        assert sorted(seen) == list(range(0, 60, 2))
        assert made.window(alone=False) == most
        assert gone(scheduler)
        assert not made.client.futures


@pytest.mark.skipif(together() < 2, reason="one thread runs one task at a time whatever is asked")
def test_one_task_at_a_time_holds_the_device():
    """Two per worker are in flight, and one runs, however many threads the worker has."""
    with connected() as made:
        spans, scheduler = {True: [], False: []}, made.client.cluster.scheduler
        for alone, found in spans.items():
            for span in made.run(nap, [(index,) for index in range(12)], alone=alone):
                assert len(scheduler.tasks) <= made.window(alone)
                found.append(span)
        assert made.window(alone=True) == 2
    assert not overlap(spans[True])
    assert overlap(spans[False])


@pytest.mark.parametrize(("cores", "blocks"), [(1, 1), (3, 3), (64, 4)])
def test_a_few_blocks_are_rendered_at_a_time(monkeypatch, cores, blocks):
    """More threads would wait for each other."""
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(cores)))
    assert together() == blocks


def test_nothing_to_do_is_done():
    """No task, no wait."""
    with connected() as made:
        assert list(made.run(double, [], alone=True)) == []


def test_a_run_that_fails_lets_go_of_its_tasks():
    """Though the error that it ended in still holds on to them."""
    with connected() as made:
        with pytest.raises(ZeroDivisionError) as caught:
            list(made.run(fail, [(index,) for index in range(50)], alone=False))
        assert gone(made.client.cluster.scheduler)
        assert caught.value


def gone(scheduler):
    """Whether a scheduler soon has no task."""
    deadline = time.monotonic() + 30
    while scheduler.tasks and time.monotonic() < deadline:
        time.sleep(0.02)
    return not scheduler.tasks


@pytest.mark.slow
def test_a_task_that_kills_its_workers_is_named():
    """After three of them it is given up; most often it was memory."""
    with (
        connected(workers=1) as made,
        pytest.raises(BlockError, match=r"^raise_signal-9: workers died of it; likely out of mem"),
    ):
        list(made.run(signal.raise_signal, [(int(signal.SIGKILL),)], alone=True))  # which every worker can import


@pytest.mark.slow
def test_an_error_in_a_worker_process_keeps_its_kind(fresh):
    """And names the block, though it comes from elsewhere."""
    model = fresh.output.parent / "model"
    shutil.copytree(fresh.config.model, model)
    config = RunConfig(**{**vars(fresh.config), "model": str(model), "workers": 1})

    def spoil(progress):
        weights = model / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1] + b"?")

    with pytest.raises(RunError, match=r"^tile block \d-\d of \S+: \S+: the weights have changed") as caught:
        segment_raster(fresh.raster, fresh.output, config, spoil)
    assert type(caught.value) is RunError  # no block's fault, and so not to be skipped
    assert "Traceback" in caught.value.__notes__[0]


def test_a_task_that_fails_in_an_unforeseen_way_names_its_block_too(fresh, original, digests):
    """A damaged store, say; the same command goes on when that is gone."""
    fresh.again()
    shard = fresh.folder / "store" / "scores" / "c" / "0" / "0" / "0" / "0" / "0"
    content = shard.read_bytes()
    shard.write_bytes(content[:100] + b"\0" * (len(content) - 100))
    (fresh.folder / "records" / "render" / "0-0.json").unlink()
    with pytest.raises(BlockError, match=r"^output block 0-0 of \S+out\.run: ") as caught:
        fresh.again()
    assert caught.value.exit_code == 1
    shard.unlink()
    assert (fresh.again().inferred, digests(fresh.output)) == (1, digests(original.output))


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), RetryLater, "the disk is full .*make room and run the same"),
        (OSError(errno.EIO, "Input/output error"), TransientError, r"OSError: \[Errno 5\] Input/output error"),
        (FileNotFoundError(errno.ENOENT, "No such file"), BlockError, r"FileNotFoundError: \[Errno 2\] No such file"),
        (TransientError("cannot read"), TransientError, "cannot read"),
        (RunError("other weights"), RunError, "other weights"),
        (ModelError("too little memory for one tile"), BlockError, "too little memory for one tile"),
        (InputError("gone"), BlockError, "gone"),
        (ZeroDivisionError("a\nb"), BlockError, "ZeroDivisionError: a b"),
    ],
)
def test_whatever_happens_to_a_block_gets_its_name_and_one_line(error, kind, text):
    """A full disk may be made room on: 75. All else has begun, so it is 1, even where the reason was 2 before.

    What the network or a file system may have done is tried again; what is no block's fault cannot be skipped.
    """

    def task():
        raise error

    with pytest.raises(kind, match=f"^tile block 0-1: {text}") as caught:
        worker._named("tile block 0-1", task)
    assert type(caught.value) is kind
    assert caught.value.exit_code == (75 if kind is RetryLater else 1)
    assert "\n" not in str(caught.value)
    assert type(error).__name__ in caught.value.__notes__[0]


def test_two_runs_in_one_process_do_not_meddle(fresh, original, digests):
    """Each in a thread, with its own cluster; the models take turns on the device."""
    others = [fresh._replace(output=fresh.output.with_name(f"{number}.zarr")) for number in range(2)]
    with ThreadPoolExecutor() as pool:
        reports = list(pool.map(lambda made: made.again(), others))
    assert [report.inferred for report in reports] == [6, 6]
    assert digests(others[0].output) == digests(others[1].output) == digests(original.output)
