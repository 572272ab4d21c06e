"""Run the recipe for Airflow with Airflow: `python tests/light/run_dag.py EOMT_BATCH FOLDER`.

It needs Airflow >= 3 and nothing of this package; EOMT_BATCH is the program, which lies in another environment. The
first run makes a mosaic of FOLDER/scene.tif. In the others the program is a script that ends as it is told, and counts
how often it was called. It prints a line for each check that fails and one line of counts, and exits 1 where one fails.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

PROGRAM, FOLDER = Path(sys.argv[1]).absolute(), Path(sys.argv[2]).absolute()
DAGS = Path(__file__).absolute().parents[2] / "workflows" / "recipes" / "airflow"
# Airflow reads these when it is imported.
os.environ |= {
    "AIRFLOW_HOME": str(FOLDER / "airflow"),
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
    "AIRFLOW__LOGGING__LOGGING_LEVEL": "CRITICAL",
    "PATH": f"{FOLDER / 'bin'}{os.pathsep}{os.environ['PATH']}",
}

from airflow.dag_processing.dagbag import DagBag  # noqa: E402
from airflow.utils.db import initdb  # noqa: E402

ENDS = {"2": 1, "3": 1, "75": 6}
"""How often a part is called that ends with an exit code: once, or with five retries."""


def put_program(script: str) -> None:
    """Let `eomt-batch` be a shell script."""
    program = FOLDER / "bin" / "eomt-batch"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def run(dag, **conf: str) -> dict[str, str]:
    """States of the tasks of a run."""
    return {task.task_id: str(task.state) for task in dag.test(run_conf=conf).get_task_instances()}


def check() -> Iterator[tuple[str, bool]]:
    """What is checked, and whether it holds."""
    bag = DagBag(DAGS)
    yield f"it is read without errors, not with {bag.import_errors}", not bag.import_errors
    dag = bag.dags["eomt_batch_parts"]
    for task in dag.tasks:
        task.retry_delay *= 0

    put_program(f'exec {PROGRAM} "$@"')
    states = run(dag, raster=str(FOLDER / "scene.tif"), mosaic=str(FOLDER / "masks.zarr"))
    yield f"all tasks succeed, not {states}", set(states.values()) == {"success"} and len(states) == 5
    yield "the mosaic is complete", (FOLDER / "masks.run" / "COMPLETE").exists()

    for code, times in ENDS.items():
        calls = FOLDER / f"calls{code}"
        put_program(f'echo "$@" >> {calls}; case "$*" in *shard=0/*) exit {code};; esac')
        states = run(dag)
        first = [line for line in calls.read_text().splitlines() if "--shard=0/4" in line]
        yield f"a part that ends with {code} is called {times} times, not {len(first)}", len(first) == times
        want = {"part_0": "failed", "stitch": "upstream_failed"}
        yield f"nothing is stitched after {code}: {states}", states == dict.fromkeys(states, "success") | want


if __name__ == "__main__":
    initdb()
    results = list(check())
    failed = [text for text, holds in results if not holds]
    print(*failed, sep="\n")
    print(f"{len(results) - len(failed)} checks passed, {len(failed)} failed")
    sys.exit(bool(failed))
