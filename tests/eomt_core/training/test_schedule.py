"""Rates and mask probabilities follow the progress of a training."""

from collections.abc import Callable

import pytest
import torch

from eomt_core import EoMT
from eomt_core.encoders import create_encoder
from eomt_core.training.schedule import FLOOR, Schedule, mask_probs, parameter_groups

MakeSmall = Callable[..., EoMT]

STEPS = 88692
"""Of the reference's COCO trainings, whose annealing begins and ends at these steps."""

STARTS = {
    3: (14782, 36955, 59128),
    4: (14782, 29564, 44346, 59128),
    5: (14782, 25868.5, 36955, 48041.5, 59128),
}


def test_rates_rise_and_fall() -> None:
    """From 0 to the whole rate in the warm-up, then down to a hundredth, never up again."""
    schedule = Schedule(warmup=0.1)
    factors = [schedule.factor(step / 100, encoder=False) for step in range(101)]
    assert factors[0] == 0
    assert factors[5] == pytest.approx(0.5, abs=0.01)
    assert factors[:11] == sorted(factors[:11])
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert max(factors) == pytest.approx(1, abs=0.03)
    assert factors[-1] == pytest.approx(FLOOR)


def test_without_a_warm_up_rates_begin_whole() -> None:
    """A warm-up of 0 is none."""
    assert Schedule(warmup=0.0).factor(0.0, encoder=True) == 1


def test_the_encoder_waits() -> None:
    """In the first stage new parameters rise and the encoder stands; in the second it rises, for as long."""
    schedule = Schedule(warmup=0.1, encoder_from=0.1)
    assert [schedule.factor(share, encoder=True) for share in (0.0, 0.05, 0.1)] == [0, 0, 0]
    assert schedule.factor(0.05, encoder=False) == pytest.approx(0.5, abs=0.01)
    assert schedule.factor(0.15, encoder=True) == pytest.approx(schedule.factor(0.15, encoder=False) / 2)
    for share in (0.2, 0.5, 1.0):
        assert schedule.factor(share, encoder=True) == pytest.approx(schedule.factor(share, encoder=False))


@pytest.mark.parametrize("blocks", [3, 4, 5])
def test_masks_fade_as_in_the_reference(blocks: int) -> None:
    """Block for block the probability is the reference's at every step: 1, then (1 - t)^0.9 for a sixth, then 0."""
    for step in range(0, STEPS, 997):
        wanted = [(1 - min(1, max(0, (step - start) / 14782))) ** 0.9 for start in STARTS[blocks]]
        assert mask_probs(step / STEPS, blocks) == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("blocks", [1, 2, 3, 6])
def test_masks_fade_one_after_the_other(blocks: int) -> None:
    """All are whole for the first sixth and gone for the last; no block is ahead of one before it."""
    assert set(mask_probs(1 / 6, blocks)) == {1.0}
    assert mask_probs(5 / 6, blocks) == pytest.approx([0] * blocks, abs=1e-9)
    assert set(mask_probs(0.9, blocks)) == {0.0}
    for share in (0.2, 0.4, 0.6, 0.8):
        probs = mask_probs(share, blocks)
        assert list(probs) == sorted(probs)


def rates(model: EoMT, layer_decay: float = 0.5) -> dict[str, tuple[float, bool, float]]:
    """Rate, whether it is the encoder's, and decay of every parameter, at a rate of 1 and a decay of 0.05."""
    found = {}
    names = {id(weight): name for name, weight in model.named_parameters()}
    for group in parameter_groups(model, 1.0, 0.05, layer_decay):
        assert group["lr"] == group["base_lr"]
        for weight in group["params"]:
            assert names[id(weight)] not in found
            found[names[id(weight)]] = (group["lr"], group["encoder"], group["weight_decay"])
    return found


def test_deeper_blocks_learn_faster(make_small: MakeSmall) -> None:
    """Each of 3 blocks has half the rate of the next, embeddings that of the first, new parameters the whole."""
    found = {name: (lr, encoder) for name, (lr, encoder, _) in rates(make_small()).items()}
    prefix = "encoder.backbone."
    for block, rate in enumerate((0.25, 0.5, 1.0)):
        assert found[f"{prefix}blocks.{block}.attn.qkv.weight"] == (rate, True)
    assert found[f"{prefix}pos_embed"] == (0.25, True)
    assert found[f"{prefix}patch_embed.proj.layers.0.conv.weight"] == (0.25, True)
    assert found[f"{prefix}norm.weight"] == (1.0, True)
    assert {found[name] for name in found if not name.startswith(prefix)} == {(1.0, False)}


def test_every_parameter_is_in_one_group(make_small: MakeSmall) -> None:
    """None is lost; one that is frozen stays out."""
    model = make_small()
    assert rates(model).keys() == dict(model.named_parameters()).keys()
    model.q.requires_grad_(False)
    assert rates(model).keys() == dict(model.named_parameters()).keys() - {"q.weight"}


def test_vectors_and_positions_are_not_decayed() -> None:
    """Weight decay is for matrices and kernels: not for biases, norms, positions, tokens or queries."""
    torch.manual_seed(0)
    model = EoMT(create_encoder("deit_tiny_distilled_patch16_224", image_size=32), 2, 2, 4)
    weights = dict(model.named_parameters())
    spared = {name for name, (_, _, decay) in rates(model).items() if decay == 0}
    tables = {f"encoder.backbone.{name}" for name in ("pos_embed", "cls_token", "dist_token")} | {"q.weight"}
    assert spared == tables | {name for name, weight in weights.items() if weight.ndim == 1}
