"""Weights in any spelling load to the same model; what is saved comes back."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from eomt_core import EoMT, ModelError, load_model, save_model
from eomt_core.card import Architecture, ModelCard
from eomt_core.checkpoint import architecture_of, to_huggingface, to_reference
from eomt_core.describe import describe_model
from eomt_core.encoders import create_encoder

Tiny = Callable[..., Architecture]
State = dict[str, Tensor]
MakeState = Callable[..., State]
CARD = ModelCard(name="tiny", classes=tuple("abcdefg"), things=(0, 3), tasks=("panoptic",), value_range=((0, 3000),))


def load(location: Path) -> EoMT:
    """Load an EoMT."""
    model = load_model(location)
    assert isinstance(model, EoMT)
    return model


def answer(model: EoMT, rows: int = 64, columns: int = 64) -> Tensor:
    """All logits for an image of noise, in one row."""
    pixels = torch.rand(1, model.encoder.in_channels, rows, columns, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        masks = model.eval()(pixels)
    return torch.cat((masks.mask_logits.flatten(), masks.class_logits.flatten()))


def assert_same_state(model: EoMT, state: State) -> None:
    """Every tensor of the model is the one of the state, bit by bit."""
    found = model.state_dict()
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], state[name]) for name in state)


@pytest.fixture(params=["plain", "behind a stem"])
def model(tiny: Tiny, with_stem: Tiny, make_state: MakeState, tmp_path: Path, request: pytest.FixtureRequest) -> EoMT:
    """A tiny model, from bare weights in our own spelling."""
    architecture = tiny() if request.param == "plain" else with_stem()
    save_file(make_state(architecture), tmp_path / "bare.safetensors")
    return load(tmp_path / "bare.safetensors")


@pytest.mark.parametrize("swiglu", [False, True])
def test_round_trips_are_exact(tiny: Tiny, make_state: MakeState, tmp_path: Path, swiglu: bool) -> None:
    """Own weights to the reference's `.bin` and to the Hugging Face port, and back, lose no bit."""
    state = make_state(tiny(swiglu=swiglu))
    torch.save(to_reference(state), tmp_path / "pytorch_model.bin")
    save_file({name: part.contiguous() for name, part in to_huggingface(state).items()}, tmp_path / "hf.safetensors")
    assert_same_state(load(tmp_path), state)
    assert_same_state(load(tmp_path / "hf.safetensors"), state)


def test_what_transformers_wrote_comes_back(huggingface_directory: Path) -> None:
    """Loaded and converted back, a directory of the port has the same tensors again, save the criterion's."""
    written = load_file(huggingface_directory / "model.safetensors")
    back = to_huggingface(load(huggingface_directory).state_dict())
    assert back.keys() == written.keys() - {"criterion.empty_weight"}
    assert all(torch.equal(back[name], written[name]) for name in back)


def test_shards_are_one_model(make_huggingface: Callable[..., Any], tmp_path: Path) -> None:
    """Weights cut into shards load as the whole file does."""
    make_huggingface().save_pretrained(tmp_path / "whole")
    make_huggingface().save_pretrained(tmp_path / "cut", max_shard_size="200KB")
    assert len(describe_model(tmp_path / "cut").weights) > 2
    whole = load(tmp_path / "whole")
    assert_same_state(load(tmp_path / "cut"), dict(whole.state_dict()))
    assert describe_model(tmp_path / "cut").architecture == describe_model(tmp_path / "whole").architecture


def test_both_giant_spellings_are_read(tiny: Tiny, make_state: MakeState, tmp_path: Path) -> None:
    """The gated MLP loads from gate, up and down, and from the older weights_in and weights_out."""
    state = make_state(tiny(swiglu=True))
    old = {name: part.contiguous() for name, part in to_huggingface(state).items() if "mlp" not in name}
    for name, tensor in state.items():
        if ".mlp." in name:
            block = (
                name.removeprefix("encoder.backbone.blocks.").replace("fc1", "weights_in").replace("fc2", "weights_out")
            )
            old[f"layers.{block}"] = tensor
    save_file(old, tmp_path / "model.safetensors")
    assert_same_state(load(tmp_path), state)


def test_lightning_checkpoints_are_read(make_state: MakeState, tmp_path: Path) -> None:
    """A training checkpoint with the optimiser, the criterion and compiled names holds the same model."""
    state = make_state()
    compiled = {f"network._orig_mod.{name}": tensor for name, tensor in state.items()}
    extra = {"criterion.empty_weight": torch.ones(8), "network.encoder.pixel_mean": torch.zeros(1, 3, 1, 1)}
    optimizer = {"state": {0: {"step": torch.tensor(1.0), "exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 1e-4}]}
    training = {"epoch": 3, "pytorch-lightning_version": "2.5", "optimizer_states": [optimizer], "callbacks": {}}
    torch.save(training | {"state_dict": compiled | extra}, tmp_path / "last.ckpt")
    assert_same_state(load(tmp_path / "last.ckpt"), state)


def test_normalisation_comes_with_the_weights(make_state: MakeState, tmp_path: Path) -> None:
    """Mean and standard deviation stored by the reference are those of the model."""
    statistics = {
        "encoder.pixel_mean": torch.full((1, 3, 1, 1), 0.25),
        "encoder.pixel_std": torch.full((1, 3, 1, 1), 0.5),
    }
    torch.save(to_reference(make_state() | statistics), tmp_path / "pytorch_model.bin")
    buffers = dict(load(tmp_path).named_buffers())
    assert buffers["encoder.pixel_mean"].flatten().tolist() == [0.25] * 3
    assert buffers["encoder.pixel_std"].flatten().tolist() == [0.5] * 3


@pytest.mark.parametrize("name", ["q.weight", "encoder.backbone.reg_token", "encoder.backbone.blocks.3.ls2.gamma"])
def test_a_bin_with_one_key_removed_is_refused(make_state: MakeState, tmp_path: Path, name: str) -> None:
    """What is missing is named as the file would call it, and never made up."""
    state = to_reference(make_state())
    del state[f"network.{name}"]
    torch.save(state, tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match=f"missing.*{name}|{name} is missing"):
        load(tmp_path)


def test_an_unexpected_tensor_is_refused(make_state: MakeState, tmp_path: Path) -> None:
    """Weights for which the model has no place are named."""
    save_file(make_state() | {"encoder.backbone.norm_pre.weight": torch.ones(64)}, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=r"1 tensor is unexpected: encoder\.backbone\.norm_pre\.weight"):
        load(tmp_path)


def test_missing_mask_probabilities_mean_no_masks(make_state: MakeState, tmp_path: Path) -> None:
    """Only the annealing buffer may be missing; masks are off then."""
    state = make_state()
    del state["attn_mask_probs"]
    save_file(state, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"num_blocks": 2}')
    assert load(tmp_path).attn_mask_probs.tolist() == [0, 0]


def test_quantised_weights_are_refused(make_state: MakeState, tmp_path: Path) -> None:
    """Integers in place of floats would load as noise."""
    state = make_state()
    state["q.weight"] = state["q.weight"].to(torch.int8)
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=r"q\.weight holds torch\.int8"):
        load(tmp_path)


def test_a_trap_in_the_data_is_not_read_another_way(make_state: MakeState, tmp_path: Path) -> None:
    """What weights-only loading refuses, though its names look harmless, is refused and not loaded otherwise."""

    class Loader:
        def __reduce__(self) -> tuple[object, ...]:
            return torch.hub.load_state_dict_from_url, ("http://127.0.0.1:9/x",)

    torch.save(make_state() | {"trap": Loader()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"weights_only|WeightsUnpickler|Unsupported"):
        load(tmp_path)


def test_own_models_come_back(model: EoMT, tmp_path: Path) -> None:
    """What was saved loads to the same weights, card and answer."""
    save_model(model, tmp_path / "own", CARD)
    info = describe_model(tmp_path / "own")
    assert (info.format, info.card, info.architecture) == ("own", CARD, architecture_of(model))
    assert torch.equal(answer(load(tmp_path / "own")), answer(model))
    assert sorted(file.name for file in (tmp_path / "own").iterdir()) == ["eomt_batch.json", "model.safetensors"]


def test_own_models_keep_what_shapes_cannot_tell(tmp_path: Path) -> None:
    """Heads of 16, a training size of 32 x 48, five bands and an encoder without class token survive a save."""
    encoder = create_encoder(
        "vit_tiny_patch16_224",
        image_size=(32, 48),
        in_channels=5,
        embed_dim=48,
        num_heads=3,
        depth=2,
        class_token=False,
        global_pool="",
    )
    model = EoMT(encoder, num_classes=7, num_q=4, num_blocks=1)
    save_model(model, tmp_path, replace(CARD, mean=(0.5,) * 5, std=(0.5,) * 5))
    assert describe_model(tmp_path).architecture.image_size == (32, 48)
    assert torch.equal(answer(load(tmp_path)), answer(model))


def test_saving_in_half_precision(model: EoMT, tmp_path: Path) -> None:
    """Half precision halves the file, and reads back as float32 that is near."""
    model.set_mask_probs((0.9, 0.3))
    save_model(model, tmp_path / "full", CARD)
    save_model(model, tmp_path / "half", CARD, dtype=torch.float16)
    full, half = (load(tmp_path / name) for name in ("full", "half"))
    assert {weight.dtype for weight in half.state_dict().values()} == {torch.float32}
    assert torch.equal(half.attn_mask_probs, full.attn_mask_probs)
    torch.testing.assert_close(half.q.weight, full.q.weight, rtol=1e-3, atol=1e-6)
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("full", "half")]
    assert sizes[1] < 0.6 * sizes[0]


def test_weights_beyond_half_precision_are_not_saved(model: EoMT, tmp_path: Path) -> None:
    """An overflow is an error that names the tensor, and what was saved before stays."""
    save_model(model, tmp_path / "own", CARD)
    before = describe_model(tmp_path / "own").sha256()
    with torch.no_grad():
        model.q.weight[0, 0] = 1e5
    with pytest.raises(ModelError, match=r"q\.weight is not finite"):
        save_model(model, tmp_path / "own", CARD, dtype=torch.float16)
    assert describe_model(tmp_path / "own").sha256() == before


def test_an_interrupted_save_leaves_the_old_model(model: EoMT, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk fails in the middle, the model that was there is still whole, and nothing else is left."""
    save_model(model, tmp_path / "own", CARD)
    before = describe_model(tmp_path / "own").sha256()

    def fail(handle: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="no space"):
        save_model(model, tmp_path / "own", replace(CARD, name="other"))
    assert describe_model(tmp_path / "own").sha256() == before
    assert len(list((tmp_path / "own").iterdir())) == 2


def test_the_saved_card_tells_the_models_statistics(make_state: MakeState, tmp_path: Path) -> None:
    """Mean and standard deviation on a saved card are what the model does, not what the caller believed."""
    save_file(make_state(), tmp_path / "model.safetensors")
    save_model(load(tmp_path), tmp_path / "own", replace(CARD, mean=(0.0,) * 3))
    assert describe_model(tmp_path / "own").card.mean == (0.485, 0.456, 0.406)


def test_a_card_for_other_weights_is_refused(model: EoMT, tmp_path: Path) -> None:
    """Six names do not fit seven classes, in saving and in loading."""
    with pytest.raises(ModelError, match="names 6 classes, the weights have 7"):
        save_model(model, tmp_path, replace(CARD, classes=tuple("abcdef")))
    save_model(model, tmp_path, CARD)
    content = json.loads((tmp_path / "eomt_batch.json").read_text())
    content["card"]["classes"].pop()
    (tmp_path / "eomt_batch.json").write_text(json.dumps(content))
    with pytest.raises(ModelError, match="names 6 classes"):
        load(tmp_path)


def test_encoders_that_shapes_do_not_describe_are_not_saved(tmp_path: Path) -> None:
    """A ViT with another activation has the same tensors, but would come back as another function: refused."""
    encoder = create_encoder(
        "vit_tiny_patch16_224", image_size=64, embed_dim=64, num_heads=1, depth=2, act_layer=nn.ReLU
    )
    model = EoMT(encoder, 7, 4, 1)
    with pytest.raises(ModelError, match="computes other features"):
        save_model(model, tmp_path, CARD)


def test_the_hash_is_of_the_files_not_of_their_place(model: EoMT, tmp_path: Path) -> None:
    """A copy has the same hash; another card or another weight has another."""
    save_model(model, tmp_path / "a", CARD)
    save_model(model, tmp_path / "b", CARD)
    save_model(model, tmp_path / "c", replace(CARD, pixel_size=2.0))
    first, copy, other = (describe_model(tmp_path / name).sha256() for name in "abc")
    assert first == copy != other
    with torch.no_grad():
        model.q.weight[0, 0] += 1
    save_model(model, tmp_path / "b", CARD)
    assert describe_model(tmp_path / "b").sha256() != first


def test_loading_draws_no_random_numbers(model: EoMT, tmp_path: Path) -> None:
    """A seed set before loading means the same after it."""
    save_model(model, tmp_path, CARD)
    torch.manual_seed(7)
    wanted = torch.rand(3)
    torch.manual_seed(7)
    load(tmp_path)
    assert torch.equal(torch.rand(3), wanted)


def test_loaded_models_train(model: EoMT) -> None:
    """Every parameter takes a gradient, and none is shared with the file."""
    output = model.train()(torch.rand(1, 3, 64, 64))
    (output.mask_logits.mean() + output.class_logits.mean()).backward()
    assert all(weight.requires_grad for weight in model.parameters())
    gradients = {name: weight.grad for name, weight in model.named_parameters()}
    assert gradients["q.weight"].abs().sum() > 0
    assert gradients["encoder.backbone.pos_embed"].abs().sum() > 0
