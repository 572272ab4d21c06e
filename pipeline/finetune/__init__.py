"""Training a model on rasters with truth: what `eomt-batch finetune` does.

The public names are imported when they are first used, so that the help of a command loads no rasters.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.finetune.config import FinetuneConfig as FinetuneConfig
    from pipeline.finetune.course import Outcome as Outcome
    from pipeline.finetune.course import Pulse as Pulse
    from pipeline.finetune.course import finetune as finetune

_HOMES = {"FinetuneConfig": "config", "Outcome": "course", "Pulse": "course", "finetune": "course"}

__all__ = ["FinetuneConfig", "Outcome", "Pulse", "finetune"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"pipeline.finetune.{_HOMES[name]}"), name)
