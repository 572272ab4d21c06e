"""Why a file of weights could not be written is told as the system told it."""

import errno
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from eomt_core.writing import system_errors

Write = Callable[[Path], None]


def with_torch(path: Path) -> None:
    """Write 400 kB as checkpoints are."""
    with path.open("wb") as file:
        torch.save({"weight": torch.zeros(100_000)}, file)


def with_safetensors(path: Path) -> None:
    """Write 400 kB as models are."""
    save_file({"weight": torch.zeros(100_000)}, path)


@contextmanager
def files_end_at(size: int) -> Iterator[None]:
    """Let the system refuse what would make a file of this process longer."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("write", [with_torch, with_safetensors])
def test_what_the_system_refuses_is_an_error_of_the_system(write: Write, tmp_path: Path) -> None:
    """With its number and the file, whatever the writer made of it."""
    with pytest.raises(OSError, match="weights") as caught, system_errors(tmp_path / "weights"), files_end_at(2**16):
        write(tmp_path / "weights")
    assert caught.value.errno == errno.EFBIG


def test_a_defect_of_the_writer_stays_what_it_is(tmp_path: Path) -> None:
    """The system has said nothing."""
    with pytest.raises(RuntimeError, match="a defect"), system_errors(tmp_path):
        raise RuntimeError("a defect")
