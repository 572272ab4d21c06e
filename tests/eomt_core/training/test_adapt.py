"""A trained model takes more bands and other classes, and keeps what it can."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from eomt_core import EoMT, ModelError, load_model, save_model
from eomt_core.card import ModelCard
from eomt_core.encoders import create_encoder
from eomt_core.encoders.timm_vit import TimmViT
from eomt_core.training.adapt import with_bands, with_classes

MakeSmall = Callable[..., EoMT]
MakeModel = Callable[..., EoMT]


@pytest.fixture(params=["plain", "behind a stem"])
def model(request: pytest.FixtureRequest, make_small: MakeSmall) -> EoMT:
    """A model of 9 queries for 3 classes in evaluation, without masks."""
    if request.param == "plain":
        torch.manual_seed(0)
        encoder = create_encoder("vit_tiny_patch16_224", image_size=32, embed_dim=32, depth=2, num_heads=2)
        made = EoMT(TimmViT(encoder.backbone, mean=(0.1, 0.2, 0.6), std=(0.1, 0.2, 0.3)), 3, num_q=9, num_blocks=1)
    else:
        made = make_small(semantic=False, mean=(0.1, 0.2, 0.6), std=(0.1, 0.2, 0.3))
    made.set_mask_probs((0.0,) * made.num_blocks)
    return made.eval()


def answer(model: EoMT, pixels: Tensor) -> Tensor:
    """All logits in one row."""
    with torch.no_grad():
        masks = model(pixels)
    return torch.cat((masks.mask_logits.flatten(), masks.class_logits.flatten()))


def noise(bands: int) -> Tensor:
    """Pixels in [0, 1]."""
    return torch.rand(2, bands, 32, 48, generator=torch.Generator().manual_seed(0))


def copies(model: EoMT) -> dict[str, Tensor]:
    """Copies of all tensors."""
    return {name: part.clone() for name, part in model.state_dict().items()}


def first_kernel(model: EoMT) -> Tensor:
    """The weights that see the bands."""
    names = [name for name, _ in model.named_parameters() if "patch_embed.proj" in name and name.endswith("weight")]
    return model.get_parameter(next((name for name in names if "layers.0.conv" in name), names[0]))


def test_average_bands_change_nothing(model: EoMT) -> None:
    """New bands at their expected value, the mean of the old means, say nothing: the answer is the old one."""
    pixels = noise(3)
    before = answer(model, pixels)
    more = torch.full((2, 2, 32, 48), (0.1 + 0.2 + 0.6) / 3)
    wide = with_bands(model, 5)
    assert torch.allclose(answer(wide, torch.cat([pixels, more], dim=1)), before, atol=1e-5)
    assert not torch.allclose(answer(wide, noise(5)), before, atol=1e-3)


def test_new_kernels_are_the_mean_of_the_old(model: EoMT) -> None:
    """Old bands keep their kernels, mean and spread, bit for bit; new ones start in the middle of them."""
    old = first_kernel(model).detach().clone()
    wide = with_bands(model, 5)
    new = first_kernel(wide).detach()
    assert torch.equal(new[:, :3], old)
    for band in (3, 4):
        torch.testing.assert_close(new[:, band], old.mean(1))
    assert isinstance(wide.encoder, TimmViT)
    assert wide.encoder.pixel_mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.6, 0.3, 0.3])
    assert wide.encoder.pixel_std.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3, 0.2, 0.2])
    assert first_kernel(wide).requires_grad


def test_wide_models_come_back(model: EoMT, tmp_path: Path) -> None:
    """A model that was widened is saved and loaded as any other."""
    wide = with_bands(model, 4)
    save_model(wide, tmp_path, ModelCard("wide", ("a", "b", "c"), mean=(0.0,) * 4, std=(1.0,) * 4))
    back = load_model(tmp_path)
    assert isinstance(back, EoMT)
    assert torch.equal(answer(back.eval(), noise(4)), answer(wide, noise(4)))


def test_fewer_bands_are_refused(model: EoMT) -> None:
    """A model that has learned three bands does not do with two; as many change nothing."""
    before = copies(model)
    with pytest.raises(ModelError, match="takes 3 bands, got 2"):
        with_bands(model, 2)
    assert with_bands(model, 3) is model
    assert all(torch.equal(part, before[name]) for name, part in model.state_dict().items())


def test_other_classes_drop_the_class_head_alone(model: EoMT) -> None:
    """Every other tensor stays bit for bit, and the model answers for the new number of classes."""
    before = copies(model)
    after = with_classes(model, "abc", "wxyzv", one_each=False).state_dict()
    assert after.keys() == before.keys()
    assert {name for name in before if not torch.equal(after[name], before[name])} == {
        "class_head.weight",
        "class_head.bias",
    }
    with torch.no_grad():
        assert model(noise(3)).class_logits.shape == (2, 9, 6)
    assert (model.num_classes, model.num_q) == (5, 9)


def test_classes_of_the_same_name_keep_their_row(model: EoMT) -> None:
    """So does "no object", the last row."""
    old = {name: part.clone() for name, part in model.class_head.state_dict().items()}
    new = with_classes(model, "abc", "cxa", one_each=False).class_head.state_dict()
    for name in ("weight", "bias"):
        assert torch.equal(new[name][[0, 2, 3]], old[name][[2, 0, 3]])
        assert not torch.equal(new[name][1], old[name][1])


def test_the_same_classes_change_nothing(model: EoMT) -> None:
    """Names in the same order leave the head as it is."""
    before = copies(model)
    after = with_classes(model, ["a", "b", "c"], ("a", "b", "c"), one_each=False).state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_a_class_keeps_its_query(make_small: MakeSmall) -> None:
    """With one query per class, queries go with their classes; a new one starts near the mean of all."""
    model = make_small()
    old = copies(model)
    new = with_classes(model, "abc", "cxya", one_each=True)
    assert (new.num_q, new.num_classes, new.q.weight.shape) == (4, 4, (4, 32))
    assert torch.equal(new.q.weight[[0, 3]], old["q.weight"][[2, 0]])
    mean, spread = old["q.weight"].mean(0), old["q.weight"].std()
    assert (new.q.weight[[1, 2]] - mean).std() < 0.2 * spread
    assert not torch.equal(new.q.weight[1], new.q.weight[2])
    changed = {name for name, part in new.state_dict().items() if not torch.equal(part, old[name])}
    assert changed == {"q.weight", "class_head.weight", "class_head.bias"}
    assert new(noise(3)).mask_logits.shape[1] == 4


def test_queries_that_compete_are_kept_however_many(make_small: MakeSmall) -> None:
    """Three queries for three classes need not be one for each."""
    model = make_small()
    old = copies(model)["q.weight"]
    new = with_classes(model, "abc", "cxya", one_each=False)
    assert (new.num_q, new.num_classes) == (3, 4)
    assert torch.equal(new.q.weight, old)
