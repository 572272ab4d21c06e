"""A worker with faults: a preload of Dask's, which processes of their own import by its path.

`EOMT_FAULTS` names a folder: `faults.json` says which, and may change; `attempts` gets a line for every attempt at a
tile block, `workers` a file for every process.
"""

import json
import os
import signal
import time
from pathlib import Path

import eomt_core.predict  # noqa: F401 - not within the first task, whose silence would be taken for a fault
from eomt_core.errors import DeviceError
from pipeline.steps.infer import InferWorker

FOLDER = Path(os.environ["EOMT_FAULTS"])
run = InferWorker.run


def faulty(self, block, pulse):
    """Infer a tile block, or do what its fault is."""
    faults, attempts = json.loads((FOLDER / "faults.json").read_text()), FOLDER / "attempts"
    before = attempts.read_text().split().count(block.name) if attempts.exists() else 0
    with attempts.open("a") as file:
        file.write(f"{block.name}\n")
    time.sleep(faults.get("pace", 0))
    if block.name == faults.get("kill"):
        os.kill(os.getpid(), signal.SIGKILL)
    if block.name == faults.get("lost") and not before:
        raise DeviceError("cuda:0: CUDA error: device-side assert triggered")
    if block.name == faults.get("hog"):
        hog()
    if block.name == faults.get("stick") and before < faults.get("times", 1):
        time.sleep(600)
    if before < faults.get("flaky", 0):
        raise OSError(5, "Input/output error")
    return run(self, block, pulse)


def hog():
    """Take memory until someone puts an end to it; 100 MB at a time, so that it is seen to come."""
    taken = []
    while True:
        taken.append(bytearray(os.urandom(1000)) * 100_000)
        time.sleep(0.05)


def dask_setup(worker):
    """What Dask calls when the worker starts."""
    InferWorker.run = faulty
    (FOLDER / "workers").mkdir(exist_ok=True)
    (FOLDER / "workers" / str(os.getpid())).touch()
