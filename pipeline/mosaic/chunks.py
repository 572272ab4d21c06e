"""How the mosaic's arrays are cut into stored objects."""

from typing import Literal, NamedTuple, Self

from pipeline.errors import UsageError

ZarrFormat = Literal[2, 3]


class Layout(NamedTuple):
    """How arrays are cut into stored objects.

    Attributes:
        zarr_format: 2 or 3.
        chunk: Pixels a side of a chunk.
        shard: Pixels a side of a shard, which is one object of many chunks; None: each chunk is an object.

    Raises:
        UsageError: From `checked`: shards in format 2, or shards that are no whole number of chunks.
    """

    zarr_format: ZarrFormat
    chunk: int
    shard: int | None

    def checked(self) -> Self:
        """The layout, known to be possible."""
        if self.shard is None:
            return self
        if self.zarr_format == 2:
            raise UsageError(
                f"--zarr-shard {self.shard}: format 2 has no shards; add --zarr-format 3, or --zarr-shard none"
            )
        if self.shard <= 0 or self.shard % self.chunk:
            raise UsageError(f"--zarr-shard {self.shard}: must be a multiple of --chunk, {self.chunk}")
        return self

    @property
    def side(self) -> int:
        """Pixels a side of an object: the smallest square that one writer may write."""
        return self.shard or self.chunk
