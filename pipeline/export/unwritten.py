"""Why a library could not write a file: GDAL and what is built on it do not tell a full disk from other trouble."""

import shutil
from pathlib import Path

from pipeline.errors import EomtBatchError, RetryLater, RunError

LITTLE = 2**20
"""Bytes that may be left free on a disk that is full: writers ask for more at a time."""


def unwritten(path: Path, error: Exception, size: int = LITTLE) -> EomtBatchError:
    """What to raise for a file that is not written, of a size that is asked for where its writer removes it again."""
    if shutil.disk_usage(path.parent).free < max(LITTLE, size):
        return RetryLater(f"{path.name}: the disk is full ({error}); make room and run the same command again")
    return RunError(f"{path.name}: cannot be written ({error}); take another place")
