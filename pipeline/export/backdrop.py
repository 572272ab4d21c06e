"""The input behind a mosaic, thinned to a picture for people, from the file's overviews where it has them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rasterio.enums import Resampling

from pipeline.errors import InputError
from pipeline.export.thin import Shape
from pipeline.preprocess import Scaling, choose_scaling, to_unit
from pipeline.rasters.raster import open_raster
from pipeline.rasters.raster_spec import RasterSpec, Stamp
from pipeline.rasters.source import GDAL_ERRORS, cause, gdal_env, open_source, shown
from pipeline.spec import RunSpec


@dataclass(frozen=True)
class Backdrop:
    """An image and how its numbers become bytes.

    Attributes:
        raster: The file.
        scaling: Raw values that become black and white, per band.
    """

    raster: RasterSpec
    scaling: Scaling

    @classmethod
    def of_run(cls, spec: RunSpec) -> Self:
        """The input of a run, as the model saw it.

        Raises:
            InputError: It is gone, another file than it was, or on another host, which nobody has asked to be asked.
        """
        if spec.raster.address:
            raise InputError(f"{Path(spec.raster.path).name}: is on another host; give a copy of it with --image")
        for stamp in spec.raster.stamps:
            name = Path(stamp.path).name
            try:
                now = Stamp.of(stamp.path)
            except OSError:
                raise InputError(f"{name}: is gone since the run; give it with --image") from None
            if now != stamp:
                raise InputError(f"{name}: has changed since the run; give the file to be shown with --image")
        return cls(spec.raster, spec.scaling)

    @classmethod
    def of_file(cls, path: str, shape: Shape, spec: RunSpec | None, **options: Any) -> Self:
        """A file that shows what a mosaic of that shape shows.

        Args:
            path: The file.
            shape: Rows and columns of the mosaic.
            spec: The run, whose bands and scaling are taken where they fit.
            options: Of `open_raster`.

        Raises:
            InputError: It cannot be read, or has other rows and columns.
        """
        raster = open_raster(path, needed=1, **options)
        if raster.file.shape not in (shape, spec and spec.raster.file.shape):
            (rows, cols), (have_rows, have_cols) = shape, raster.file.shape
            raise InputError(
                f"--image {shown(path)}: has {have_rows} x {have_cols} pixels, the mosaic {rows} x {cols}; "
                "give the raster that it was made from"
            )
        if spec and (raster.count, raster.dtype) == (spec.raster.count, spec.raster.dtype):
            bands = ",".join(map(str, spec.raster.bands))
            return cls(open_raster(path, bands=bands, needed=len(spec.raster.bands), **options), spec.scaling)
        raster = open_raster(path, needed=3 if raster.count >= 3 else 1, **options)
        return cls(raster, choose_scaling("auto", raster))

    def decoded(self, shape: Shape) -> int:
        """Pixels that are decoded for such a picture: of the coarsest overview that is large enough, or of the file.

        Raises:
            InputError: GDAL cannot open it.
        """
        rows, cols = self.raster.file.shape
        with self._open() as dataset:
            factors = [factor for factor in dataset.overviews(self.raster.bands[0]) if rows >= shape[0] * factor]
        return int(rows * cols // max([1, *factors]) ** 2)

    @contextmanager
    def _open(self) -> Iterator[Any]:
        spec = self.raster
        try:
            with gdal_env(spec.source.remote), open_source(spec.source)[0] as dataset:
                yield dataset
        except (*GDAL_ERRORS, OSError) as error:
            raise InputError(f"{Path(shown(spec.path)).name}: cannot be read ({cause(error)})") from error

    def read(self, shape: Shape) -> Image.Image:
        """The whole image in red, green, blue and opacity, thinned to that many rows and columns.

        Raises:
            InputError: GDAL cannot read it.
        """
        spec = self.raster
        bands = list(spec.bands[:3] if len(spec.bands) >= 3 else spec.bands[:1])
        with self._open() as dataset:
            target = (len(bands), *shape)
            pixels = dataset.read(bands, out_shape=target, out_dtype=spec.dtype, resampling=Resampling.average)
            valid = dataset.dataset_mask(out_shape=shape)
        return Image.fromarray(np.concatenate([self._bytes(pixels), valid[..., None]], axis=2))

    def _bytes(self, pixels: NDArray[Any]) -> NDArray[np.uint8]:
        """Bands (C, h, w) as red, green and blue (h, w, 3)."""
        image: NDArray[np.uint8] = np.empty((*pixels.shape[1:], 3), np.uint8)
        for band in range(3):  # one after the other: floats take four times the room
            at = min(band, len(pixels) - 1)
            scaling = Scaling(self.scaling.lo[at : at + 1], self.scaling.hi[at : at + 1])
            image[..., band] = (np.nan_to_num(to_unit(pixels[at : at + 1], scaling)[0]) * 255).round()
        return image
