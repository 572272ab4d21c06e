"""Write Zarr 3 mosaics and what their readers must find: `python tests/light/write_v3.py FOLDER`.

`read_v3.py` checks it in another environment, with a newer rasterio and without this package.
"""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
from pyproj import CRS

from pipeline.mosaic.companions import write_companions
from pipeline.mosaic.mosaic import Mosaic
from pipeline.rasters.raster_spec import Grid
from pipeline.tiling import output_blocks

EPSG = 32633
TRANSFORM = (0.5, 0.0, 500000.25, 0.0, -0.5, 5400000.75)
NAMES = ("background", "still water", "forest")
COLOURS = ("#000000", "#1f78b4", "#33a02c")


def picture(rows: int, cols: int) -> dict[str, np.ndarray]:
    """Stripes of every class, unlabelled and nodata, and ids of up to 32 bits."""
    row, col = np.ogrid[:rows, :cols]
    classes = np.array([0, 1, 2, 254, 255], "u1")[(row // 50 + col // 70) % 5]
    instances = (classes == 2) * (row // 50 * 100_000_007 + col // 70).astype("u4")
    return {"classes": classes, "confidence": 255 - classes, "instances": instances.astype("u4")}


def digest(values: np.ndarray) -> str:
    """SHA-256 of the pixels."""
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()


def write(path: Path, pixels: dict[str, np.ndarray], **options: int) -> Mosaic:
    """A mosaic of two levels, with the VRTs beside it."""
    mosaic = Mosaic.create(
        path,
        Grid((1500, 2000), TRANSFORM),
        CRS.from_epsg(EPSG).to_wkt("WKT2_2019"),
        classes=NAMES,
        colours=COLOURS,
        instances=True,
        zarr_format=3,
        levels=2,
        provenance={"model": "none"},
        **options,
    )
    for level in range(mosaic.levels):
        thinned = {name: values[:: 2**level, :: 2**level] for name, values in pixels.items()}
        for block in output_blocks(thinned["classes"].shape, mosaic.side):
            mosaic.write(block.window, level=level, **{name: thinned[name][block.window.slices] for name in thinned})
    mosaic.finish()
    write_companions(mosaic)
    return mosaic


def main(folder: Path) -> None:
    """Write FOLDER/masks.zarr, FOLDER/shards.zarr and FOLDER/expected.json."""
    pixels = picture(1500, 2000)
    mosaic = write(folder / "masks.zarr", pixels)
    write(folder / "shards.zarr", pixels, chunk=256, shard=512)
    arrays = {
        name: {
            "dtype": str(values.dtype),
            "nodata": 0 if name == "instances" else 255,
            "sha256": digest(values),
            "overview": {"shape": [750, 1000], "sha256": digest(values[::2, ::2])},
        }
        for name, values in pixels.items()
    }
    expected = {"epsg": EPSG, "transform": TRANSFORM, "shape": mosaic.shape, "classes": NAMES, "arrays": arrays}
    (folder / "expected.json").write_text(json.dumps(expected, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
