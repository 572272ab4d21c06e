"""From the records to the mosaic: what the model said, where it said it, in the mosaic's codes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from eomt_core import load_model
from eomt_core.card import Architecture
from eomt_core.postprocess import semantic
from eomt_core.shapes import expected_shapes
from pipeline import RunConfig, open_mosaic, segment_raster
from pipeline.errors import RunError
from pipeline.run import stitch_raster
from pipeline.spec import read_spec
from pipeline.steps.journal import Journal
from pipeline.steps.render import RenderWorker
from pipeline.stitch.sieve import small_parts
from pipeline.stitch.window import tile_weights
from pipeline.store import Store

TINY = Architecture(
    embed_dim=64, depth=3, num_heads=2, patch_size=16, image_size=(128, 128), in_channels=3, num_queries=12,
    num_classes=6, num_blocks=2, num_upscale=2, num_registers=0, cls_token=True, no_embed_class=False, swiglu=False,
    mlp_hidden=128, layer_scale=True,
)  # fmt: skip


def drawn(name, shape, generator):
    """A weight of some effect; upscaling that treats the cells of a patch alike, as training makes it, gives blobs."""
    noise = torch.rand(shape, generator=generator) - 0.5
    if "norm" in name and name.endswith("weight"):
        return 1 + noise
    if name == "q.weight":
        return 6 * noise
    weight = noise * (3 / np.prod(shape[1:]) ** 0.5 if len(shape) > 1 else 1)
    if name.endswith("conv1.weight"):
        return 2 * weight.mean((2, 3), keepdim=True).expand(shape).contiguous()
    return weight.abs() if name.endswith("conv2.weight") else weight * (8 if name == "class_head.weight" else 1)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A small EoMT with random weights, as a file."""
    generator = torch.Generator().manual_seed(5)
    state = {name: drawn(name, shape, generator) for name, shape in expected_shapes(TINY).items()}
    path = tmp_path_factory.mktemp("tiny") / "tiny.safetensors"
    save_file(state | {"attn_mask_probs": torch.zeros(TINY.num_blocks)}, path)
    return str(path)


@pytest.fixture
def smooth(make_raster):
    """`smooth(rows, cols)`: a raster of soft blotches, and its pixels as a model takes them, (1, 3, rows, cols)."""

    def make(rows, cols):
        coarse = torch.rand((1, 3, rows // 16 + 2, cols // 16 + 2), generator=torch.Generator().manual_seed(1))
        image = (F.interpolate(coarse, (rows, cols), mode="bicubic").clamp(0, 1) * 255).round().to(torch.uint8)
        return make_raster("smooth.tif", image[0].numpy()), image / 255

    return make


def run(raster, output, model, **options):
    """The classes of a run, and the plan of its tiles."""
    config = RunConfig(model=model, task="semantic", device="cpu", chunk=128, **options)
    segment_raster(raster, output, config)
    return open_mosaic(output).classes[:], read_spec(output.with_suffix(".run")).plan


def enlarge(planes, size):
    """Bilinear, (1, N, h, w) to (1, N, H, W)."""
    return F.interpolate(planes, size, mode="bilinear", align_corners=False)


@torch.inference_mode()
def whole(model, image, plan, lattice):
    """Over whole arrays in float64: blend class scores on the lattice and enlarge them, or first enlarge each query."""
    stride = 4 if lattice else 1
    height, width = plan.rows.edge, plan.cols.edge
    sums = torch.zeros((TINY.num_classes + 1, height // stride, width // stride), dtype=torch.float64)
    padded = F.pad(image, (0, width - image.shape[3], 0, height - image.shape[2]), mode="replicate")
    for tile in plan.covering(plan.raster):
        masks = model(padded[..., *tile.window.slices])
        logits = masks.mask_logits if lattice else enlarge(masks.mask_logits, plan.tile_size)
        scores = torch.einsum("qk,qhw->khw", masks.class_logits[0].softmax(-1)[:, :-1], logits[0].sigmoid())
        weights = torch.from_numpy(tile_weights(plan, tile, stride).astype(float))
        place = [slice(part.start // stride, part.stop // stride) for part in tile.window.slices]
        sums[:, *place] += torch.cat([scores, torch.ones_like(scores[:1])]) * weights
    means = enlarge((sums[:-1] / sums[-1])[None], (height, width))[0]
    return means.argmax(0).numpy()[: plan.shape[0], : plan.shape[1]]


def test_exactly_stitched_one_tile_is_what_the_model_says(tmp_path, smooth, tiny):
    """Through the store in half precision; most classes are there."""
    raster, image = smooth(256, 256)
    made, plan = run(raster, tmp_path / "out.zarr", tiny, tile_size=(256, 256), exact=True)
    with torch.inference_mode():
        expected = semantic(load_model(tiny).eval()(image), (256, 256))[0].numpy()
    assert len(plan) == 1
    assert len(np.unique(expected)) >= 4
    assert (made == expected).mean() >= 0.9999


def test_tiles_are_stitched_to_what_whole_arrays_say(tmp_path, smooth, tiny):
    """Exactly in the reference's order, by default on the lattice: integers, blocks and strips change next to nothing.

    Between the two orders lies what blending before enlarging costs, here with masks sharper than trained ones.
    """
    raster, image = smooth(200, 300)
    options = {"tile_size": (128, 128), "overlap": "32", "tile_block": 2}
    made, expected = {}, {}
    for exact in (True, False):
        made[exact], plan = run(raster, tmp_path / f"{exact}.zarr", tiny, exact=exact, **options)
        expected[exact] = whole(load_model(tiny).eval(), image, plan, lattice=not exact)
        assert (made[exact] == expected[exact]).mean() >= (0.9999 if exact else 0.999)
    assert 0.97 < (made[True] == made[False]).mean() < 1


@pytest.mark.parametrize("exact", [False, True])
def test_the_blocks_of_the_mosaic_leave_no_trace(tmp_path, smooth, tiny, exact):
    """However large its chunks are."""
    raster, _ = smooth(150, 170)
    options = {"task": "semantic", "tile_size": (96, 96), "overlap": "32", "exact": exact, "device": "cpu"}
    mosaics = []
    for chunk in (16, 50, 1024):
        output = tmp_path / f"{chunk}.zarr"
        segment_raster(raster, output, RunConfig(model=tiny, chunk=chunk, **options))
        mosaics.append((open_mosaic(output).classes[:], open_mosaic(output).confidence[:]))
    for classes, confidence in mosaics[1:]:
        assert (classes == mosaics[0][0]).all()
        assert (confidence == mosaics[0][1]).all()


@pytest.mark.parametrize("exact", [False, True])
def test_the_sieve_leaves_no_trace_of_the_blocks_either(tmp_path, smooth, tiny, exact):
    """It looks as far around a block as it must; no part is small that was not its second best."""
    raster, _ = smooth(150, 170)
    options = {"task": "semantic", "tile_size": (96, 96), "overlap": "32", "exact": exact, "device": "cpu"}
    made = {}
    for chunk, sieve in ((1024, 0), (1024, 200), (50, 200)):
        output = tmp_path / f"{chunk}-{sieve}.zarr"
        segment_raster(raster, output, RunConfig(model=tiny, chunk=chunk, sieve=sieve, **options))
        made[chunk, sieve] = open_mosaic(output).classes[:], open_mosaic(output).confidence[:]
    before, (classes, confidence), cut = made.values()
    assert (cut[0] == classes).all()
    assert (cut[1] == confidence).all()
    changed = classes != before[0]
    assert changed.any()
    assert not (changed & ~small_parts(-1 - before[0].astype(int), 200)).any()
    assert (confidence <= before[1]).all()


def test_exact_records_hold_the_logits_of_all_queries(tmp_path, smooth, tiny):
    """As float16, with their probabilities."""
    raster, image = smooth(128, 128)
    run(raster, tmp_path / "out.zarr", tiny, tile_size=(128, 128), exact=True)
    spec = read_spec(tmp_path / "out.run")
    store, tile = Store(tmp_path / "out.run" / "store", spec.plan, spec.record_layout), spec.plan.tile(0, 0)
    with torch.inference_mode():
        masks = load_model(tiny).eval()(image)
    np.testing.assert_allclose(store.masks(tile), masks.mask_logits[0].numpy(), rtol=2e-3, atol=2e-3)
    np.testing.assert_allclose(store.read("class_probs", tile), masks.class_logits[0].softmax(-1), rtol=1e-4, atol=1e-6)
    assert store.read("counts", tile).tolist() == [12]


@pytest.fixture
def worker(finished):
    """A worker at the complete run."""
    finished.again()  # which notes that the copy lies elsewhere
    return RenderWorker(read_spec(finished.folder), finished.folder)


def test_a_block_is_rendered_again_to_the_same_bytes(worker, original, digests):
    """By a task that may run twice."""
    for block in worker.spec.output_blocks:
        worker.run(block)
    assert digests(worker.mosaic.path) == digests(original.output)


def test_a_render_record_names_the_chunks_that_it_wrote(worker, finished):
    """One per array and chunk, those of nodata alone left out; together they are all the mosaic's."""
    journal, named = Journal(finished.folder), set()
    for block in worker.spec.output_blocks:
        record = journal.commit(*worker.run(block))
        assert (record.step, record.tiles) == ("render", 0)
        assert record.pixels == block.window.height * block.window.width
        named |= {(finished.folder / path).resolve() for path, _, _ in record.objects}
    chunks = {path for path in (finished.output / "0").glob("c*/*.*") if path.name[0].isdigit()}
    assert named == chunks


def test_below_the_threshold_pixels_are_unlabelled(finished):
    """Never those without data; their confidence stays."""
    before, confidence = (getattr(open_mosaic(finished.output), name)[:] for name in ("classes", "confidence"))
    stitch_raster(finished.output, score_threshold=0.9)
    refused = (confidence != 255) & (confidence < round(0.9 * 254))
    assert 0 < refused.mean() < 1
    assert (open_mosaic(finished.output).classes[:] == np.where(refused, 254, before)).all()
    assert (open_mosaic(finished.output).confidence[:] == confidence).all()


def test_a_task_of_a_run_that_was_begun_anew_writes_nothing(worker, finished, digests):
    """A worker may have been away while another run took the place."""
    before = digests(finished.output)
    late = RenderWorker(replace(worker.spec, score_threshold=0.9), finished.folder)
    with pytest.raises(RunError, match="begun anew with other options"):
        late.run(worker.spec.output_blocks[0])
    assert digests(finished.output) == before
