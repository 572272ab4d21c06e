"""Which device will be taken and how exactly it will compute, known before torch is."""

import ctypes

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
    """The device that workers on this machine will take; `auto` where they are elsewhere.

    Raises:
        UsageError: There is no such device here.
    """
    if config.scheduler or config.scheduler_file or config.device == "cpu":
        return config.device
    count = len(gpus())
    if config.device == "auto":
        return "cuda:0" if count else "cpu"
    if _index(config.device) >= count:
        raise UsageError(f"--device {config.device}: this machine has {count} CUDA devices; give auto or cpu")
    return config.device


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
    return "bf16" if gpus()[_index(device)] >= AMPERE else "fp16"


def _index(device: str) -> int:
    return int(device.partition(":")[2] or 0)
