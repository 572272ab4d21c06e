"""The recipe for SLURM jobs as Dask workers, on a real SLURM of one node with two pretend GPUs."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from slurm import Slurm, missing, slurm

from pipeline import open_mosaic

LAUNCH = Path(__file__).parents[2] / "workflows" / "recipes" / "slurm-dask" / "launch.py"
OPTIONS = ("--tile-size", "64", "--overlap", "16", "--tile-block", "1", "--chunk", "64", "--device", "cpu")
SITE = {"INTERFACE": "lo", "MEMORY": "2GB", "JOB_CPU": "1"}
"""What a site sets: loopback, and jobs of which two fit on this node."""

pytestmark = [pytest.mark.slow, pytest.mark.skipif(missing() is not None, reason=str(missing()))]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory):
    """SLURM."""
    with slurm(tmp_path_factory.mktemp("slurm")) as started:
        yield started


@pytest.fixture
def launch(cluster: Slurm, tmp_path: Path):
    """`launch(*arguments, **site)`: the recipe's process, in a folder that takes what jobs say; gone afterwards."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: object, **site: str) -> subprocess.Popen[str]:
        more = {f"DASK_JOBQUEUE__SLURM__{name}": value for name, value in (SITE | site).items()}
        more["DASK_DISTRIBUTED__DEPLOY__LOST_WORKER_TIMEOUT"] = "1s"  # 15 by default
        command, folder = [sys.executable, str(LAUNCH), *map(str, arguments)], str(LAUNCH.parents[3])
        environment = cluster.environment | more | {"PYTHONPATH": folder}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen(command, cwd=tmp_path, env=environment, **pipes))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def jobs(cluster: Slurm, state: str) -> set[str]:
    """Ids of the workers' jobs in a state."""
    return set(cluster("squeue", "--noheader", "--name=eomt-batch-worker", f"--states={state}", "--format=%i").split())


def until(true, seconds: float = 120) -> None:
    """Wait for something."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.1)


def test_jobs_as_workers_make_what_one_process_makes(
    cluster: Slurm, launch, make_stripes, model: Path, tmp_path: Path, command
) -> None:
    """One of two jobs is cancelled as soon as a tile block is done; the other goes on, and in the end none is left."""
    raster, out = make_stripes(shape=(640, 640)), tmp_path / "masks.zarr"
    process = launch(2, raster, "--model", model, "--out", out, *OPTIONS)
    until(lambda: process.poll() is not None or len(jobs(cluster, "running")) == 2)
    until(lambda: process.poll() is not None or any((tmp_path / "masks.run" / "records").rglob("*.json")))
    cluster("scancel", min(jobs(cluster, "running")))
    told, words = process.communicate(timeout=300)
    assert process.returncode == 0, words
    assert "tile blocks inferred" in told
    until(lambda: not jobs(cluster, "running,pending"))

    assert command("run", raster, "-m", model, "-o", tmp_path / "alone.zarr", *OPTIONS).exit_code == 0
    mosaic, alone = open_mosaic(out), open_mosaic(tmp_path / "alone.zarr")
    for name in ("classes", "confidence"):
        np.testing.assert_array_equal(getattr(mosaic, name)[:], getattr(alone, name)[:])


def test_a_job_that_ends_is_replaced(cluster: Slurm, launch, make_stripes, model: Path, tmp_path: Path) -> None:
    """The only one is cancelled while the run is at work; a new one finishes it."""
    process = launch(1, make_stripes(shape=(512, 512)), "--model", model, "--out", tmp_path / "masks.zarr", *OPTIONS)
    until(lambda: process.poll() is not None or any((tmp_path / "masks.run" / "records").rglob("*.json")))
    [first] = jobs(cluster, "running")
    cluster("scancel", first)
    _, words = process.communicate(timeout=300)
    assert process.returncode == 0, words
    assert "COMPLETE" in {path.name for path in (tmp_path / "masks.run").iterdir()}


@pytest.mark.parametrize(
    ("site", "told"),
    [({"QUEUE": "nobody"}, "invalid partition specified: nobody"), ({"INTERFACE": "nope0"}, "'nope0' is not a valid")],
)
def test_what_no_job_can_be_is_told(cluster: Slurm, launch, tmp_path: Path, site, told) -> None:
    """At once, with exit code 2; nothing is written and nothing waits in the queue."""
    process = launch(1, "a.tif", "--out", "b.zarr", **site)
    _, words = process.communicate(timeout=60)
    assert process.returncode == 2
    assert told in words
    assert "Traceback" not in words
    assert not jobs(cluster, "running,pending")
    assert not list(tmp_path.glob("b.*"))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_stopped_while_its_jobs_wait_it_takes_them_along(cluster: Slurm, launch, number, code) -> None:
    """The node is full: it has no third GPU."""
    full = cluster("sbatch", "--parsable", "--gres=gpu:2", "--wrap=sleep 120")
    cluster.wait(full, ("RUNNING",))
    process = launch(1, "a.tif", "--out", "b.zarr")
    until(lambda: jobs(cluster, "pending"))
    process.send_signal(number)
    _, words = process.communicate(timeout=60)
    assert process.returncode == code, words
    assert not jobs(cluster, "running,pending")
    cluster("scancel", full)
