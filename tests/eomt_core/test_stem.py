"""A convolutional stem makes the patches, and its finer maps reach the masks."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from eomt_core import EoMT, ModelError
from eomt_core.encoders.stem import BatchNorm, Stem, statistics_kept
from eomt_core.encoders.timm_vit import TimmViT
from eomt_core.errors import TileSizeError

MakeSmall = Callable[..., EoMT]


def noise(*shape: int) -> Tensor:
    """The same pixels in [0, 1] for the same shape."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(1))


def statistics(model: EoMT) -> dict[str, Tensor]:
    """Copies of the running statistics."""
    return {name: buffer.clone() for name, buffer in model.named_buffers() if "running" in name}


def test_maps_halve_from_one_to_the_next() -> None:
    """Two layers give maps at strides 2 and 4, finest first, and patches at stride 8; the grid need not be square."""
    maps = Stem(3, (5, 7), 11).maps(noise(1, 3, 16, 40))
    assert [tuple(part.shape) for part in maps] == [(1, 5, 8, 20), (1, 7, 4, 10), (1, 11, 2, 5)]


def test_stride_and_lattice(make_small: MakeSmall) -> None:
    """Patches are 2^(n+1) pixels for n layers; each finer map that is added halves the stride of the masks."""
    model = make_small()
    assert (model.min_multiple, model.stride) == (8, 2)
    assert EoMT(model.encoder, 3, num_q=3, num_blocks=2, num_upscale=1).stride == 4


@pytest.mark.parametrize("size", [(8, 8), (32, 32), (24, 56)])
def test_tiles_of_any_size_on_the_lattice(make_small: MakeSmall, size: tuple[int, int]) -> None:
    """Features and masks come at any multiple of 8, and the adapter computes what the backbone computes."""
    model = make_small().eval()
    assert isinstance(model.encoder, TimmViT)
    model.encoder.self_test()
    assert model.encoder.features(noise(1, 3, *size)).shape == (1, size[0] * size[1] // 64, 32)
    assert model(noise(2, 3, *size)).mask_logits.shape == (2, 3, size[0] // 2, size[1] // 2)


def test_tiles_off_the_lattice_are_refused(make_small: MakeSmall) -> None:
    """20 pixels are no multiple of 8."""
    with pytest.raises(TileSizeError, match="multiples of 8"):
        make_small()(noise(1, 3, 16, 20))


@pytest.mark.parametrize("index", [0, 1])
def test_the_stems_maps_reach_the_masks(make_small: MakeSmall, index: int) -> None:
    """Without one of the finer maps the masks are others, while classes, which only tokens decide, stay."""
    model, pixels = make_small().eval(), noise(1, 3, 32, 32)
    model.masked = False  # with masks in its attention a query's class depends on its mask
    with torch.no_grad():
        whole = model(pixels)
        model.get_parameter(f"upscale.skips.{index}.weight").zero_()
        without = model(pixels)
    assert torch.equal(without.class_logits, whole.class_logits)
    assert (without.mask_logits - whole.mask_logits).abs().max() > 0.01


def test_masks_follow_a_pixel_at_their_own_stride(make_small: MakeSmall) -> None:
    """With the tokens silenced, a change of one pixel stays within a few cells of that pixel: the maps lie right."""
    model, pixels = make_small().eval(), noise(1, 3, 64, 64)
    changed = pixels.clone()
    changed[..., 40, 22] = 1 - changed[..., 40, 22]
    with torch.no_grad():
        for kind in ("weight", "bias"):
            model.get_parameter(f"upscale.patches.{kind}").zero_()
        # Queries see the patches too; where all have the same mask, the maps alone can differ.
        model.get_parameter("mask_head.4.weight").zero_()
        moved = (model(changed).mask_logits - model(pixels).mask_logits).abs().sum((0, 1))
    rows, cols = moved.nonzero().T
    assert abs(rows.float().mean() - 40 / 2) < 1.5
    assert abs(cols.float().mean() - 22 / 2) < 1.5
    assert max(rows.max() - rows.min(), cols.max() - cols.min()) < 12


def test_batches_are_not_counted(make_small: MakeSmall) -> None:
    """A model's file holds floats only: batch norms keep no count, in loading neither."""
    model = make_small()
    names = list(model.state_dict())
    assert not [name for name in names if name.endswith("num_batches_tracked")]
    assert sum(name.endswith("running_var") for name in names) == 4
    model.load_state_dict(model.state_dict(), strict=True)
    model.train()(noise(2, 3, 32, 32))
    assert list(model.state_dict()) == names


def test_kept_statistics_stay_as_they_are() -> None:
    """A batch norm in training normalises by its batch all the same, and afterwards follows batches again."""
    norm, maps = BatchNorm(2).train(), 3 * noise(4, 2, 5, 5)
    with statistics_kept(norm):
        kept = norm(maps)
    assert norm.running_mean is not None
    assert norm.running_mean.tolist() == [0, 0]
    assert torch.equal(norm(maps), kept)
    assert norm.running_mean.min() > 0.1


def test_running_statistics_are_of_the_last_prediction(make_small: MakeSmall) -> None:
    """Early predictions, which only training makes, do not move what inference normalises by."""
    several, single = make_small().train(), make_small().train()
    single.masked, single.aux_blocks = False, ()
    several.masked = False
    found, alone = several(noise(2, 3, 32, 32)), single(noise(2, 3, 32, 32))
    assert (len(found.aux), len(alone.aux)) == (2, 0)
    assert torch.equal(found.mask_logits, alone.mask_logits)
    wanted = statistics(single)
    assert all(torch.equal(part, wanted[name]) for name, part in statistics(several).items())


@pytest.mark.parametrize("num_upscale", [0, 3])
def test_doublings_without_a_map_are_refused(make_small: MakeSmall, num_upscale: int) -> None:
    """There are as many doublings as maps of the stem, and at least one."""
    with pytest.raises(ModelError, match="num_upscale must be 1 to 2, the maps of the stem"):
        EoMT(make_small().encoder, 3, num_q=3, num_blocks=2, num_upscale=num_upscale)
