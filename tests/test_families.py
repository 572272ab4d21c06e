"""Models of the families come back from their files as they were, or not at all; rasters and trainings take them."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from click.testing import CliRunner, Result
from safetensors.torch import load_file, save_file
from small_training import write_pairs

from eomt_core import ModelError, describe_model, load_model, save_model
from eomt_core.card import ModelCard
from eomt_core.catalogue import NAMES
from eomt_core.cost import cost_of
from eomt_core.family import PRESETS
from eomt_core.mask_transformer import MaskTransformer
from eomt_core.recipes import new_model
from eomt_core.training.adapt import with_classes
from eomt_core.training.batch import Batch
from eomt_core.training.trainer import Trainer, Training
from pipeline import RunConfig, open_mosaic, segment_raster
from pipeline.errors import UsageError
from workflows.cli.main import cli

pytest.importorskip("vit_pytorch", reason="the extra vit-pytorch is not installed")

SMALL = [name for name in PRESETS if name != "scalable-vit"]
CARD = ModelCard("tiny", ("land", "water", "roof"), tasks=("semantic",))


def make(name: str) -> MaskTransformer:
    """A model of three classes and as many queries, trained at 64 pixels, its masks off."""
    torch.manual_seed(0)
    model = new_model(name, 3, semantic=True, image_size=64).eval()
    model.set_mask_probs((0.0,) * model.num_blocks)
    return model


def draw_raster(path: Path) -> Path:
    """Noise of 130 x 150 pixels with a place on Earth."""
    place = Affine(1.0, 0.0, 5e5, 0.0, -1.0, 5e6)
    sizes = {"width": 150, "height": 130, "count": 3, "dtype": "uint8"}
    with rasterio.open(path, "w", driver="GTiff", crs="EPSG:32631", transform=place, **sizes) as raster:
        raster.write(np.random.default_rng(0).integers(0, 255, (3, 130, 150), dtype=np.uint8))
    return path


@pytest.fixture(params=SMALL)
def model(request: pytest.FixtureRequest) -> MaskTransformer:
    """Each family, and each way of its queries."""
    return make(request.param)


def test_files_give_the_same_answers(model: MaskTransformer, tmp_path: Path) -> None:
    """What is read back computes the same to the last bit; the card carries the family."""
    save_model(model, tmp_path / "model", CARD)
    read, pixels = load_model(tmp_path / "model").eval(), torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        assert torch.equal(read(pixels).mask_logits, model(pixels).mask_logits)
    assert describe_model(tmp_path / "model").architecture.family == model.family.family


def test_what_is_written_is_what_the_card_says(model: MaskTransformer, tmp_path: Path) -> None:
    """Stride and lattice are known without building: they are the model's own."""
    save_model(model, tmp_path / "model", CARD)
    known = describe_model(tmp_path / "model").architecture
    assert (known.stride, known.min_multiple) == (model.stride, model.min_multiple)


def test_incomplete_or_renamed_weights_are_refused(tmp_path: Path) -> None:
    """A lost tensor is found when the files are described, a renamed one when they are loaded."""
    save_model(make("simple-vit"), tmp_path / "model", CARD)
    file = tmp_path / "model" / "model.safetensors"
    whole = load_file(file)
    save_file({name: tensor for name, tensor in whole.items() if name != "q.weight"}, file, metadata={"format": "pt"})
    with pytest.raises(ModelError, match="numbers, its card says"):
        describe_model(tmp_path / "model")
    save_file({name.replace("q.weight", "p.weight"): t for name, t in whole.items()}, file, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"not those of its card.*q\.weight"):
        load_model(tmp_path / "model")


def test_other_classes_keep_what_is_known(model: MaskTransformer) -> None:
    """Classes are dropped and added by name, with the queries that are theirs."""
    wider = with_classes(model, CARD.classes, ("roof", "land", "road", "tree"), one_each=True)
    assert wider.eval()(torch.rand(1, 3, 64, 64)).class_logits.shape == (1, 4, 5)


def test_a_short_training_lowers_the_loss(model: MaskTransformer) -> None:
    """The one training of this project trains every family, with rates that fall with depth."""
    labels = np.zeros((2, 64, 64), np.int32)
    labels[:, 8:40, 8:40], labels[:, 44:, :] = 1, 2
    pixels = np.stack([(labels == value) * 0.8 + 0.1 for value in (0, 1, 2)], axis=1).astype(np.float32)
    training = Training("semantic", matched=False, deep=False, layer_decay=0.8, ema=0.0)
    trainer = Trainer(model, training, torch.device("cpu"))
    losses = [trainer.advance(Batch(pixels, labels), 0.1) for _ in range(10)]
    assert losses[-1] < 0.9 * losses[0]


def test_a_raster_goes_through(model: MaskTransformer, tmp_path: Path) -> None:
    """A raster of several tiles becomes a mosaic, on lattices of 16 and 32 pixels and masks at stride 4."""
    save_model(model, tmp_path / "model", CARD)
    config = RunConfig(model=str(tmp_path / "model"), overlap="32")
    segment_raster(draw_raster(tmp_path / "in.tif"), tmp_path / "out.zarr", config)
    classes = open_mosaic(tmp_path / "out.zarr").classes[:]
    assert classes.shape == (130, 150)
    assert set(np.unique(classes)) <= {0, 1, 2, 254}


def test_costs_are_those_of_the_models() -> None:
    """Parameters and FLOPs are counted without weights; attention is in them, so joint costs more than conv."""
    joint, conv = cost_of("scalable-tiny-joint"), cost_of("scalable-tiny-conv")
    made = new_model("scalable-tiny-conv", 1, semantic=False)
    assert conv.parameters == sum(weight.numel() for weight in made.parameters())
    assert joint.flops > conv.flops > 1e9
    assert 256 in conv.sides
    assert 736 not in conv.sides


def test_a_tile_without_windows_is_refused_before_a_run(tmp_path: Path) -> None:
    """736 pixels are on the lattice of 32 but have no windows: the run's plan says so, with sizes that do."""
    save_model(make("scalable-tiny"), tmp_path / "model", CARD)
    config = RunConfig(model=str(tmp_path / "model"), tile_size=(736, 736))
    with pytest.raises(UsageError, match=r"--tile-size: tile size 736x736.*704x704"):
        segment_raster(draw_raster(tmp_path / "in.tif"), tmp_path / "out.zarr", config)
    assert not (tmp_path / "out.zarr").exists()


@pytest.fixture
def without_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where vit-pytorch is not installed."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "vit_pytorch"]:
        monkeypatch.setitem(sys.modules, name, None)


def call(*words: object) -> Result:
    """The command."""
    return CliRunner().invoke(cli, [str(word) for word in words])


@pytest.mark.usefixtures("without_extra")
def test_a_missing_extra_stops_a_training_before_it_begins(tmp_path: Path) -> None:
    """One line says what to install, with the exit code of a model that will not do."""
    write_pairs(tmp_path)
    words = (tmp_path / "images", tmp_path / "labels", "-o", tmp_path / "made", "-m", "new:simple-vit", "--steps", 1)
    result = call("finetune", *words, "--device", "cpu")
    (line,) = result.stderr.splitlines()
    assert (result.exit_code, "needs the extra vit-pytorch: pip install '.[vit-pytorch]'" in line) == (2, True), line


def test_a_missing_extra_stops_a_run_before_it_begins(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Likewise for a model that is there already, whose files can still be described."""
    save_model(make("simple-vit"), tmp_path / "model", CARD)
    request.getfixturevalue("without_extra")
    result = call("run", draw_raster(tmp_path / "in.tif"), "-m", tmp_path / "model", "-o", tmp_path / "out.zarr")
    (line,) = result.stderr.splitlines()
    assert (result.exit_code, "needs the extra vit-pytorch: pip install '.[vit-pytorch]'" in line) == (2, True), line
    assert not (tmp_path / "out.zarr").exists()
    assert call("models", "show", tmp_path / "model").exit_code == 0


@pytest.mark.usefixtures("without_extra")
def test_without_the_extra_the_other_models_are_listed() -> None:
    """`models new` says of each model of the extra that it is missing, and what the others take."""
    result = call("models", "new", "--json")
    assert result.exit_code == 0
    entries = {entry["name"]: entry for entry in json.loads(result.stdout)}
    assert {name for name, entry in entries.items() if "needs the extra" in entry.get("missing", "")} == set(PRESETS)
    assert set(entries) == set(NAMES)
