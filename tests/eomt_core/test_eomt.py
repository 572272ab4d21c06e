"""The mask transformer does what the paper says, at any tile size."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from small_eomt import BLOCKS, CLASSES, DEPTH, PREFIX, QUERIES, make_image, make_model, run

from eomt_core import EoMT, ModelError

# Mask and class logits of `make_model` on `make_image(2, 3)`, computed in float64.
GOLDEN_MASKS = [0.26581, -0.66865, -0.57327, -1.99854, 0.23741, -0.67188]
GOLDEN_MASKS += [-0.5604, -1.94063, 0.2835, -0.65101, -0.62577, -2.09042]
GOLDEN_CLASSES = [1.11552, 1.17298, 0.21587, -0.25032]


def predict_independently(model: Any, pixels: torch.Tensor, masked: tuple[bool, ...]) -> list[torch.Tensor]:
    """Compute the mask logits before each query block and at the end, with boolean masks and no shared code."""
    vit, first = model.encoder.backbone, DEPTH - len(masked)
    h, w = pixels.shape[2] // 16, pixels.shape[3] // 16
    x = vit.norm_pre(vit._pos_embed(vit.patch_embed((pixels - model.encoder.pixel_mean) / model.encoder.pixel_std)))
    for block in vit.blocks[:first]:
        x = block(x)
    x = torch.cat([model.q.weight[None].repeat(len(x), 1, 1), x], 1)
    found = []
    for i in range(len(masked) + 1):
        y = vit.norm(x)
        maps = model.upscale(y[:, QUERIES + PREFIX :].permute(0, 2, 1).reshape(len(x), -1, h, w))
        found.append((model.mask_head(y[:, :QUERIES])[..., None, None] * maps[:, None]).sum(2))
        if i == len(masked):
            return found
        visible = torch.ones(len(x), 2, x.shape[1], x.shape[1], dtype=torch.bool)
        if masked[i]:
            cells = F.interpolate(found[-1], (h, w), mode="bilinear").reshape(len(x), 1, QUERIES, h * w)
            visible[:, :, :QUERIES, QUERIES + PREFIX :] = cells > 0
        x = vit.blocks[first + i](x, attn_mask=visible)
    raise AssertionError("unreachable")


def test_golden_logits():
    """The logits of a fixed model are what they were when this test was written."""
    found = run(make_model(), make_image(2, 3))
    assert found.mask_logits[0, :, ::4, ::6].flatten()[:12].tolist() == pytest.approx(GOLDEN_MASKS, abs=1e-4)
    assert found.class_logits[0, 0].tolist() == pytest.approx(GOLDEN_CLASSES, abs=1e-4)


@pytest.mark.parametrize(("patch", "stride", "doublings"), [(4, 2, 1), (8, 4, 1), (14, 7, 1), (16, 4, 2), (32, 4, 3)])
def test_stride_follows_the_patch(patch, stride, doublings):
    """The stride is patch / 2^n, never taken to be 4; the lattice is the patch, never taken to be 16."""
    model = make_model(patch)
    found = run(model, torch.rand(1, 3, 2 * patch, 3 * patch))
    assert (model.stride, model.min_multiple, found.stride, len(model.upscale)) == (stride, patch, stride, doublings)
    assert found.mask_logits.shape == (1, QUERIES, 2 * patch // stride, 3 * patch // stride)


@given(rows=st.integers(1, 6), columns=st.integers(1, 6), batch=st.integers(1, 2))
@settings(deadline=None, max_examples=15)
def test_any_tile_size(rows, columns, batch):
    """Tiles of any number of patches give masks of their own shape, equal to an independent computation."""
    model, pixels = make_model(), make_image(rows, columns, batch)
    found = run(model, pixels)
    assert found.class_logits.shape == (batch, QUERIES, CLASSES + 1)
    with torch.no_grad():
        wanted = predict_independently(model, pixels, (False,) * BLOCKS)[-1]
    assert torch.allclose(found.mask_logits, wanted, atol=1e-4)


def test_shape_decides_and_not_the_count_of_patches():
    """80 x 320 pixels are not read as the 160 x 160 that have as many patches."""
    wide, square = run(make_model(), make_image(5, 20)), run(make_model(), make_image(10, 10))
    assert (wide.mask_logits.shape[2:], square.mask_logits.shape[2:]) == ((20, 80), (40, 40))
    read_as_square = wide.mask_logits.reshape(1, QUERIES, 40, 40)
    assert (read_as_square - square.mask_logits).abs().max() > 0.1


def test_a_patch_is_answered_in_its_own_cell():
    """With attention and 3 x 3 neighbours silenced, patch (1, 3) decides the mask cells of patch (1, 3) alone."""
    model, pixels = make_model(), make_image(3, 4)
    with torch.no_grad():
        for block in model.encoder.backbone.blocks:
            block.attn.proj.weight.zero_()
        for block in model.upscale:
            block.conv2.weight[:] = F.pad(block.conv2.weight[..., 1:2, 1:2], (1, 1, 1, 1))
    changed = pixels.clone()
    changed[:, :, 16:32, 48:64] *= 0.5
    moved = (run(model, changed).mask_logits - run(model, pixels).mask_logits).abs().sum(dim=(0, 1))
    by_patch = moved.reshape(3, 4, 4, 4).sum(dim=(1, 3))
    assert by_patch.nonzero().tolist() == [[1, 3]]


def test_names_are_those_of_the_published_weights():
    """Outside the backbone a weight file holds exactly the published names."""
    heads = [f"mask_head.{i}.{kind}" for i in (0, 2, 4) for kind in ("weight", "bias")]
    parts = ("conv1.weight", "conv1.bias", "conv2.weight", "norm.weight", "norm.bias")
    blocks = [f"upscale.{j}.{part}" for j in (0, 1) for part in parts]
    wanted = {"attn_mask_probs", "q.weight", "class_head.weight", "class_head.bias", *heads, *blocks}
    names = make_model().state_dict()
    assert {name for name in names if not name.startswith("encoder.backbone.")} == wanted


@pytest.mark.parametrize("probs", [None, (1.0, 1.0, 1.0)])
def test_permuted_queries_permute_the_answers(probs):
    """Queries are a set: their order is the order of the answers and changes nothing else."""
    model, pixels, order = make_model(probs=probs), make_image(2, 3), torch.tensor([3, 0, 4, 1, 2])
    before = run(model, pixels)
    with torch.no_grad():
        model.q.weight.copy_(model.q.weight[order])
    after = run(model, pixels)
    assert torch.allclose(after.mask_logits, before.mask_logits[:, order], atol=1e-4)
    assert torch.allclose(after.class_logits, before.class_logits[:, order], atol=1e-4)


def record_blocks(model: Any) -> list[tuple[torch.Tensor, torch.Tensor | None]]:
    """Record what every block of the encoder is given: tokens and mask."""
    seen: list = []
    run_block = model.encoder.run_block

    def recorded(index, tokens, attn_mask=None, rotation=None):
        seen.append((tokens.detach(), attn_mask))
        return run_block(index, tokens, attn_mask, rotation)

    model.encoder.run_block = recorded
    return seen


@pytest.mark.parametrize("num_blocks", [1, 3, DEPTH])
def test_queries_join_before_the_last_blocks(num_blocks):
    """The first blocks see patches and prefix alone, as without queries; the last ones see the queries in front."""
    model, pixels = make_model(num_blocks=num_blocks), make_image(2, 3)
    seen, first = record_blocks(model), DEPTH - num_blocks
    run(model, pixels)
    with torch.no_grad():
        alone = model.encoder.embed(pixels).tokens
        for block in model.encoder.backbone.blocks[:first]:
            alone = block(alone)
    joined = seen[first][0]
    assert [tokens.shape[1] for tokens, _ in seen] == [PREFIX + 6] * first + [QUERIES + PREFIX + 6] * num_blocks
    assert torch.equal(joined[0, :QUERIES], model.q.weight)
    assert torch.allclose(joined[:, QUERIES:], alone, atol=1e-6)


def test_inference_predicts_once_and_unmasked():
    """With annealed probabilities no block is masked and no intermediate prediction is computed."""
    model, norms = make_model(probs=(0.0, -1.0, 0.0)), []
    seen = record_blocks(model)
    model.encoder.backbone.norm.register_forward_hook(lambda *_: norms.append(1))
    found = run(model, make_image(2, 3))
    assert ([mask for _, mask in seen], len(norms), found.aux) == ([None] * DEPTH, 1, None)


def test_switched_off_masks_change_nothing_more():
    """The switch `masked` and probabilities of 0 are the same function, to the last bit."""
    pixels = make_image(2, 3)
    annealed = run(make_model(), pixels)
    switched = run(make_model(probs=(1.0, 1.0, 1.0), masked=False), pixels)
    masked = run(make_model(probs=(1.0, 1.0, 1.0)), pixels)
    assert torch.equal(annealed.mask_logits, switched.mask_logits)
    assert (annealed.mask_logits - masked.mask_logits).abs().max() > 0.01


@pytest.mark.parametrize("probs", [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (1.0, 0.0, 1.0), (0.3, 1.0, 1.0)])
def test_a_block_is_masked_by_its_own_probability(probs):
    """In evaluation block i is masked iff its probability is above 0, by fresh masks, never an earlier block's."""
    model, pixels = make_model(probs=probs), make_image(3, 4, batch=2)
    with torch.no_grad():
        wanted = predict_independently(model, pixels, tuple(prob > 0 for prob in probs))[-1]
    assert torch.allclose(run(model, pixels).mask_logits, wanted, atol=3e-5)


def test_empty_masks_leave_finite_answers():
    """A query whose mask is empty still sees the queries and the prefix."""
    model = make_model(probs=(1.0, 1.0, 1.0))
    with torch.no_grad():
        model.mask_head[4].weight.zero_()
        model.mask_head[4].bias.zero_()
    found = run(model, make_image(2, 3))
    assert torch.isfinite(found.class_logits).all()


def test_training_supervises_every_block():
    """Training returns the prediction before each query block too, from the tokens that entered it."""
    model, pixels = make_model(probs=(1.0, 1.0, 1.0)).train(), make_image(2, 3)
    found = model(pixels)
    wanted = predict_independently(model, pixels, (True,) * BLOCKS)
    assert len(found.aux) == BLOCKS
    assert all(prediction.aux is None and prediction.stride == 4 for prediction in found.aux)
    for prediction, logits in zip((*found.aux, found), wanted, strict=True):
        assert torch.allclose(prediction.mask_logits, logits, atol=1e-4)


def test_training_drops_masks_at_random():
    """A block of probability 0.25 masks about a quarter of the queries, each wholly or not at all."""
    model = make_model(probs=(0.25, 1.0, 0.0)).train()
    with torch.no_grad():
        model.mask_head[4].weight.zero_()
        model.mask_head[4].bias.zero_()
    seen = record_blocks(model)
    torch.manual_seed(0)
    model(make_image(1, 2, batch=80))
    quarter, every, none = (mask for _, mask in seen[1:])
    hidden = quarter[:, 0, :QUERIES, QUERIES + PREFIX :].isneginf()
    assert torch.equal(hidden.any(2), hidden.all(2))
    assert 0.15 < hidden.any(2).float().mean() < 0.35
    assert every[:, 0, :QUERIES, QUERIES + PREFIX :].isneginf().all()
    assert none is None


def test_only_queries_and_only_patches_are_masked():
    """Patches and prefix see everything, and queries see each other and the prefix, whatever the masks say."""
    model = make_model(probs=(1.0, 1.0, 1.0))
    seen = record_blocks(model)
    run(model, make_image(2, 3))
    for _, mask in seen[1:]:
        assert mask.shape == (1, 1, QUERIES + PREFIX + 6, QUERIES + PREFIX + 6)
        assert mask[:, :, QUERIES:].eq(0).all()
        assert mask[..., : QUERIES + PREFIX].eq(0).all()


def test_gradients_reach_every_parameter():
    """No weight is left out of training, with masks on."""
    model = make_model(probs=(1.0, 0.5, 0.0)).train()
    found = model(make_image(2, 3, batch=2))
    sum(p.mask_logits.square().mean() + p.class_logits.square().mean() for p in (*found.aux, found)).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


def test_training_then_evaluating_uses_the_trained_positions():
    """Positions remembered before a training step are not used after it."""
    model, pixels = make_model(), make_image(3, 4)
    before = run(model, pixels)
    with torch.no_grad():
        model.encoder.backbone.pos_embed.mul_(-1)
    after = run(model, pixels)
    wanted = predict_independently(model, pixels, (False,) * BLOCKS)[-1]
    assert torch.allclose(after.mask_logits, wanted, atol=1e-4)
    assert not torch.allclose(after.mask_logits, before.mask_logits, atol=1e-2)


@pytest.mark.parametrize("assign", [False, True])
def test_probabilities_come_with_the_weights(assign):
    """Loading weights loads their mask probabilities, and they take effect."""
    source, target, pixels = make_model(probs=(1.0, 0.0, 0.0)), make_model(), make_image(2, 3)
    target.load_state_dict(source.state_dict(), assign=assign)
    assert torch.equal(run(target, pixels).mask_logits, run(source, pixels).mask_logits)
    assert not torch.equal(run(target, pixels).mask_logits, run(make_model(), pixels).mask_logits)


def test_probabilities_are_saved():
    """What the annealing sets is what a weight file holds."""
    model = make_model(probs=(0.25, 0.5, -1.0))
    assert model.state_dict()["attn_mask_probs"].tolist() == [0.25, 0.5, -1.0]
    with pytest.raises(ModelError, match="one probability per query block: 3, got 2"):
        model.set_mask_probs([1.0, 1.0])


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"num_blocks": 0}, "num_blocks must be 1 to 4, the encoder's depth, got 0"),
        ({"num_blocks": 5}, "got 5"),
        ({"num_classes": 0}, "at least one class"),
        ({"num_q": 0}, "at least one class and one query, got 3 and 0"),
        ({"num_upscale": 5}, "num_upscale 5 does not fit patches of 16"),
    ],
)
def test_numbers_that_make_no_model_are_refused(numbers, message):
    """A model is refused when it is made, with the number and its bounds."""
    encoder = make_model().encoder
    with pytest.raises(ModelError, match=message):
        EoMT(encoder, **{"num_classes": 3, "num_q": 5, "num_blocks": 3, **numbers})


def test_compiles_in_one_graph():
    """The forward has no break for a compiler: nothing in it asks the device a question."""
    model, pixels = make_model(), make_image(2, 3)
    with torch.no_grad():
        found = torch.compile(model, fullgraph=True, backend="eager")(pixels)
    assert torch.allclose(found.mask_logits, run(model, pixels).mask_logits, atol=1e-5)
