"""Queries that compete have the reference's loss, those that belong to a class have one per pixel."""

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from small_truth import draw_batch
from torch import Tensor

from eomt_core import EoMT, QueryMasks
from eomt_core.postprocess import semantic
from eomt_core.training import losses
from eomt_core.training.batch import IGNORE
from eomt_core.training.losses import fixed_loss, matched_loss
from eomt_core.training.matching import Weights, match
from eomt_core.training.targets import Objects, objects_of, regions_of

MakeSmall = Callable[..., EoMT]
FEW, ALL = 40, 64
"""Places: fewer than a mask of 8 x 8 has cells, and as many."""


def answer(batch: int = 2, queries: int = 6, classes: int = 3, seed: int = 0, aux: int = 0) -> QueryMasks:
    """Random logits (8, 8), at stride 4 of 32 x 32 pixels, which take gradients."""
    draw = torch.Generator().manual_seed(seed)
    masks = (3 * torch.randn(batch, queries, 8, 8, generator=draw)).requires_grad_()
    kinds = torch.randn(batch, queries, classes + 1, generator=draw).requires_grad_()
    early = tuple(answer(batch, queries, classes, seed + 1 + index) for index in range(aux))
    return QueryMasks(masks, kinds, 4, early or None)


def labels_of(count: int = 2, size: int = 32) -> Tensor:
    """Labels (B, size, size) of discs and squares: classes, or the numbers of the objects."""
    return torch.from_numpy(draw_batch(0, count, size).labels).long()


def seeded(loss: Callable[..., Tensor], *arguments: Any, seed: int = 5) -> Tensor:
    """A loss whose draws depend on the seed alone."""
    torch.manual_seed(seed)
    return loss(*arguments)


@pytest.fixture
def reference(mask2former: Any) -> Callable[[QueryMasks, Sequence[Objects]], Tensor]:
    """The reference's loss with the reference's weights, over every pixel."""
    weights = {"class_weight": 2.0, "mask_weight": 5.0, "dice_weight": 5.0, "no_object_weight": 0.1, "num_labels": 3}
    points = {"train_num_points": ALL, "oversample_ratio": 3, "importance_sample_ratio": 1.0}
    module = mask2former.Mask2FormerLoss(SimpleNamespace(**weights, **points), {})

    def loss(masks: QueryMasks, truth: Sequence[Objects]) -> Tensor:
        targets = [objects.masks for objects in truth], [objects.classes for objects in truth]
        parts = [module(part.mask_logits, part.class_logits, *targets) for part in (masks, *(masks.aux or ()))]
        scales = {"loss_cross_entropy": 2, "loss_mask": 5, "loss_dice": 5}
        return torch.stack([scale * part[name] for part in parts for name, scale in scales.items()]).sum()

    return loss


def test_the_matched_loss_is_mask2formers(reference: Callable[..., Tensor]) -> None:
    """Where both look at every pixel, loss and slopes are the reference's; early predictions are added to the last."""
    truth, found = [regions_of(image) for image in labels_of(size=8)], []
    for loss in (lambda masks: matched_loss(masks, truth, ALL), lambda masks: reference(masks, truth)):
        masks = answer(aux=2)
        value = loss(masks)
        found.append((value, *torch.autograd.grad(value, (masks.mask_logits, masks.class_logits))))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_places_at_all_pixels_tell_what_all_cells_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss in chosen places is the loss over cells where the places are the cells' centres."""
    masks, truth = answer(1), [regions_of(labels_of(1, 8)[0])]
    axis = (torch.arange(8) + 0.5) / 8
    rows, cols = torch.meshgrid(axis, axis, indexing="ij")
    grid = torch.stack([cols, rows], -1).reshape(1, -1, 2)
    monkeypatch.setattr(losses, "uncertain_places", lambda logits, *_: grid.expand(len(logits), -1, -1))
    monkeypatch.setattr(losses, "match", lambda *given: match(*given[:3], ALL, *given[4:]))
    assert torch.allclose(matched_loss(masks, truth, FEW), matched_loss(masks, truth, ALL), rtol=1e-5)


def test_the_order_of_queries_and_objects_means_nothing() -> None:
    """Queries and objects in another order give the same loss."""
    masks, truth = answer(1), objects_of(labels_of(1)[0])
    order = torch.tensor([4, 2, 0, 5, 1, 3])
    turned = QueryMasks(masks.mask_logits[:, order], masks.class_logits[:, order], 4)
    wanted = matched_loss(masks, [truth], ALL)
    assert torch.allclose(matched_loss(turned, [truth], ALL), wanted)
    backwards = Objects(truth.masks.flip(0), truth.classes.flip(0), truth.known)
    assert torch.allclose(matched_loss(masks, [backwards], ALL), wanted)


def test_masks_count_the_same_in_full_and_in_empty_crops() -> None:
    """The masks' part is a mean over the objects of the batch: a crop without any does not thin it."""
    masks, truth = answer(1), regions_of(labels_of(1)[0])
    nothing = Objects(truth.masks[:0], truth.classes[:0], truth.known)
    both = QueryMasks(masks.mask_logits.repeat(2, 1, 1, 1), masks.class_logits.repeat(2, 1, 1), 4)
    only_masks = Weights(class_=0.0)
    alone = matched_loss(masks, [truth], ALL, only_masks)
    assert torch.allclose(matched_loss(both, [truth, nothing], ALL, only_masks), alone)


def test_no_object_weighs_a_tenth() -> None:
    """In a crop without objects the class loss is that of "no object" alone; beside an object it weighs 0.1."""
    logits, only_classes = torch.zeros(1, 2, 4), Weights(1.0, 0.0, 0.0)
    logits[0, 1, 3] = 2.0
    masks = QueryMasks(torch.full((1, 2, 8, 8), -5.0), logits, 4)
    masks.mask_logits[0, 0] = 5.0
    truth = Objects(torch.ones(1, 32, 32), torch.zeros(1, dtype=torch.int64), torch.ones(32, 32))
    entropies = -logits[0].log_softmax(-1)
    wanted = (entropies[0, 0] + 0.1 * entropies[1, 3]) / 1.1
    assert torch.allclose(matched_loss(masks, [truth], ALL, only_classes), wanted)


@pytest.mark.parametrize("count", [None, FEW, ALL])
def test_what_queries_say_of_ignored_pixels_changes_nothing(count: int | None) -> None:
    """Logits a cell away from what is known may be anything, in the fixed loss and in the matched one."""
    labels = labels_of()
    labels[:, :, 16:] = IGNORE
    found = []
    for noise in (0.0, 30.0):
        masks = answer(queries=3)
        with torch.no_grad():
            masks.mask_logits[..., 5:] += noise * torch.randn(2, 3, 8, 3, generator=torch.Generator().manual_seed(1))
        if count is None:
            found.append(seeded(fixed_loss, masks, labels))
        else:
            found.append(seeded(matched_loss, masks, [regions_of(image) for image in labels], count))
        found[-1].backward()
        assert masks.mask_logits.grad is not None
        assert masks.mask_logits.grad[..., 5:].abs().max() == 0
    assert torch.equal(*found)


def test_a_cell_that_is_known_in_part_does_not_count() -> None:
    """One unknown column of pixels silences the column of cells that it lies in."""
    labels, masks = labels_of(), answer()
    labels[:, :, 30] = IGNORE
    matched_loss(masks, [objects_of(image) for image in labels], ALL).backward()
    assert masks.mask_logits.grad is not None
    assert masks.mask_logits.grad[..., 7].abs().max() == 0
    assert masks.mask_logits.grad[..., 6].abs().max() > 0


@pytest.mark.parametrize("value", [0, IGNORE])
@pytest.mark.parametrize("count", [None, FEW, ALL])
def test_crops_without_any_truth_are_finite(count: int | None, value: int) -> None:
    """Crops of background or of nothing known give a finite loss, and gradients for every logit."""
    labels, masks = torch.full((2, 32, 32), value), answer(queries=3, aux=1)
    if count is None:
        loss = fixed_loss(masks, labels)
    else:
        loss = matched_loss(masks, [objects_of(image) for image in labels], count)
    loss.backward()
    for part in (masks, *(masks.aux or ())):
        assert part.mask_logits.grad is not None
        assert torch.isfinite(part.mask_logits.grad).all()
        assert part.class_logits.grad is not None
        assert part.class_logits.grad.abs().sum() > 0
    assert torch.isfinite(loss)


@pytest.mark.parametrize("task", ["semantic", "instance"])
@pytest.mark.parametrize("masked", [True, False])
def test_every_parameter_gets_a_gradient(make_small: MakeSmall, task: str, masked: bool) -> None:
    """Nothing in a model is left out, by either loss, with and without masks in the attention."""
    fixed = task == "semantic"
    model, batch = make_small(3 if fixed else 1, semantic=fixed).train(), draw_batch(0, instances=not fixed)
    model.masked = masked
    masks, labels = model(torch.from_numpy(batch.pixels)), torch.from_numpy(batch.labels).long()
    loss = fixed_loss(masks, labels) if fixed else matched_loss(masks, [objects_of(image) for image in labels], FEW)
    loss.backward()
    assert [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()] == []


def test_a_right_answer_costs_nothing() -> None:
    """Certain and right masks and classes bring both losses near 0."""
    labels = torch.zeros(1, 32, 32, dtype=torch.int64)
    labels[:, :, 16:] = 1
    logits = torch.full((1, 2, 16, 16), -20.0)
    logits[:, 0, :, :8] = logits[:, 1, :, 8:] = 20.0
    masks = QueryMasks(logits, 20 * torch.eye(2, 3)[None], 2)
    assert fixed_loss(masks, labels) < 1e-3
    assert matched_loss(masks, [regions_of(labels[0])], 256) < 1e-2


def test_a_wrong_class_of_a_query_costs() -> None:
    """Where each class has its query, a query that names another class is corrected, too."""
    labels = torch.zeros(1, 32, 32, dtype=torch.int64)
    masks = QueryMasks(torch.zeros(1, 2, 16, 16), 10 * torch.eye(2, 3)[None], 2)
    wrong = masks._replace(class_logits=masks.class_logits.flip(1))
    assert fixed_loss(wrong, labels) > fixed_loss(masks, labels) + 5


def test_early_predictions_count_a_part() -> None:
    """In the fixed loss a prediction before the last blocks weighs 0.4."""
    masks, labels = answer(queries=3), labels_of()
    alone = seeded(fixed_loss, masks, labels)
    assert torch.allclose(seeded(fixed_loss, masks._replace(aux=(masks, masks)), labels), 1.8 * alone)


@pytest.mark.parametrize(("stride", "allowed"), [(1, 0.1), (2, 0.1), (4, 0.3), (8, 0.5), (7, 0.7)])
def test_edges_stay_where_they_are(stride: int, allowed: float) -> None:
    """Free logits that learn edges at every column of a cell show them there on the average, at any stride."""
    size = 8 * stride
    columns = torch.arange(3 * stride, 3 * stride + max(stride, 4))
    labels = (torch.arange(size) >= columns[:, None]).long()[:, None].expand(-1, size, -1)
    logits = torch.zeros(len(columns), 2, 8, 8, requires_grad=True)
    masks = QueryMasks(logits, 9 * torch.eye(2, 3).expand(len(columns), -1, -1), stride)
    optimizer = torch.optim.Adam([logits], lr=0.1)
    torch.manual_seed(0)
    for _ in range(100):
        optimizer.zero_grad()
        fixed_loss(masks, labels).backward()
        optimizer.step()
    found = (semantic(masks, (size, size)) == 0).float().sum(2).mean(1)
    assert (found - columns).mean().abs() < allowed
