"""A worker with a fault: a preload of Dask's, which processes of their own import by its path.

`EOMT_FAULTS` holds a JSON object of faults, `EOMT_ATTEMPTS` a file that gets a line for every attempt at a tile block.
"""

import json
import os
import signal
import time
from pathlib import Path

from eomt_core.errors import DeviceError
from pipeline.infer import InferWorker

FAULTS = json.loads(os.environ.get("EOMT_FAULTS", "{}"))
run = InferWorker.run


def faulty(self, block, pulse):
    """Infer a tile block, or do what its fault is."""
    attempts = Path(os.environ["EOMT_ATTEMPTS"])
    before = attempts.read_text().split().count(block.name) if attempts.exists() else 0
    with attempts.open("a") as file:
        file.write(f"{block.name}\n")
    time.sleep(FAULTS.get("pace", 0))
    if block.name == FAULTS.get("kill"):
        os.kill(os.getpid(), signal.SIGKILL)
    if block.name == FAULTS.get("lost") and not before:
        raise DeviceError("cuda:0: CUDA error: device-side assert triggered")
    if block.name == FAULTS.get("hog"):
        hog()
    if block.name == FAULTS.get("stick") and before < FAULTS.get("times", 1):
        time.sleep(600)
    if before < FAULTS.get("flaky", 0):
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
