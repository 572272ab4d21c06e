"""A tile's labels at once: classes, or objects by what an instance scores."""

import numpy as np
import pytest
import torch
from torch import nn

from eomt_core import QueryMasks
from eomt_core.labeller import Labeller
from eomt_core.postprocess import with_instance_scores

SURE, UNSURE = 8.0, 0.2


class Answer(nn.Module):
    """Gives two queries of class 0: the left half with a sure mask, the right half with an unsure one."""

    def forward(self, pixels: torch.Tensor) -> QueryMasks:
        """Answer the same to any tile of 32 x 32 pixels."""
        masks = torch.full((1, 2, 8, 8), -8.0)
        masks[0, 0, :, :4], masks[0, 1, :, 4:] = SURE, UNSURE
        return QueryMasks(masks, torch.tensor([[[4.0, 0.0], [4.0, 0.0]]]), 4)


def label(thresholds: tuple[float, float, float] | None) -> np.ndarray:
    """Label a tile of 32 x 32 pixels."""
    return Labeller(Answer(), torch.device("cpu"), "fp32", thresholds)(np.zeros((3, 32, 32), np.float32))


def test_an_unsure_outline_lowers_the_score():
    """Class probability times the mean mask probability inside the mask; the rest is no object."""
    masks = Answer()(torch.zeros(1, 3, 32, 32))
    scores = with_instance_scores(masks).class_logits.softmax(-1)[0]
    sure, unsure = torch.sigmoid(torch.tensor([4.0, 4.0])) * torch.sigmoid(torch.tensor([SURE, UNSURE]))
    assert scores[:, 0].tolist() == pytest.approx([float(sure), float(unsure)], abs=1e-6)
    assert scores.sum(-1).tolist() == pytest.approx([1, 1])


def test_objects_are_those_above_the_threshold():
    """Both above 0.5, the sure one alone above 0.8."""
    assert np.unique(label((0.5, 0.8, 0.5))).tolist() == [0, 1, 2]
    assert np.unique(label((0.8, 0.8, 0.5))[:, 20:]).tolist() == [0]


def test_without_thresholds_it_gives_classes():
    """The one class everywhere."""
    assert (label(None) == 0).all()
