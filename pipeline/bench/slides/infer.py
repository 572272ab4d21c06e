"""A slide cut into tiles and seen by a model: an ordinary run over it, of which only what inference kept is used."""

from dataclasses import replace
from pathlib import Path

import rasterio

from pipeline.bench.slides.slide import Slide, truth_of
from pipeline.bench.stitching.table import Cut
from pipeline.config import RunConfig
from pipeline.run import segment_raster
from pipeline.spec import read_spec
from pipeline.steps.journal import Journal
from pipeline.store import Store

TRANSFORM = rasterio.Affine(1, 0, 0, 0, -1, 1)
"""Any place will do, but GDAL warns of none at all."""


def infer(slide: Slide, output: Path, config: RunConfig) -> Cut:
    """Run a model over a slide.

    Args:
        slide: the images.
        output: the mosaic that is made; the slide lies beside it. Both must stay as long as the result is used.
        config: of the run; its bands are the slide's.

    Raises:
        UsageError: options that do not go together.
        RunError: the run failed.
    """
    image = output.with_suffix(".tif")
    bands, rows, cols = slide.pixels.shape
    profile = {"driver": "GTiff", "count": bands, "height": rows, "width": cols, "dtype": slide.pixels.dtype}
    with rasterio.open(image, "w", tiled=True, transform=TRANSFORM, **profile) as file:
        file.write(slide.pixels)
    every = ",".join(str(band) for band in range(1, bands + 1))
    segment_raster(image, output, replace(config, bands=every, task="instance"))
    folder = Journal.of(output).folder
    spec = read_spec(folder)
    store = Store(folder / spec.store, spec.plan, spec.record_layout)
    return Cut(truth_of(slide.truth), spec.plan, store.queries, spec.rules, spec.model.stride)
