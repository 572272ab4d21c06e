"""Pixels in, query masks out: the Encoder-only Mask Transformer, its encoders, weights and post-processing.

The names below are imported when they are first used, so that light modules (cards, labels, errors) load no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eomt_core.checkpoint import load_model, save_model
    from eomt_core.describe import describe_model
    from eomt_core.eomt import EoMT
    from eomt_core.errors import ModelError
    from eomt_core.outputs import QueryMasks
    from eomt_core.spatial import SpatialEoMT

__all__ = ["EoMT", "ModelError", "QueryMasks", "SpatialEoMT", "describe_model", "load_model", "save_model"]

_HOMES = {
    "EoMT": "eomt_core.eomt",
    "ModelError": "eomt_core.errors",
    "QueryMasks": "eomt_core.outputs",
    "SpatialEoMT": "eomt_core.spatial",
    "describe_model": "eomt_core.describe",
    "load_model": "eomt_core.checkpoint",
    "save_model": "eomt_core.checkpoint",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its home on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """List the public names, imported or not."""
    return sorted({*globals(), *__all__})
