"""What a model should have answered, as tensors."""

from typing import NamedTuple

import torch
from torch import Tensor

from eomt_core.training.batch import IGNORE


class Objects(NamedTuple):
    """The objects of one crop.

    Attributes:
        masks: (n, H, W) float32, 0 or 1.
        classes: (n,) int64.
        known: (H, W) float32, 0 where the truth is not known.
    """

    masks: Tensor
    classes: Tensor
    known: Tensor


def objects_of(labels: Tensor) -> Objects:
    """Turn ids of objects (H, W), 0 for background, into one mask of class 0 per object that is there."""
    present = _present(labels, above=0)
    return Objects(_masks(labels, present), torch.zeros_like(present), (labels != IGNORE).float())


def regions_of(labels: Tensor) -> Objects:
    """Turn class ids (H, W) into one mask per class that is there."""
    present = _present(labels, above=IGNORE)
    return Objects(_masks(labels, present), present, (labels != IGNORE).float())


def _present(labels: Tensor, above: int) -> Tensor:
    values: Tensor = torch.unique(labels)
    return values[values > above]


def _masks(labels: Tensor, values: Tensor) -> Tensor:
    return (labels[None] == values[:, None, None]).float()
