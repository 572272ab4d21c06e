"""Wherever the tasks run the pixels are the same; workers may come and go, if they have the same software."""

import os
from contextlib import contextmanager

import dask
import pytest
from distributed import Security
from faults_fleet import end, start_scheduler, start_worker, until

from pipeline import RunConfig, segment_raster
from pipeline.cluster import connect, connection
from pipeline.errors import UsageError
from pipeline.run import stitch_raster


@pytest.mark.slow
def test_all_ways_to_run_make_the_same_bytes(fleet, many, unbroken, digests):
    """F20: in this process, in processes of this machine, on a scheduler's workers, in parts."""
    made = {name: many._replace(output=many.output.with_name(f"{name}.zarr")) for name in ("two", "other", "parts")}
    made["two"].again(workers=2)
    with fleet("scheduler") as others:
        made["other"].again(**others.options)
    for part in range(3):
        made["parts"].again(shard=f"{part}/3")
    stitch_raster(made["parts"].output)
    expected = digests(unbroken.output)
    assert all(digests(one.output) == expected for one in made.values())


@pytest.mark.slow
def test_workers_may_come_and_go(fleet, many, unbroken, digests):
    """F16: one joins, one leaves, again and again; the window follows, and every block is done."""
    extra, windows = [], set()
    with fleet("scheduler", pace=0.05) as made:
        config = RunConfig(**{**vars(many.config), **made.options})
        file = made.options["scheduler_file"]

        def follow(progress):
            if progress.step != "infer" or not progress.fresh:
                return
            count = len(made.tried())
            windows.add(len(made.workers))
            if count % 20 == 5 and len(extra) < 3 * (count // 20 + 1) and count // 20 >= len(extra):
                extra.append(start_worker(file, made.folder))
            if count % 20 == 15 and extra and extra[-1].poll() is None:
                end(extra[-1])

        report = segment_raster(many.raster, many.output, config, follow)
        for process in extra:
            end(process)
    assert report.inferred == 64
    assert extra
    assert digests(many.output) == digests(unbroken.output)


def test_a_worker_with_other_software_is_not_used(monkeypatch):
    """Its results might differ; the line names the worker and both versions."""
    with connect(RunConfig(workers=0)) as cluster:
        monkeypatch.setattr(connection, "versions", other_versions)
        with pytest.raises(UsageError, match=r"^--scheduler tcp://x: worker inproc\S+ has torch 0\.1, here 2\.\S+;"):
            connection._check_versions(cluster.client, "tcp://x")


def test_a_worker_without_the_software_is_not_used(monkeypatch):
    """The line says what is missing."""
    with connect(RunConfig(workers=0)) as cluster:
        monkeypatch.setattr(connection, "versions", no_versions)
        with pytest.raises(UsageError, match=r"cannot run eomt-batch \(No module named 'pipeline'\); install it there"):
            connection._check_versions(cluster.client, "tcp://x")


_asked = []


def other_versions():
    """Those of this process when the driver asks, at first; then a worker's."""
    from pipeline.software import versions

    _asked.append(1)
    return versions() if len(_asked) % 2 else {**versions(), "torch": "0.1"}


def no_versions():
    """As in a process without the package, but for the driver."""
    _asked.append(1)
    if len(_asked) % 2 == 0:
        raise ModuleNotFoundError("No module named 'pipeline'")
    return {}


@pytest.mark.slow
def test_each_worker_process_sees_its_own_gpu(monkeypatch):
    """Told before CUDA starts; the driver's own choice of GPUs is kept."""
    monkeypatch.setattr("pipeline.devices.gpus", lambda: [9, 9, 9])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a,GPU-b,GPU-c")
    with connect(RunConfig(workers=2, device="cuda:0,2")) as cluster:
        seen = cluster.client.run(os.getenv, "CUDA_VISIBLE_DEVICES")
    assert sorted(seen.values()) == ["GPU-a", "GPU-c"]


@contextmanager
def settings(monkeypatch, security, folder):
    """The environment in which Dask's programs speak TLS with these keys, in this process too."""
    places = {}
    for name in (
        "ca-file",
        "scheduler-key",
        "scheduler-cert",
        "worker-key",
        "worker-cert",
        "client-key",
        "client-cert",
    ):
        role, _, kind = name.partition("-")
        text = security.tls_ca_file if name == "ca-file" else getattr(security, f"tls_{role}_{kind}")
        places[name] = folder / f"{name}.pem"
        places[name].write_text(text)
        setting = "CA_FILE" if name == "ca-file" else f"{role.upper()}__{kind.upper()}"
        monkeypatch.setenv(f"DASK_DISTRIBUTED__COMM__TLS__{setting}", str(places[name]))
    monkeypatch.setenv("DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION", "true")
    keys = {
        f"distributed.comm.tls.{'ca-file' if name == 'ca-file' else name.replace('-', '.')}": str(place)
        for name, place in places.items()
    }
    with dask.config.set(keys):
        yield


@pytest.mark.slow
def test_a_cluster_may_speak_tls(fresh, original, digests, monkeypatch, tmp_path):
    """With keys from Dask's own settings; without them nobody gets in."""
    (tmp_path / "faults.json").write_text("{}")
    file, started = tmp_path / "scheduler.json", []
    try:
        with settings(monkeypatch, Security.temporary(), tmp_path):
            started += [start_scheduler(file, "--protocol", "tls"), start_worker(file, tmp_path)]
            assert until(file.exists)
            assert '"address": "tls://127.0.0.1' in file.read_text()
            assert fresh.again(scheduler_file=str(file)).inferred == 6
        with pytest.raises(UsageError, match=r"s?cheduler\.json: speaks TLS; name your keys in Dask's settings"):
            fresh._replace(output=tmp_path / "no.zarr").again(scheduler_file=str(file))
    finally:
        for process in reversed(started):
            end(process)
    assert digests(fresh.output) == digests(original.output)
