"""Views of a tile, and back."""

import numpy as np
import pytest
import torch

from eomt_core.errors import ModelError
from eomt_core.outputs import QueryMasks
from eomt_core.predict import Predictor
from eomt_core.views import VIEWS


@pytest.mark.parametrize("view", VIEWS["d4"])
def test_undoing_a_view_gives_the_image_again(view):
    """Whatever its shape."""
    image = torch.arange(2 * 3 * 5).reshape(2, 3, 5)
    assert torch.equal(view.undo(view.apply(image)), image)


def test_the_eight_views_are_eight():
    """No turn or mirroring comes twice."""
    image = torch.arange(9).reshape(3, 3)
    assert len({tuple(view.apply(image).flatten().tolist()) for view in VIEWS["d4"]}) == 8
    assert len(VIEWS["flips"]) == 4
    assert len(VIEWS["none"]) == 1


class Corner(torch.nn.Module):
    """A model that sees the first cell of what it is shown, and nothing else."""

    def forward(self, pixels):
        """One query of one class, sure of the first cell."""
        logits = torch.full((len(pixels), 1, pixels.shape[2] // 4, pixels.shape[3] // 4), -100.0)
        logits[..., 0, 0] = 100
        return QueryMasks(logits, torch.tensor([[[100.0, 0.0]]]).expand(len(pixels), -1, -1), 4)


class Corners(torch.nn.Module):
    """The same model with queries to spare."""

    def forward(self, pixels):
        """The first of four queries is sure of the first cell; the others are no objects."""
        one = Corner()(pixels)
        masks = one.mask_logits.repeat(1, 4, 1, 1)
        classes = torch.tensor([[[100.0, 0.0]] + [[0.0, 100.0]] * 3]).expand(len(pixels), -1, -1)
        return QueryMasks(masks, classes, 4)


@pytest.mark.parametrize(("tta", "code"), [("none", 1024), ("flips", 256), ("d4", 256)])
def test_scores_are_averaged_over_the_views(tta, code):
    """In each view another corner is first; over all of them each is so equally often."""
    predictor = Predictor(Corner(), torch.device("cpu"), "fp32", ([0] * 3, [255] * 3), 1, tta)
    scores = predictor.scores(np.zeros((1, 3, 16, 24), np.uint8))[0, 0]
    corners = [scores[0, 0], scores[0, -1], scores[-1, 0], scores[-1, -1]]
    assert corners == ([code, 0, 0, 0] if tta == "none" else [code] * 4)
    assert scores.sum() == 1024


@pytest.mark.parametrize(("tta", "share"), [("none", 1.0), ("flips", 0.25), ("d4", 0.25)])
def test_the_queries_of_the_views_are_put_in_their_place(tta, share):
    """Another corner is first in each view, so that each is a query of its own, missed by three of four views."""
    predictor = Predictor(Corners(), torch.device("cpu"), "fp32", ([0] * 3, [255] * 3), 1, tta)
    [found] = predictor.queries(np.zeros((1, 3, 16, 24), np.uint8), exact=False)
    places = [np.argwhere(mask > 128).tolist() for mask in found.masks[: found.kept]]
    corners = [[[0, 0]], [[0, 5]], [[3, 0]], [[3, 5]]]
    assert sorted(places) == (corners[:1] if tta == "none" else corners)
    np.testing.assert_allclose(found.class_probs[: found.kept, 0], share, rtol=1e-5)


def test_an_answer_of_a_view_that_is_no_number_is_an_error():
    """Before anything is matched."""

    class Nothing(Corners):
        def forward(self, pixels):
            return super().forward(pixels)._replace(class_logits=torch.full((len(pixels), 4, 2), torch.nan))

    predictor = Predictor(Nothing(), torch.device("cpu"), "fp32", ([0] * 3, [255] * 3), 1, "flips")
    with pytest.raises(ModelError, match="not a number"):
        predictor.queries(np.zeros((1, 3, 16, 24), np.uint8), exact=False)
