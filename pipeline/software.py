"""Versions of what makes a result."""

import platform
from importlib.metadata import version

SOFTWARE = ("eomt-batch", "torch", "timm", "rasterio", "zarr", "dask", "numpy")


def versions() -> dict[str, str]:
    """Version by package, and Python's."""
    return {"python": platform.python_version(), **{name: version(name) for name in SOFTWARE}}
