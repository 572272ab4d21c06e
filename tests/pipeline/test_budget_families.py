"""The bill of a tile: what grows with it is known for maps of several strides, too."""

from pathlib import Path

import numpy as np
import pytest
import torch

from eomt_core import save_model
from eomt_core.card import ModelCard
from eomt_core.family import PRESETS
from eomt_core.recipes import new_model
from pipeline import budget
from pipeline.bench.encoders.growth import cost_of_forward
from pipeline.config import RunConfig
from pipeline.prepare import prepare

pytest.importorskip("vit_pytorch", reason="the extra vit-pytorch is not installed")

ALIKE = {"scalable-tiny-joint", "scalable-tiny-conv", "simple-vit", "vit-pytorch-raw", "vit-pytorch-cross"}
NAMES = [pytest.param(name, marks=pytest.mark.again if name in ALIKE else ()) for name in PRESETS]
CARD = ModelCard("any", tuple("abcde"), tasks=("semantic",))


def save_new(name: str, folder: Path) -> Path:
    """An untrained model of five classes."""
    torch.manual_seed(0)
    model = new_model(name, 5, semantic=True)
    model.set_mask_probs((0.0,) * model.num_blocks)
    save_model(model, folder, CARD)
    return folder


def billed_tile(raster: Path, model: Path, side: int) -> float:
    """Bytes that one tile more in a batch adds to the bill, with what the allocator keeps."""
    spec = prepare(str(raster), Path("out.zarr"), RunConfig(model=str(model), tile_size=(side, side)))
    one, two = (
        budget.bill(spec, batch_size=count, readers=1, workers=0, threads=1, cuda=False).inference for count in (8, 9)
    )
    return budget.SLACK * (two - one)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_tile_takes_what_is_billed(name: str, make_raster, tmp_path: Path) -> None:
    """At two sizes: at most the bill with the process's scratch space, and not far less than the bill."""
    raster = make_raster("in.tif", np.zeros((3, 1100, 1100), "uint8"))
    model = save_new(name, tmp_path / "model")
    for side in (512, 640 if name == "scalable-vit" else 1024):
        billed, (_, taken) = billed_tile(raster, model, side), cost_of_forward(model, side, repeats=1)
        print(f"{name} {side}: {taken / 1e6:.0f} MB taken, {billed / 1e6:.0f} MB billed")
        assert taken <= billed + budget.SCRATCH
        assert billed <= 2.5 * taken


def test_attention_is_billed_by_the_cells_it_sees(make_raster, tmp_path: Path) -> None:
    """Twice the side is four times the cells, and four times the keys for each: the scores outgrow the rest."""
    raster = make_raster("in.tif", np.zeros((3, 2100, 2100), "uint8"))
    model = save_new("scalable-tiny", tmp_path / "model")
    assert billed_tile(raster, model, 2048) > 10 * billed_tile(raster, model, 1024)
