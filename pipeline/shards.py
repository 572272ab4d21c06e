"""One Zarr v3 shard, written tile by tile and read tile by tile.

zarr-python writes a shard whole or rewrites it for every chunk. A tile block's answers may be larger than memory should
hold, so the shard is written here as the tiles come: compressed chunks one after the other, then the index, in a file
that takes its name only when it is complete and on disk. What results is an ordinary shard that any Zarr reader reads.
"""

import os
import uuid
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import google_crc32c
import numpy as np
from numcodecs import Blosc
from numpy.typing import DTypeLike, NDArray

ABSENT = np.uint64(2**64 - 1)
"""Offset and length of a chunk that was not written."""

CRC_BYTES = 4


def codec() -> Blosc:
    """The chunks' compressor: scores and logits are smooth, so bytes of equal weight are put side by side."""
    return Blosc(cname="zstd", clevel=1, shuffle=Blosc.SHUFFLE)


def sync(path: Path) -> None:
    """Wait until a file or folder is on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def checksum(path: Path) -> int:
    """crc32c of a file."""
    crc = 0
    with path.open("rb") as file:
        while piece := file.read(2**20):
            crc = google_crc32c.extend(crc, piece)
    return crc


class ShardWriter:
    """Writes one shard; a context manager that leaves either the whole file or none.

    Args:
        path: The shard's final place.
        grid: Chunks per axis of the shard.
    """

    def __init__(self, path: Path, grid: Sequence[int]) -> None:
        self.path = path
        self.index = np.full((*grid, 2), ABSENT, "<u8")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
        self._file = self._partial.open("wb")

    def add(self, position: tuple[int, ...], chunk: NDArray[Any]) -> None:
        """Append one chunk; `position` counts chunks within the shard."""
        data = codec().encode(np.ascontiguousarray(chunk, chunk.dtype.newbyteorder("<")))
        self.index[position] = self._file.tell(), len(data)
        self._file.write(data)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._file:
            if kind is None:
                self._finish()
        if kind is None:
            self._partial.replace(self.path)
            sync(self.path.parent)
        else:
            self._partial.unlink()

    def _finish(self) -> None:
        index = self.index.tobytes()
        self._file.write(index + google_crc32c.value(index).to_bytes(CRC_BYTES, "little"))
        self._file.flush()
        os.fsync(self._file.fileno())


class ShardReader:
    """Reads chunks of one shard.

    Args:
        path: The shard.
        grid: Chunks per axis of the shard.
        shape: Shape of a chunk.
        dtype: Type of a chunk.
    """

    def __init__(self, path: Path, grid: Sequence[int], shape: Sequence[int], dtype: DTypeLike) -> None:
        self.path = path
        self.shape = tuple(shape)
        self.dtype = np.dtype(dtype).newbyteorder("<")
        self.index = self._read_index(tuple(grid))

    def _read_index(self, grid: tuple[int, ...]) -> NDArray[np.uint64]:
        size = 16 * int(np.prod(grid)) + CRC_BYTES
        with self.path.open("rb") as file:
            file.seek(-size, os.SEEK_END)
            data = file.read(size)
        index, crc = data[:-CRC_BYTES], data[-CRC_BYTES:]
        if google_crc32c.value(index) != int.from_bytes(crc, "little"):
            raise OSError(f"{self.path}: the index is damaged")
        return np.frombuffer(index, "<u8").reshape(*grid, 2)

    def read(self, position: tuple[int, ...]) -> NDArray[Any] | None:
        """One chunk, or None if it was not written."""
        offset, length = self.index[position]
        if offset == ABSENT:
            return None
        with self.path.open("rb") as file:
            file.seek(int(offset))
            data = file.read(int(length))
        chunk = np.empty(self.shape, self.dtype)  # its own memory, as torch takes none that is read-only
        codec().decode(data, chunk)
        return chunk
