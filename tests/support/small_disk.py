"""A file system of little room, in memory."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple


class SmallDisk(NamedTuple):
    """Where it is."""

    path: Path

    def fill(self, others: Path) -> None:
        """Write a file as long as there is room."""
        with suppress(OSError), others.open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass


@contextmanager
def mounted(place: Path, megabytes: int) -> Iterator[SmallDisk | None]:
    """The disk in a new folder; None where this process may not mount."""
    place.mkdir()
    size = f"size={megabytes}m"
    if subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", place], check=False).returncode:
        yield None
        return
    try:
        yield SmallDisk(place)
    finally:
        subprocess.run(["umount", "-l", place], check=True)
