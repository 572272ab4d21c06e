"""Rasters, tiles, blocks, mosaics: everything between a file and a model, and back.

The public names are imported when they are first used, so that planning a run loads no more than it needs.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.config import RunConfig as RunConfig
    from pipeline.errors import EomtBatchError as EomtBatchError
    from pipeline.mosaic.mosaic import open_mosaic as open_mosaic
    from pipeline.report import Report as Report
    from pipeline.run import segment_raster as segment_raster
    from pipeline.run import stitch_raster as stitch_raster

_HOMES = {
    "EomtBatchError": "errors",
    "Report": "report",
    "RunConfig": "config",
    "open_mosaic": "mosaic.mosaic",
    "segment_raster": "run",
    "stitch_raster": "run",
}

__all__ = ["EomtBatchError", "Report", "RunConfig", "open_mosaic", "segment_raster", "stitch_raster"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"pipeline.{_HOMES[name]}"), name)
