"""On a CUDA device: all ways to run make the same bytes, and one that is really full halves the batch."""

import pytest
import torch

from eomt_core import save_model
from eomt_core.card import ModelCard
from eomt_core.untrained import untrained_eomt
from pipeline import RunConfig, segment_raster
from pipeline.run import status
from pipeline.steps.journal import Journal

pytestmark = pytest.mark.gpu
DEVICE = "cuda"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """An EoMT of 5 classes without training."""
    folder = tmp_path_factory.mktemp("model")
    card = ModelCard("untrained", tuple("abcde"), tasks=("semantic",))
    save_model(untrained_eomt(torch.rand(2, 3, 512, 512), 5), folder / "m", card)
    return str(folder / "m")


@pytest.fixture
def run(make_raster, model, tmp_path):
    """`run(name, **options)`: segment a raster of four tile blocks on the device; the mosaic's path."""
    raster = make_raster("in.tif", (3, 800, 800), "EPSG:32633")

    def segment(name, **options):
        config = RunConfig(**{"model": model, "tile_block": 1, "device": DEVICE, "batch_size": 1, **options})
        segment_raster(raster, tmp_path / f"{name}.zarr", config)
        return tmp_path / f"{name}.zarr"

    return segment


def test_workers_and_a_scheduler_equal_the_process(run, fleet, digests):
    """Each with the model on the GPU, in processes of their own."""
    expected = digests(run("alone"))
    assert digests(run("workers", workers=1)) == expected
    with fleet("scheduler") as others:
        assert digests(run("scheduler", **others.options)) == expected


def test_a_full_device_halves_the_batch(run):
    """What others hold of it is not ours to free; the run goes on with what there is."""
    torch.cuda.init()
    free, _ = torch.cuda.mem_get_info()
    held = torch.empty(free - 2**30, dtype=torch.uint8, device=DEVICE)
    try:
        made = run("full", batch_size=1024)
    finally:
        del held
        torch.cuda.empty_cache()
    spec = Journal.of(made).spec()
    used = [record.batch_size for record in Journal.of(made).records("infer", spec.infer_fingerprint)]
    assert len(used) == 4
    assert 1 <= max(used) < 1024
    assert status(made).complete
