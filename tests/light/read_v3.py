"""Read Zarr 3 mosaics as their users do: `python tests/light/read_v3.py FOLDER`.

It needs rasterio >= 1.5 (GDAL >= 3.11), xarray, zarr and rioxarray, and nothing of this package. `write_v3.py` makes
the folder. It prints a line for each check that fails and one line of counts, and exits 1 where a check fails. Shards
are left to GDAL from 3.13, and that is said.
"""

import hashlib
import json
import sys
import warnings
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rioxarray  # noqa: F401  (it gives arrays their `.rio`)
import xarray

Fact = tuple[str, Any, Any]


def place(expected: dict[str, Any], name: str, epsg: int | None, transform: Any, nodata: float) -> Iterator[Fact]:
    """What a reader says of where an array lies, beside what it should say."""
    yield "EPSG code", epsg, expected["epsg"]
    yield "transform", [round(value, 8) for value in transform[:6]], expected["transform"]
    yield "nodata", nodata, expected["arrays"][name]["nodata"]


def pixels(expected: dict[str, Any], name: str, values: np.ndarray) -> Iterator[Fact]:
    """What a reader says of the pixels, beside what it should say."""
    wanted = expected["arrays"][name]
    yield "shape", list(values.shape), expected["shape"]
    yield "type", str(values.dtype), wanted["dtype"]
    yield "pixels", digest(values), wanted["sha256"]


def digest(values: np.ndarray) -> str:
    """SHA-256 of the pixels."""
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()


def by_rasterio(path: Path, expected: dict[str, Any], name: str) -> Iterator[Fact]:
    """One array through GDAL; what is no nodata must be data, class 0 above all."""
    yield from by_gdal(f'ZARR:"{path}":/0/{name}', expected, name)


def by_vrt(path: Path, expected: dict[str, Any], name: str) -> Iterator[Fact]:
    """One array through the VRT beside the mosaic, which has the coarser level as its overview."""
    vrt, wanted = path.with_suffix(f".{name}.vrt"), expected["arrays"][name]["overview"]
    yield from by_gdal(str(vrt), expected, name)
    with rasterio.open(vrt, overview_level=0) as source:
        values = source.read(1)
    yield "overview's shape", list(values.shape), wanted["shape"]
    yield "overview's pixels", digest(values), wanted["sha256"]
    with rasterio.open(vrt) as source:
        yield "colours", name != "classes" or set(source.colormap(1)) >= set(range(len(expected["classes"]))), True


def by_gdal(source_name: str, expected: dict[str, Any], name: str) -> Iterator[Fact]:
    """What GDAL says of a raster."""
    with rasterio.open(source_name) as source:
        values = source.read(1)
        yield from place(expected, name, source.crs and source.crs.to_epsg(), source.transform, source.nodata)
        yield from pixels(expected, name, values)
        yield "mask", bool(((source.read_masks(1) == 255) == (values != source.nodata)).all()), True


def by_xarray(path: Path, expected: dict[str, Any], name: str) -> Iterator[Fact]:
    """One array through xarray with no option but the group."""
    array = xarray.open_zarr(path, group="0", chunks=None)[name]
    yield from place(expected, name, array.rio.crs and array.rio.crs.to_epsg(), array.rio.transform(), array.rio.nodata)
    yield from pixels(expected, name, array.values)


def main(folder: Path, gdal: tuple[int, ...]) -> int:
    """Check every fact of every array by every reader that this GDAL allows; 1 where one is wrong."""
    expected = json.loads((folder / "expected.json").read_text())
    legs = [("masks.zarr", read) for read in (by_rasterio, by_vrt, by_xarray)] + [("shards.zarr", by_xarray)]
    if gdal >= (3, 13):
        legs += [("shards.zarr", by_rasterio), ("shards.zarr", by_vrt)]
    else:
        print(f"SKIPPED shards by GDAL: {rasterio.__gdal_version__} reads none, 3.13 does")
    wrong = total = 0
    for (mosaic, read), name in product(legs, expected["arrays"]):
        for fact, found, wanted in read(folder / mosaic, expected, name):
            total += 1
            if found != wanted:
                wrong += 1
                print(f"FAILED {mosaic} {read.__name__} {name}: {fact} is {found}, expected {wanted}")
    print(f"{total - wrong} passed, {wrong} failed")
    return int(wrong > 0 or total == 0)


if __name__ == "__main__":
    warnings.simplefilter("error")
    # rioxarray multiplies transforms in a way that affine will drop some day.
    warnings.filterwarnings("ignore", "Use `@` matmul", PendingDeprecationWarning)
    version = tuple(int(part) for part in rasterio.__gdal_version__.split(".")[:2])
    if version < (3, 11):
        sys.exit(f"rasterio has GDAL {rasterio.__gdal_version__}; Zarr 3 needs 3.11: install rasterio >= 1.5")
    sys.exit(main(Path(sys.argv[1]), version))
