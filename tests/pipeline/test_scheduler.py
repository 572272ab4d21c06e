"""A cluster of someone else's: reached, used, and told of when it is gone."""

import json
import subprocess
import sys
import time

import pytest
from distributed import LocalCluster

from pipeline import RunConfig, cluster, segment_raster
from pipeline.cluster import connection, flight
from pipeline.errors import RetryLater, UsageError
from pipeline.run import status


def connected(**options):
    """The cluster of these options, as a context."""
    return cluster.connect(RunConfig(model="m", **options))


def refused(config):
    """The error that connecting ends in, and the seconds that it took."""
    start = time.monotonic()
    with pytest.raises(RetryLater) as caught, cluster.connect(config):
        pass
    assert caught.value.exit_code == 75
    return str(caught.value), time.monotonic() - start


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "127.0.0.1:1"])
def test_a_wrong_address_is_told_in_bounded_time(monkeypatch, address):
    """Exit code 75: the scheduler may be about to start."""
    monkeypatch.setattr(connection, "CONNECT_SECONDS", 1)
    message, seconds = refused(RunConfig(model="m", scheduler=address))
    assert message.startswith(f"--scheduler {address}: no scheduler answers there")
    assert seconds < 10


@pytest.mark.parametrize("address", ["nonsense://x", "tcp://host", "tcp://host:port"])
def test_what_is_no_address_is_told_at_once(address):
    """It will be none tomorrow either."""
    config = RunConfig(model="m", scheduler=address)
    with pytest.raises(UsageError, match=f"^--scheduler {address}: is no address"), cluster.connect(config):
        pass


@pytest.mark.parametrize("content", [None, "", "{", "{}", "[]", '{"address": "tcp://127.0.0.1:1"}'])
def test_a_scheduler_file_without_a_scheduler_is_told_in_bounded_time(monkeypatch, tmp_path, content):
    """Missing, half written, of something else, or of a scheduler that is gone."""
    monkeypatch.setattr(connection, "CONNECT_SECONDS", 1)
    if content is not None:
        (tmp_path / "s.json").write_text(content)
    message, seconds = refused(RunConfig(model="m", scheduler_file=str(tmp_path / "s.json")))
    assert "s.json: no scheduler answers there" in message
    assert seconds < 10


def test_a_scheduler_without_workers_is_told_in_bounded_time(monkeypatch):
    """Nothing would ever be done there."""
    monkeypatch.setattr(flight, "WORKER_SECONDS", 1)
    options = {"processes": False, "dashboard_address": "127.0.0.1:0"}
    with LocalCluster(n_workers=0, **options) as empty:
        message, seconds = refused(RunConfig(model="m", scheduler=empty.scheduler_address))
    assert "it has no worker after 1 s" in message
    assert seconds < 10


@pytest.fixture
def elsewhere(tmp_path):
    """A scheduler and a worker in processes of their own, on loopback; ended by id."""
    file, quiet = tmp_path / "scheduler.json", {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    common = ["--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0"]
    commands = (
        ["scheduler", "--port", "0", "--scheduler-file", str(file), *common],
        ["worker", "--scheduler-file", str(file), "--nthreads", "2", "--no-nanny", "--death-timeout", "30", *common],
    )
    started = [subprocess.Popen([sys.executable, "-m", "dask", *command], cwd="/", **quiet) for command in commands]
    yield file, *started
    for process in reversed(started):
        process.kill()
        process.wait()


@pytest.mark.slow
def test_an_existing_cluster_makes_the_same_bytes(elsewhere, fresh, original, digests, monkeypatch):
    """By its file and by its address; then its worker dies, then its scheduler: exit code 75, and the run goes on."""
    file, scheduler, worker = elsewhere
    assert fresh.again(scheduler_file=str(file)).inferred == 6
    assert digests(fresh.output) == digests(original.output)
    address = json.loads(file.read_text())["address"]
    many = fresh._replace(output=fresh.output.with_name("many.zarr"))
    monkeypatch.setattr(flight, "WORKER_SECONDS", 1)

    def stop(progress):
        if progress.fresh:
            (worker if progress.step == "infer" else scheduler).kill()

    with pytest.raises(RetryLater, match="no Dask worker is left; start some and run the same command again") as caught:
        segment_raster(many.raster, many.output, RunConfig(**{**vars(many.config), "scheduler": address}), stop)
    assert caught.value.exit_code == 75
    done = len(status(many.output).done["infer"])
    assert 0 < done < 6
    assert many.again().inferred == 6 - done
    assert digests(many.output) == digests(original.output)
    assert scheduler.poll() is None


@pytest.mark.slow
def test_a_scheduler_that_dies_is_told(elsewhere, monkeypatch):
    """At once, and with exit code 75."""
    file, scheduler, _ = elsewhere
    monkeypatch.setattr(connection, "CONNECT_SECONDS", 3)
    with connected(scheduler_file=str(file)) as made:
        results = made.run(time.sleep, [(0.05,)] * 100, alone=False)
        next(results)
        scheduler.kill()
        start = time.monotonic()
        with pytest.raises(RetryLater, match="the Dask scheduler is gone") as caught:
            list(results)
    assert caught.value.exit_code == 75
    assert time.monotonic() - start < 20
