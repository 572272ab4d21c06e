"""The recipe for arrays of SLURM jobs, on a real SLURM of one node with two pretend GPUs."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from slurm import Slurm, missing, slurm

from pipeline import open_mosaic

RECIPE = Path(__file__).parents[2] / "workflows" / "recipes" / "slurm-array"
OPTIONS = ("--tile-size", "64", "--overlap", "16", "--tile-block", "1", "--chunk", "64", "--device", "cpu")

pytestmark = [pytest.mark.slow, pytest.mark.skipif(missing() is not None, reason=str(missing()))]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory):
    """SLURM, whose jobs find this environment's program."""
    with slurm(tmp_path_factory.mktemp("slurm")) as started:
        yield started


def submit(cluster: Slurm, folder: Path, *command: str, program: Path = Path(sys.executable).parent) -> str:
    """Submit what a user would, in a folder that takes the jobs' words; `eomt-batch` is what lies in `program`."""
    more = {"PATH": f"{program}{os.pathsep}{os.environ['PATH']}", "SBATCH_TIMELIMIT": "10"}
    done = subprocess.run(
        command, cwd=folder, env=cluster.environment | more, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def words(folder: Path, job: str) -> str:
    """What a job has said."""
    return "\n".join(path.read_text() for path in sorted(folder.glob(f"slurm-{job}*.out")))


def test_an_array_makes_what_one_run_makes(cluster: Slurm, raster: Path, model: Path, tmp_path: Path, command) -> None:
    """One part is put back into the queue while it runs, another is cancelled, stays so, and is submitted again."""
    out, run = tmp_path / "masks.zarr", (str(raster), str(tmp_path / "masks.zarr"), "--model", str(model), *OPTIONS)
    told = submit(cluster, tmp_path, str(RECIPE / "submit.sh"), "3", *run)
    array, stitching = re.findall(r"job (\d+)", told)
    back, gone = f"{array}_0", f"{array}_1"
    while {cluster.states(array)[part] for part in (back, gone)} != {"RUNNING"}:
        time.sleep(0.1)
    time.sleep(2)
    cluster("scancel", gone)
    cluster("scontrol", "requeue", back)
    while cluster.states(array)[back] != "PENDING":
        time.sleep(0.1)
    cluster("scontrol", "update", f"JobId={back}", "StartTime=now")  # instead of the two minutes that SLURM waits

    states = cluster.wait(array)
    assert states.pop(gone) == "CANCELLED"
    assert set(states.values()) == {"COMPLETED"}, words(tmp_path, array)
    assert len(states) == 2
    assert cluster.states(stitching) == {stitching: "PENDING"}
    cluster("scancel", stitching)

    early = submit(cluster, tmp_path, "sbatch", "--parsable", str(RECIPE / "stitch.sbatch"), str(out))
    assert cluster.wait(early) == {early: "FAILED"}
    assert "tile blocks are missing" in words(tmp_path, early)
    again = submit(cluster, tmp_path, "sbatch", "--parsable", "--array=1", str(RECIPE / "part.sbatch"), "3", *run)
    assert set(cluster.wait(again).values()) == {"COMPLETED"}, words(tmp_path, again)
    last = submit(cluster, tmp_path, "sbatch", "--parsable", str(RECIPE / "stitch.sbatch"), str(out))
    assert cluster.wait(last) == {last: "COMPLETED"}, words(tmp_path, last)

    assert command("run", raster, "-m", model, "-o", tmp_path / "alone.zarr", *OPTIONS).exit_code == 0
    mosaic, alone = open_mosaic(out), open_mosaic(tmp_path / "alone.zarr")
    for name in ("classes", "confidence"):
        np.testing.assert_array_equal(getattr(mosaic, name)[:], getattr(alone, name)[:])


@pytest.fixture
def part(cluster: Slurm, tmp_path: Path):
    """`part(script)`: the id of a running job of one part, where `eomt-batch` is a script."""

    def start(script: str) -> str:
        (tmp_path / "eomt-batch").write_text(f"#!/bin/bash\n{script}\n")
        (tmp_path / "eomt-batch").chmod(0o755)
        recipe = str(RECIPE / "part.sbatch")
        job = submit(cluster, tmp_path, "sbatch", "--parsable", "--array=0", recipe, "1", "a", "b", program=tmp_path)
        cluster.wait(job, ("RUNNING",))
        return job

    return start


WAITS = "trap 'exit 143' TERM; sleep 60 & wait"


def test_a_part_that_is_cancelled_stays_so(cluster: Slurm, part) -> None:
    """Although it ends as one does that its time limit stops."""
    job = part(WAITS)
    cluster("scancel", job)
    assert set(cluster.wait(job).values()) == {"CANCELLED"}


def test_a_part_that_its_time_limit_stops_is_queued_again(cluster: Slurm, part) -> None:
    """The signal goes to the script alone, which passes it on."""
    job = part(WAITS)
    cluster("scancel", "--signal=TERM", "--batch", job)
    assert set(cluster.wait(job, ("PENDING",)).values()) == {"PENDING"}
    cluster("scancel", job)


def test_what_a_rerun_may_heal_is_run_again(cluster: Slurm, part, tmp_path: Path) -> None:
    """The part that ends with 75, and then well."""
    job = part(f"[ -e {tmp_path}/once ] && exit 0; touch {tmp_path}/once; sleep 2; exit 75")
    cluster.wait(job, ("PENDING",))
    cluster.rest()  # else the end of the first attempt may be taken for that of the second
    cluster("scontrol", "update", f"JobId={job}_0", "StartTime=now")
    assert set(cluster.wait(job).values()) == {"COMPLETED"}


def test_what_no_rerun_heals_is_not_run_again(cluster: Slurm, part) -> None:
    """A wrong option is as wrong the second time."""
    job = part("sleep 2; exit 2")
    assert set(cluster.wait(job).values()) == {"FAILED"}


def test_a_wrong_call_is_told(cluster: Slurm, tmp_path: Path) -> None:
    """And nothing is submitted."""
    done = subprocess.run(
        [RECIPE / "submit.sh", "many", "a.tif", "b.zarr"], env=cluster.environment, capture_output=True, check=False
    )
    assert done.returncode == 2
    assert b"usage: " in done.stderr
    assert "b.zarr" not in cluster("squeue", "--noheader")
