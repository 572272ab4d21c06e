"""Models with a DINOv3 encoder run, train and come back like any other; differences do with their base."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from click.testing import CliRunner, Result
from safetensors.torch import load_file, save_file
from small_dinov3 import Published, eomt_dinov3, publish_dinov3
from small_training import write_pairs

from eomt_core import EoMT, describe_model, load_model, save_model
from eomt_core.card import ModelCard
from eomt_core.encoders import create_encoder
from eomt_core.training.adapt import with_bands
from eomt_core.training.batch import Batch
from eomt_core.training.schedule import parameter_groups
from eomt_core.training.trainer import Trainer, Training
from pipeline import open_mosaic
from workflows.cli.main import cli

SMALL: dict[str, Any] = {"embed_dim": 64, "depth": 3, "num_heads": 2, "image_size": 64}
CARD = ModelCard("tiny", ("land", "water", "roof"), tasks=("semantic",))


def make() -> EoMT:
    """A model of three classes and as many queries, two of its three blocks with queries; masks off."""
    torch.manual_seed(0)
    encoder = create_encoder("vit_small_patch16_dinov3_qkvb", **SMALL)
    model = EoMT(encoder, 3, 3, num_blocks=2).eval()
    model.set_mask_probs((0.0, 0.0))
    return model


def call(*words: object) -> Result:
    """The command."""
    return CliRunner().invoke(cli, [str(word) for word in words])


@pytest.fixture
def published(tmp_path: Path) -> Published:
    """A model of seven classes as its differences, its base and the whole."""
    pytest.importorskip("transformers", reason="transformers makes the weights of this test")
    (tmp_path / "published").mkdir()
    return publish_dinov3(eomt_dinov3(), tmp_path / "published")


@pytest.fixture
def raster(tmp_path: Path) -> Path:
    """Noise of 130 x 150 pixels with a place on Earth."""
    place = Affine(1.0, 0.0, 5e5, 0.0, -1.0, 5e6)
    sizes = {"width": 150, "height": 130, "count": 3, "dtype": "uint8"}
    with rasterio.open(tmp_path / "in.tif", "w", driver="GTiff", crs="EPSG:32631", transform=place, **sizes) as file:
        file.write(np.random.default_rng(0).integers(0, 255, (3, 130, 150), dtype=np.uint8))
    return tmp_path / "in.tif"


def run(raster: Path, out: Path, *words: object) -> Result:
    """Segment it in tiles of 96 x 64 pixels, neither square nor what the model was trained at."""
    return call("run", raster, "-o", out, "--task", "semantic", "--tile-size", "96x64", "--device", "cpu", *words)


def test_files_give_the_same_answers(tmp_path: Path) -> None:
    """What is read back computes the same to the last bit, on a grid that is not the training one."""
    model, pixels = make(), torch.rand(1, 3, 64, 96)
    save_model(model, tmp_path, CARD)
    with torch.no_grad():
        assert torch.equal(load_model(tmp_path).eval()(pixels).mask_logits, model(pixels).mask_logits)


def test_a_short_training_lowers_the_loss() -> None:
    """Ten steps on one picture, with rates that fall with depth."""
    labels = np.zeros((2, 64, 64), np.int32)
    labels[:, 8:40, 8:40], labels[:, 44:, :] = 1, 2
    pixels = np.stack([(labels == value) * 0.8 + 0.1 for value in (0, 1, 2)], axis=1).astype(np.float32)
    training = Training("semantic", matched=False, deep=False, layer_decay=0.8, ema=0.0)
    trainer = Trainer(make(), training, torch.device("cpu"))
    losses = [trainer.advance(Batch(pixels, labels), 0.1) for _ in range(10)]
    assert losses[-1] < 0.9 * losses[0]


def test_rates_fall_with_depth() -> None:
    """Biases and scales of a block learn as it does, tokens and patches as the first; vectors are not decayed."""
    model = make()
    names = {id(weight): name.removeprefix("encoder.backbone.") for name, weight in model.named_parameters()}
    groups = parameter_groups(model, 1.0, 0.05, 0.5)
    rates = {names[id(weight)]: (group["lr"], group["weight_decay"]) for group in groups for weight in group["params"]}
    assert rates["blocks.1.attn.q_bias"] == rates["blocks.1.gamma_1"] == (0.5, 0.0)
    assert rates["blocks.2.attn.qkv.weight"] == (1.0, 0.05)
    assert rates["reg_token"] == rates["cls_token"] == (0.25, 0.0)
    assert rates["patch_embed.proj.weight"] == (0.25, 0.05)


def test_more_bands_come_back(tmp_path: Path) -> None:
    """Widened to five bands it is saved and loaded like any other."""
    model = with_bands(make(), 5)
    save_model(model, tmp_path, CARD)
    pixels = torch.rand(1, 5, 64, 64)
    with torch.no_grad():
        assert torch.equal(load_model(tmp_path).eval()(pixels).mask_logits, model(pixels).mask_logits)


def test_differences_run_as_the_whole_does(published: Published, raster: Path, tmp_path: Path) -> None:
    """A run with --base makes the mosaic that the whole weights make, and its card needs the option too."""
    assert run(raster, tmp_path / "whole.zarr", "-m", published.whole).exit_code == 0
    result = run(raster, tmp_path / "sum.zarr", "-m", published.differences, "--base", published.base)
    assert result.exit_code == 0, result.stderr
    sums, whole = (open_mosaic(tmp_path / f"{name}.zarr").classes[:] for name in ("sum", "whole"))
    assert np.array_equal(sums, whole)
    shown = json.loads(call("models", "show", published.differences, "--base", published.base, "--json").stdout)
    assert shown["base"] == str(published.base)


def test_without_a_base_nothing_is_started(published: Published, raster: Path, tmp_path: Path) -> None:
    """Every command that takes a model ends with exit code 2 and one line that names the base and the option."""
    labels = tmp_path / "labels"
    model = ("-m", published.differences)
    for words in (
        ("run", raster, "-o", tmp_path / "out.zarr", *model),
        ("plan", raster, *model),
        ("finetune", raster, labels, "-o", tmp_path / "tuned", *model),
        ("models", "show", published.differences),
        ("info", published.differences),
    ):
        result = call(*words)
        (line,) = result.stderr.splitlines()
        assert (result.exit_code, "a DINOv3 of width 64: give that directory with --base" in line) == (2, True), line
    assert not (tmp_path / "out.zarr").exists()


def test_differences_are_listed(published: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model of the Hugging Face cache can be used, with a base, so it is in the list."""
    snapshot = tmp_path / "cache" / "models--org--tiny" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    published.differences.rename(snapshot / "pytorch_model.bin")
    monkeypatch.setattr("huggingface_hub.utils._cache_manager.HF_HUB_CACHE", str(tmp_path / "cache"))
    (entry,) = json.loads(call("models", "list", "--json").stdout)["cached"]
    assert (entry["id"], len(entry["classes"])) == ("org/tiny", 7)


def test_another_base_is_a_changed_run(published: Published, raster: Path, tmp_path: Path) -> None:
    """A run does not go on with another base at the same place."""
    words = ("-m", published.differences, "--base", published.base)
    assert run(raster, tmp_path / "out.zarr", *words).exit_code == 0
    tensors = load_file(published.base / "model.safetensors")
    save_file(tensors | {"norm.bias": tensors["norm.bias"] + 1}, published.base / "model.safetensors")
    result = run(raster, tmp_path / "out.zarr", *words)
    assert result.exit_code == 2
    assert "begun with model sha256" in result.stderr


def tune(folder: Path, *words: object) -> Result:
    """Train for one step, into the folder `tuned`."""
    images = (folder / "images", folder / "labels", "-o", folder / "tuned")
    size = ("--steps", 1, "--batch-size", 2, "--tile-size", 32, "--precision", "fp32", "--device", "cpu", "-q")
    return call("finetune", *images, *size, "--task", "semantic", "--classes", "land,road", *words)


@pytest.mark.slow
@pytest.mark.parametrize("start", ["new:vit_small_patch16_dinov3_qkvb", "differences"])
def test_trainings_begin_with_it(published: Published, tmp_path: Path, start: str) -> None:
    """Random weights, and differences with their base, become a model of ours, which needs no base."""
    write_pairs(tmp_path)
    model = (start,) if start.startswith("new:") else (published.differences, "--base", published.base)
    result = tune(tmp_path, "-m", *model)
    assert result.exit_code == 0, result.stderr
    info = describe_model(tmp_path / "tuned")
    assert (info.architecture.rope_theta, info.architecture.num_classes, info.base) == (100, 2, None)


@pytest.mark.slow
def test_a_training_goes_on_with_a_base_that_was_moved(published: Published, tmp_path: Path) -> None:
    """The same files are the same base, wherever they lie."""
    write_pairs(tmp_path)
    assert tune(tmp_path, "-m", published.differences, "--base", published.base).exit_code == 0
    moved = published.base.rename(tmp_path / "moved")
    result = tune(tmp_path, "-m", published.differences, "--base", moved, "--resume")
    assert result.exit_code == 0, result.stderr


def test_new_models_have_no_base(tmp_path: Path) -> None:
    """What begins with random weights has no differences."""
    result = call("finetune", tmp_path, tmp_path, "-o", tmp_path / "m", "-m", "new:hybrid-tiny", "--base", tmp_path)
    assert (result.exit_code, "is for weights stored as differences" in result.stderr) == (2, True)
