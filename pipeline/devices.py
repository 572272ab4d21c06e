"""Which device will be taken and how exactly it will compute, known before torch is."""

import ctypes
import os
import re

from pipeline.config import RunConfig
from pipeline.errors import UsageError

COMPUTE_CAPABILITY_MAJOR = 75
"""CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR of the CUDA driver."""

AMPERE = 8
"""The first compute capability with bfloat16."""


def gpus() -> list[int]:
    """The major compute capability of each CUDA device that this process may use, asked of the driver itself."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return []
    count = ctypes.c_int(0)
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return []
    return [_capability(driver, index) for index in range(count.value)]


def _capability(driver: ctypes.CDLL, index: int) -> int:
    device, major = ctypes.c_int(0), ctypes.c_int(0)
    driver.cuDeviceGet(ctypes.byref(device), index)
    driver.cuDeviceGetAttribute(ctypes.byref(major), COMPUTE_CAPABILITY_MAJOR, device)
    return major.value


def choose_device(config: RunConfig) -> str:
    """The device that workers on this machine will take, the first of several; `auto` where they are elsewhere.

    Raises:
        UsageError: There is no such device here, or there are several for one process.
    """
    if config.scheduler or config.scheduler_file or config.device == "cpu":
        return config.device
    count = len(gpus())
    if config.device == "auto":
        return "cuda:0" if count else "cpu"
    named = _named(config.device)
    if max(named) >= count:
        raise UsageError(f"--device {config.device}: this machine has {count} CUDA devices; give auto or cpu")
    if len(named) > max(1, config.workers):
        raise UsageError(f"--device {config.device}: one process takes one device; give --workers {len(named)}")
    return f"cuda:{named[0]}"


def choose_workers(device: str) -> int:
    """Worker processes for `--workers auto`: one for each GPU where there are several, else none."""
    if device == "cpu" or re.fullmatch(r"cuda:\d+", device):
        return 0
    count = len(gpus()) if device in ("auto", "cuda") else len(_named(device))
    return count if count > 1 else 0


def visible_to(config: RunConfig, worker: int) -> dict[str, str]:
    """The environment in which a worker process sees its one GPU; nothing where there is none for it."""
    count = len(gpus()) if config.device != "cpu" else 0
    if not count:
        return {}
    mine = list(range(count)) if config.device in ("auto", "cuda") else _named(config.device)
    ours = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    names = ours.split(",") if ours else [str(index) for index in range(count)]
    return {"CUDA_VISIBLE_DEVICES": names[mine[worker % len(mine)]]}


def device_of_worker(config: RunConfig) -> str:
    """What a worker is told: a process on this machine sees one GPU alone, whichever it is."""
    return "cuda" if config.workers and config.device.startswith("cuda") else config.device


def choose_precision(config: RunConfig) -> str:
    """The precision of a run, which decides its result: bf16 on a GPU that has it, fp16 on one that has not.

    On a CPU it is fp32. Where the workers are elsewhere `auto` stays, and each of them decides by its own device.

    Raises:
        UsageError: There is no such device here.
    """
    device = choose_device(config)
    if config.precision != "auto" or device == "auto" or config.scheduler or config.scheduler_file:
        return config.precision
    if device == "cpu":
        return "fp32"
    return "bf16" if gpus()[_named(device)[0]] >= AMPERE else "fp16"


def _named(device: str) -> list[int]:
    """The GPUs that a device's name lists: `cuda`, `cuda:1`, `cuda:0,1`."""
    return [int(index) for index in (device.partition(":")[2] or "0").split(",")]
