"""A run on GPUs of SLURM, with Dask: `python launch.py JOBS RASTER --out OUT.zarr [options of eomt-batch run]`.

The scheduler is in this process, each worker is a job with a GPU of its own, as jobqueue.yaml describes it.
"""

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import dask
from dask_jobqueue import SLURMCluster
from distributed.deploy import Adaptive

from workflows.cli.main import cli

JOB = Path(__file__).with_name("jobqueue.yaml")
USAGE, AGAIN = 2, 75
"""Exit codes: nothing was started; a rerun may heal it."""


class Replaces(Adaptive):  # type: ignore[misc]  # Dask ships no types
    """Asks for as many jobs as ever; Dask's own counts those that it has asked for once, though they have ended."""

    async def recommendations(self, target: int) -> dict[str, Any]:
        """As many as wanted."""
        return {"status": "up", "n": target}


def launch(jobs: int, options: list[str]) -> int:
    """The exit code of the run."""
    with SLURMCluster() as cluster:
        # Dask would submit in the background, and only log what SLURM says against it.
        if subprocess.run(["sbatch", "--test-only"], input=cluster.job_script(), text=True, check=False).returncode:
            return USAGE
        cluster.adapt(Adaptive=Replaces, minimum_jobs=jobs, maximum_jobs=jobs, interval="5s")
        while True:
            cluster.wait_for_workers(1)  # the queue may be long
            code = run(options, cluster.scheduler_address)
            if code != AGAIN or cluster.scheduler_info["workers"]:
                return code


def run(options: list[str], scheduler: str) -> int:
    """The exit code of the command, in this process, where signals find it."""
    try:
        cli.main(["run", *options, "--scheduler", scheduler])
    except SystemExit as end:
        return int(end.code or 0)


def main(jobs: str, *options: str) -> int:
    """The exit code of all."""
    dask.config.refresh(paths=[str(JOB), *dask.config.paths])
    signal.signal(signal.SIGINT, signal.default_int_handler)  # dask_jobqueue, imported, lets it end with exit code 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that jobs are cancelled also while none has started
    try:
        return launch(int(jobs), list(options))
    except KeyboardInterrupt:
        return 130
    except (RuntimeError, ValueError) as error:  # an interface that is not there, a size that is none
        print(f"launch.py: error: {error}; see {JOB}", file=sys.stderr)
        return USAGE


if __name__ == "__main__":
    if len(sys.argv) < 3 or not sys.argv[1].isdecimal():
        print(f"usage: {sys.argv[0]} JOBS RASTER --out OUT.zarr [options of eomt-batch run]", file=sys.stderr)
        sys.exit(USAGE)
    sys.exit(main(*sys.argv[1:]))
