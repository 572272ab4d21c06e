"""What a user should be told about a raster that is read all the same."""

from collections.abc import Iterator
from typing import Any

import numpy as np

SWELLING = 2000
"""Deflate shrinks zeros to a thousandth."""

WIDE_STRIP = 4096
"""Strips of more columns than this are worth a remark: each read decodes far more than it takes."""


def remarks(dataset: Any, size: int) -> Iterator[str]:
    """What is slow, left out or suspicious, each to be said after the raster's name.

    Args:
        dataset: An open rasterio dataset.
        size: Bytes of its files, 0 where that is not known.
    """
    rows, cols = dataset.block_shapes[0]
    if cols >= dataset.width > WIDE_STRIP and rows < dataset.height:
        yield "is laid out in strips, which read about 3 times slower: gdal_translate -co TILED=YES"
    if dataset.subdatasets:
        yield f"holds {len(dataset.subdatasets)} images; choose with --subdataset"
    decoded = sum(dataset.width * dataset.height * np.dtype(dtype).itemsize for dtype in dataset.dtypes)
    if size and decoded > SWELLING * size:
        yield f"decodes to {decoded / 1e9:.1f} GB from {size / 1e6:.1f} MB: is empty for the most part, or made to harm"
