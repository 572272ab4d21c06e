"""Where a TIFF says that its blocks are: enough to see a file that is cut short before a run starts.

GDAL reads a truncated file until it reaches the first missing block, hours into a run. The tables of offsets and byte
counts are at hand at once, and GDAL tells them only for the image, not for its mask.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError

MOST_PAGES = 10_000
"""Directories that are looked at; a chain that goes on is a loop or no image."""

SUBFILE, WIDTH, HEIGHT, BITS, SAMPLES, ROWS_PER_STRIP, PLANAR = 254, 256, 257, 258, 277, 278, 284
TILE_WIDTH, TILE_HEIGHT = 322, 323
OFFSETS, COUNTS = (324, 273), (325, 279)  # tiles first, then strips
REDUCED, MASK = 1, 4
UINTS = {1: "u1", 3: "u2", 4: "u4", 13: "u4", 16: "u8", 18: "u8"}
"""The codes of the field types that hold whole numbers."""

Numbers = NDArray[np.uint64]


@dataclass(frozen=True)
class Dialect:
    """Byte order and word sizes: classic TIFF has 32-bit offsets, BigTIFF 64-bit ones."""

    order: str
    big: bool

    @property
    def word(self) -> str:
        """The struct code of an offset."""
        return self.order + ("Q" if self.big else "I")

    @property
    def entry(self) -> str:
        """The struct code of a directory entry's tag, type and count; the value or its offset follows."""
        return self.order + ("HHQ" if self.big else "HHI")

    @property
    def inline(self) -> int:
        """Bytes of an entry's value that need no offset."""
        return 8 if self.big else 4


@dataclass(frozen=True)
class Page:
    """One directory: an image, an overview, or a mask.

    Args:
        fields: Whole numbers by tag.
    """

    fields: dict[int, Numbers]

    def number(self, tag: int, default: int) -> int:
        """The first value of a tag."""
        values = self.fields.get(tag)
        return default if values is None or values.size == 0 else int(values[0])

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.number(HEIGHT, 0), self.number(WIDTH, 0)

    @property
    def is_mask(self) -> bool:
        """Whether it holds the validity of an image."""
        return bool(self.number(SUBFILE, 0) & MASK)

    def blocks(self) -> tuple[Numbers, Numbers]:
        """Offsets and byte counts, equally long; both are 0 for a block that was never written."""
        none = np.zeros(0, np.uint64)
        offsets = next((self.fields[tag] for tag in OFFSETS if tag in self.fields), none)
        counts = next((self.fields[tag] for tag in COUNTS if tag in self.fields), none)
        # Old writers leave the counts out: then a block has at least a byte.
        return offsets, np.resize(counts, offsets.shape) if counts.size else np.minimum(offsets, 1)

    @property
    def block_bytes(self) -> int:
        """Bytes of one decoded block. GDAL reads a lone strip line by line."""
        height, width = self.shape
        rows = self.number(TILE_HEIGHT, min(self.number(ROWS_PER_STRIP, height), height))
        if TILE_WIDTH not in self.fields and rows >= height:
            rows = 1
        samples = self.number(SAMPLES, 1) if self.number(PLANAR, 1) == 1 else 1
        return rows * self.number(TILE_WIDTH, width) * samples * -(-self.number(BITS, 1) // 8)


def pages(path: Path) -> list[Page]:
    """The directories of a TIFF, in the file's order.

    Raises:
        InputError: A directory or a table in it is beyond the end of the file.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        try:
            return list(_pages(file, size))
        except (struct.error, EOFError) as error:
            raise InputError(
                f"{path}: cut short, a TIFF directory is beyond its {size} bytes; copy it again"
            ) from error


def check_complete(path: Path, page: int = 0) -> Page:
    """The page, once it is sure that all blocks of it and of its masks are within the file.

    Raises:
        InputError: The file is cut short, or has no such page.
    """
    found = pages(path)
    if page >= len(found):
        raise InputError(f"{path}: has no TIFF directory {page + 1}, only {len(found)}")
    size = path.stat().st_size
    wanted = found[page]
    _check_blocks(path, wanted, size)
    for other in found:
        if other.is_mask and other.shape == wanted.shape:
            _check_blocks(path, other, size)
    return wanted


def largest_block(path: Path, page: int = 0) -> int:
    """Bytes of the largest decoded block of a page, of the masks, or of the overviews, which a picture is made from."""
    return max(
        other.block_bytes
        for number, other in enumerate(pages(path))
        if number == page or other.number(SUBFILE, 0) & (REDUCED | MASK)
    )


def _check_blocks(path: Path, page: Page, size: int) -> None:
    offsets, counts = page.blocks()
    beyond = (counts > 0) & ((offsets > size) | (counts > size) | (offsets + counts > size))
    if beyond.any():
        what = "mask" if page.is_mask else "image"
        raise InputError(
            f"{path}: cut short, {int(beyond.sum())} of the {offsets.size} blocks of its {what} "
            f"are beyond its {size} bytes; copy it again"
        )


def _pages(file: BinaryIO, size: int) -> Iterator[Page]:
    order = "<" if file.read(2) == b"II" else ">"
    version = _unpack(file, order + "H")
    dialect = Dialect(order, big=version == 43)
    if dialect.big:
        file.seek(8)
    offset, seen = _unpack(file, dialect.word), set[int]()
    while offset and offset not in seen and len(seen) < MOST_PAGES:
        seen.add(offset)
        if offset >= size:
            raise EOFError
        file.seek(offset)
        page, offset = _page(file, dialect, size)
        yield page


def _page(file: BinaryIO, dialect: Dialect, size: int) -> tuple[Page, int]:
    """The directory at the file's position, and the offset of the next."""
    entries = _unpack(file, dialect.order + ("Q" if dialect.big else "H"))
    length = struct.calcsize(dialect.entry) + dialect.inline
    table = file.read(min(entries * length, size))
    following = _unpack(file, dialect.word)
    if len(table) < entries * length:
        raise EOFError
    found = (_field(file, dialect, table[i : i + length], size) for i in range(0, len(table), length))
    return Page({tag: values for tag, values in found if values is not None}), following


def _field(file: BinaryIO, dialect: Dialect, entry: bytes, size: int) -> tuple[int, Numbers | None]:
    """One entry's tag and its values, None where they are no whole numbers."""
    tag, kind, count = struct.unpack(dialect.entry, entry[: -dialect.inline])
    if kind not in UINTS or tag not in _READ:
        return tag, None
    dtype = np.dtype(dialect.order + UINTS[kind])
    length = count * dtype.itemsize
    value = entry[-dialect.inline :]
    if length > dialect.inline:
        (start,) = struct.unpack(dialect.word, value)
        if start + length > size:
            raise EOFError
        file.seek(start)
        value = file.read(length)
    return tag, np.frombuffer(value[:length], dtype).astype(np.uint64)


_READ = {SUBFILE, WIDTH, HEIGHT, BITS, SAMPLES, ROWS_PER_STRIP, PLANAR, TILE_WIDTH, TILE_HEIGHT, *OFFSETS, *COUNTS}


def _unpack(file: BinaryIO, code: str) -> int:
    (value,) = struct.unpack(code, file.read(struct.calcsize(code)))
    return int(value)
