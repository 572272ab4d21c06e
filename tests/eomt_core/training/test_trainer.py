"""A training goes step by step: rates, masks and the average follow, and the loss falls."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from small_truth import draw_batch
from torch import Tensor

from eomt_core import EoMT, QueryMasks
from eomt_core.postprocess import semantic
from eomt_core.training.schedule import Schedule
from eomt_core.training.trainer import Trainer, Training

MakeSmall = Callable[..., EoMT]
MakeTrainer = Callable[..., Trainer]
CPU = torch.device("cpu")


@pytest.fixture
def make_trainer(make_small: MakeSmall) -> MakeTrainer:
    """Put a small model in training, for classes of one query each or for objects."""

    def make(task: str = "semantic", **options: Any) -> Trainer:
        fixed = task == "semantic"
        model = make_small(3 if fixed else 1, semantic=fixed)
        return Trainer(model, Training(task, not fixed, **{"lr": 2e-3, "points": 64, **options}), CPU)

    return make


def advance(trainer: Trainer, steps: int, of: int = 20) -> list[float]:
    """Go some steps of a training of so many."""
    instances = trainer.training.task == "instance"
    first = trainer.step
    return [
        trainer.advance(draw_batch(step, 2, instances=instances), step / of) for step in range(first, first + steps)
    ]


def weights(model: EoMT, encoder: bool) -> list[Tensor]:
    """Copies of the parameters inside or outside of the encoder."""
    return [part.detach().clone() for name, part in model.named_parameters() if name.startswith("encoder.") == encoder]


def changed(before: list[Tensor], after: list[Tensor]) -> list[bool]:
    """Which of the tensors differ."""
    return [not torch.equal(old, new) for old, new in zip(before, after, strict=True)]


def test_the_encoder_stands_still_in_the_first_stage(make_trainer: MakeTrainer) -> None:
    """While new parameters warm up no weight of the encoder changes; afterwards all of them do."""
    trainer = make_trainer(schedule=Schedule(warmup=0.1, encoder_from=0.2))
    encoder, heads = weights(trainer.model, True), weights(trainer.model, False)
    advance(trainer, 4)
    assert not any(changed(encoder, weights(trainer.model, True)))
    assert all(changed(heads, weights(trainer.model, False)))
    advance(trainer, 3)
    assert all(changed(encoder, weights(trainer.model, True)))


def test_layer_decay_reaches_the_optimiser(make_trainer: MakeTrainer) -> None:
    """Rates in a step are the base rates times the schedule's factor."""
    trainer = make_trainer(layer_decay=0.5, lr=1e-2, schedule=Schedule(warmup=0.1))
    advance(trainer, 2)
    factor = Schedule(warmup=0.1).factor(1 / 20, encoder=True)
    found = {round(group["lr"] / (1e-2 * factor), 6) for group in trainer.optimizer.param_groups}
    assert found == {0.25, 0.5, 1.0}


def test_masks_fade_with_progress(make_trainer: MakeTrainer) -> None:
    """A masked training begins with all masks and ends without any; an unmasked one never has one."""
    masked, unmasked = make_trainer("instance", masked=True), make_trainer("instance")
    found = []
    for share in (0.0, 0.5, 1.0):
        masked.advance(draw_batch(0, 1, instances=True), share)
        found.append([round(prob, 3) for prob in masked.model.attn_mask_probs.tolist()])
    assert found == [[1, 1], [0, 1], [0, 0]]
    unmasked.advance(draw_batch(0, 1, instances=True), 0.0)
    assert unmasked.model.attn_mask_probs.tolist() == [0, 0]


@pytest.mark.parametrize("task", ["semantic", "instance"])
@pytest.mark.parametrize(("deep", "early"), [(False, 1), (True, 2)])
def test_predictions_that_are_supervised(make_trainer: MakeTrainer, task: str, deep: bool, early: int) -> None:
    """Predictions are supervised before each of the 2 last blocks, or before the first of them alone."""
    found = make_trainer(task, deep=deep).model(torch.from_numpy(draw_batch(0, 1).pixels))
    assert isinstance(found, QueryMasks)
    assert len(found.aux or ()) == early


def test_the_average_follows(make_trainer: MakeTrainer) -> None:
    """After every step it keeps its share of itself, less in the first steps, running statistics included."""
    trainer = make_trainer(ema=0.4)
    wanted = {name: part.clone() for name, part in trainer.model.state_dict().items()}
    for step in range(1, 6):
        advance(trainer, 1)
        keep = min(0.4, (1 + step) / (10 + step))
        for name, part in trainer.model.state_dict().items():
            wanted[name] = keep * wanted[name] + (1 - keep) * part
    found = trainer.average.model.state_dict()
    assert any("running_var" in name for name in found)
    for name, part in wanted.items():
        torch.testing.assert_close(found[name], part, rtol=1e-4, atol=1e-6)


def test_without_an_average_the_model_itself_is_kept(make_trainer: MakeTrainer) -> None:
    """A share of 0 copies every weight."""
    trainer = make_trainer(ema=0.0)
    advance(trainer, 2)
    found, wanted = trainer.average.model.state_dict(), trainer.model.state_dict()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_the_average_is_looked_at_without_masks(make_trainer: MakeTrainer) -> None:
    """What is kept will be used without masked attention, so it answers without it while the training still masks."""
    trainer = make_trainer("instance", masked=True)
    advance(trainer, 2)
    model, pixels = trainer.average.model, torch.from_numpy(draw_batch(9, 1).pixels)
    with torch.no_grad():
        found = model(pixels).mask_logits
        model.set_mask_probs((0.0, 0.0))
        assert torch.equal(model(pixels).mask_logits, found)
    assert trainer.model.masked
    assert trainer.model.attn_mask_probs.tolist() == [1, 1]
    assert not any(weight.requires_grad for weight in model.parameters())


def test_steps_can_be_repeated(make_trainer: MakeTrainer) -> None:
    """What is drawn in a step depends on the seed and the step, not on what was drawn before."""
    losses = []
    for before in (0, 1):
        trainer = make_trainer("instance", masked=True)
        torch.manual_seed(before)
        losses.append(advance(trainer, 3))
    assert losses[0] == losses[1]
    assert advance(make_trainer("instance", masked=True, seed=1), 3) != losses[0]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("task", ["semantic", "instance"])
def test_half_precision(make_trainer: MakeTrainer, task: str, precision: str) -> None:
    """A forward in half precision, masks and all, gives about the loss of a whole one, and weights stay float32."""
    half, whole = make_trainer(task, masked=True, precision=precision), make_trainer(task, masked=True)
    assert advance(half, 2) == pytest.approx(advance(whole, 2), rel=0.05)
    assert {weight.dtype for weight in half.model.parameters()} == {torch.float32}
    assert all(torch.isfinite(weight).all() for weight in half.model.parameters())


def test_a_step_that_overflows_is_left_out(make_trainer: MakeTrainer) -> None:
    """In half precision gradients are scaled up; where they overflow the step is skipped and the scale reduced."""
    trainer = make_trainer(precision="fp16", schedule=Schedule(warmup=0.0))
    before, scale = weights(trainer.model, False), trainer.scaler.get_scale()
    trainer.model.class_head.weight.register_hook(lambda gradient: gradient * torch.inf)
    advance(trainer, 1)
    assert not any(changed(before, weights(trainer.model, False)))
    assert trainer.scaler.get_scale() < scale


@pytest.mark.parametrize("size", [24, 40])
def test_crops_of_other_sizes(make_trainer: MakeTrainer, size: int) -> None:
    """Crops need not have the size that positions are made for."""
    trainer = make_trainer()
    trainer.advance(draw_batch(0, 2, size), 0.5)
    assert trainer.step == 1


def test_queries_that_fill_no_grid_are_trained_without_homes(make_small: MakeSmall) -> None:
    """With 5 queries a step at home is a step as any other."""

    def loss(at_home: bool) -> float:
        model = EoMT(make_small().encoder, 1, num_q=5, num_blocks=2, num_upscale=2)
        trainer = Trainer(model, Training("instance", True, at_home=at_home, points=64), CPU)
        return trainer.advance(draw_batch(0, 2, instances=True), 0.5)

    assert loss(True) == loss(False)


@pytest.mark.slow
def test_classes_are_learned(make_trainer: MakeTrainer) -> None:
    """In 80 steps on discs and squares the loss falls to a third, and most pixels of other crops are right."""
    trainer = make_trainer(lr=4e-3, ema=0.9)
    losses = advance(trainer, 80, of=80)
    assert sum(losses[-10:]) < sum(losses[:10]) / 3
    batch = draw_batch(1000, 8)
    found = semantic(trainer.average.model(torch.from_numpy(batch.pixels)), (32, 32)).numpy()
    assert (found == batch.labels).mean() > 0.9
    assert (found == batch.labels)[batch.labels > 0].mean() > 0.75


@pytest.mark.slow
@pytest.mark.parametrize("masked", [True, False])
def test_objects_are_learned(make_trainer: MakeTrainer, masked: bool) -> None:
    """In 100 steps the loss of queries that compete for discs and squares falls by a third, masked or not."""
    trainer = make_trainer("instance", masked=masked, lr=4e-3)
    losses = advance(trainer, 100, of=100)
    assert sum(losses[-10:]) < sum(losses[:10]) / 1.5
