"""Which pixels of a raster are there: alpha, mask band, nodata, or what `--nodata` says instead of them all."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray
from rasterio.enums import ColorInterp, MaskFlags

from pipeline.errors import InputError

HUGE = 1e37
"""Nodata beyond this stands for the least float, which files and people write with too few digits."""


class Validity(NamedTuple):
    """How validity is told.

    Args:
        mask: `none`, `alpha`, `dataset` (one mask for all bands), `nodata`, or `bands` (each band has its own).
        nodata: The value under mask `nodata`.
        alpha: The 1-based band under mask `alpha`.
    """

    mask: str
    nodata: float | None = None
    alpha: int | None = None


def choose_validity(dataset: Any, bands: Sequence[int], dtype: DTypeLike, option: str | None = None) -> Validity:
    """What `--nodata` says, else alpha, else a mask of the dataset, else the nodata of the chosen bands.

    Args:
        dataset: An open rasterio dataset.
        bands: The chosen bands, 1-based.
        dtype: Their pixels' type.
        option: `--nodata`: a number or `none`; either takes the place of all that the file says.

    Raises:
        InputError: The option is no number, or one that these pixels cannot have.
    """
    if option is not None:
        return _of_option(option, dtype)
    if ColorInterp.alpha in dataset.colorinterp:
        return Validity("alpha", alpha=dataset.colorinterp.index(ColorInterp.alpha) + 1)
    if MaskFlags.per_dataset in dataset.mask_flag_enums[bands[0] - 1]:
        return Validity("dataset")
    values = {band: dataset.nodatavals[band - 1] for band in set(bands)}
    if len({repr(value) for value in values.values()}) > 1:
        return Validity("bands")
    value = values[bands[0]]
    return Validity("nodata", float(value)) if value is not None and fits(value, dtype) else Validity("none")


def _of_option(option: str, dtype: DTypeLike) -> Validity:
    if option.strip().lower() == "none":
        return Validity("none")
    try:
        value = float(option)
    except ValueError as error:
        raise InputError(f"--nodata {option}: is no number; give one, or none") from error
    if not fits(value, dtype):
        raise InputError(f"--nodata {option}: no pixel of type {np.dtype(dtype)} has that value; give another, or none")
    return Validity("nodata", value)


def fits(value: float, dtype: DTypeLike) -> bool:
    """Whether a pixel of that type can have the value."""
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return not np.isfinite(value) or abs(value) <= float(np.finfo(kind).max)
    limits = np.iinfo(kind)
    return float(value).is_integer() and limits.min <= value <= limits.max


def is_nodata(pixels: NDArray[Any], nodata: float) -> NDArray[np.bool_]:
    """Where an array of any shape has the nodata value."""
    if np.isnan(nodata):
        return np.asarray(np.isnan(pixels))
    if pixels.dtype.kind != "f":
        return np.asarray(pixels == pixels.dtype.type(int(nodata)))
    if HUGE < abs(nodata) < np.inf:
        same_sign = pixels > 0 if nodata > 0 else pixels < 0
        return np.asarray(same_sign & (np.abs(pixels) >= 0.999 * abs(nodata)))
    return np.asarray(pixels == pixels.dtype.type(nodata))
