"""One Zarr v3 shard, written tile by tile and read tile by tile.

zarr-python writes a shard whole or rewrites it for every chunk. A tile block's answers may be larger than memory should
hold, so the shard is written here as the tiles come: compressed chunks one after the other, then the index, in a file
that takes its name only when it is complete and on disk. What results is an ordinary shard that any Zarr reader reads.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any

import google_crc32c
import numpy as np
from numcodecs import Blosc
from numpy.typing import DTypeLike, NDArray

from pipeline.storage.paths import AnyPath, read_part, whole

ABSENT = np.uint64(2**64 - 1)
"""Offset and length of a chunk that was not written."""

CRC_BYTES = 4


def codec() -> Blosc:
    """The chunks' compressor: scores and logits are smooth, so bytes of equal weight are put side by side."""
    return Blosc(cname="zstd", clevel=1, shuffle=Blosc.SHUFFLE)


class ShardWriter:
    """Writes one shard to an open file.

    Args:
        file: Empty, and the shard's alone.
        grid: Chunks per axis of the shard.
    """

    def __init__(self, file: IO[bytes], grid: Sequence[int]) -> None:
        self.index = np.full((*grid, 2), ABSENT, "<u8")
        self._file = file

    def add(self, position: tuple[int, ...], chunk: NDArray[Any]) -> None:
        """Append one chunk; `position` counts chunks within the shard."""
        data = codec().encode(np.ascontiguousarray(chunk, chunk.dtype.newbyteorder("<")))
        self.index[position] = self._file.tell(), len(data)
        self._file.write(data)

    def finish(self) -> None:
        """Append the index, which makes it a shard."""
        index = self.index.tobytes()
        self._file.write(index + google_crc32c.value(index).to_bytes(CRC_BYTES, "little"))


@contextmanager
def new_shard(path: AnyPath, grid: Sequence[int]) -> Iterator[ShardWriter]:
    """The writer of a shard that is there, whole, when the context ends well, and else is not.

    Args:
        path: The shard's place.
        grid: Chunks per axis of the shard.
    """
    with whole(path) as file:
        writer = ShardWriter(file, grid)
        yield writer
        writer.finish()


class ShardReader:
    """Reads chunks of one shard.

    Args:
        path: The shard.
        grid: Chunks per axis of the shard.
        shape: Shape of a chunk.
        dtype: Type of a chunk.
    """

    def __init__(self, path: AnyPath, grid: Sequence[int], shape: Sequence[int], dtype: DTypeLike) -> None:
        self.path = path
        self.shape = tuple(shape)
        self.dtype = np.dtype(dtype).newbyteorder("<")
        self.index = self._read_index(tuple(grid))

    def _read_index(self, grid: tuple[int, ...]) -> NDArray[np.uint64]:
        size = 16 * int(np.prod(grid)) + CRC_BYTES
        data = read_part(self.path, -size, size)
        index, crc = data[:-CRC_BYTES], data[-CRC_BYTES:]
        if google_crc32c.value(index) != int.from_bytes(crc, "little"):
            raise OSError(f"{self.path}: the index is damaged")
        return np.frombuffer(index, "<u8").reshape(*grid, 2)

    def read(self, position: tuple[int, ...]) -> NDArray[Any] | None:
        """One chunk, or None if it was not written."""
        offset, length = self.index[position]
        if offset == ABSENT:
            return None
        data = read_part(self.path, int(offset), int(length))
        chunk = np.empty(self.shape, self.dtype)  # its own memory, as torch takes none that is read-only
        codec().decode(data, chunk)
        return chunk
