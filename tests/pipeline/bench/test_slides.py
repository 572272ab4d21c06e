"""A slide of drawn images and a model that knows their colours; and one tile whose faults are put in by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from eomt_core.palette import save_palette
from pipeline.bench.slides.edges import BANDS, Faults, count, measure_edges
from pipeline.bench.slides.slide import Slide, compose, truth_of
from pipeline.bench.slides.table import ALONE, METHODS, measure_slide
from pipeline.bench.stitching.pixels import at_pixels
from pipeline.bench.stitching.table import Cut
from pipeline.config import RunConfig
from pipeline.errors import UsageError
from pipeline.stitch.queries import LOGIT_UNIT, LOGIT_ZERO, Rules, TileQueries
from pipeline.store import boxes
from pipeline.tiling import TilePlan
from pipeline.truth.pairs import Pair, find_pairs

COLOURS = ((1.0, 1.0, 1.0), (0.0, 1.0, 1.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (1.0, 1.0, 0.0))
SHOWN = COLOURS[2:]
"""The last ones: their classes are above those of things in drawn scenes, which means nothing here."""

CONFIG = {"tile_size": (64, 64), "device": "cpu"}


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Objects in six colours; black is none."""
    folder = save_palette(tmp_path_factory.mktemp("objects"), COLOURS, tile=64)
    card = json.loads((folder / "eomt_batch.json").read_text())
    card["card"] |= {"tasks": ["instance"], "things": list(range(len(COLOURS)))}
    (folder / "eomt_batch.json").write_text(json.dumps(card))
    return str(folder)


@pytest.fixture
def pairs(make_raster, tmp_path: Path) -> list[Pair]:
    """Four images of 64 x 64, each with an object of its own colour in columns 8 to 56; and a smaller one."""
    for index, colour in enumerate(SHOWN):
        image, labels = np.zeros((3, 64, 64), "uint8"), np.zeros((1, 64, 64), "uint16")
        rows = slice(24, 40) if index % 2 else slice(40, 56)
        image[:, rows, 8:56] = 255 * np.array(colour)[:, None, None]
        labels[:, rows, 8:56] = 7
        make_raster(f"images/{index}.tif", image)
        make_raster(f"labels/{index}.tif", labels)
    make_raster("images/small.tif", (3, 32, 32))
    make_raster("labels/small.tif", np.zeros((1, 32, 32), "uint16"))
    return find_pairs(str(tmp_path / "images"), str(tmp_path / "labels"))


@pytest.fixture
def slide(pairs: list[Pair], model: str) -> Slide:
    """The four as a slide."""
    return compose(pairs, model, "cpu")


def test_images_of_the_commonest_size_lie_side_by_side(slide: Slide):
    """In reading order, with ids that no two images share; the model alone finds what is there."""
    assert slide.pixels.shape == (3, 128, 128)
    assert [int(slide.truth[row, col]) for row, col in ((48, 32), (32, 96), (112, 32), (96, 96))] == [7, 14, 21, 28]
    inside = slide.alone[slide.truth > 0]
    assert np.count_nonzero(inside) == np.count_nonzero(slide.alone)
    assert len(np.unique(inside)) == 5


def test_a_slide_needs_four_images(pairs: list[Pair], model: str):
    """Of one size, the commonest or another: of three, or one, there is no square."""
    with pytest.raises(UsageError, match="3 of 4 have 64 x 64 pixels; a slide needs four or more"):
        compose(pairs[1:], model, "cpu")
    with pytest.raises(UsageError, match="1 of 5 have 32 x 32 pixels; a slide needs four or more"):
        compose(pairs, model, "cpu", (32, 32))


def test_images_of_two_pixel_types_are_refused(pairs: list[Pair], model: str, make_raster):
    """Their numbers mean different things."""
    make_raster("images/2.tif", np.ones((3, 64, 64), "uint16"))
    with pytest.raises(UsageError, match=r"2\.tif: is uint16, others are uint8"):
        compose(pairs, model, "cpu")


def test_a_perfect_model_is_perfect_tile_by_tile(slide: Slide, model: str):
    """Alone, and stitched by those who join; the moved grid changes nothing, and pasting shows its cuts."""
    found = {each.rule: each.scores for each in measure_slide(slide, ["50%"], RunConfig(model=model, **CONFIG))}
    assert list(found) == [ALONE, *METHODS]
    assert found[ALONE].rq == 100
    for rule in ("stitched", "strip IoU"):
        assert found[rule].pq > 97  # corners are rounded
        assert found[rule].shift_pq > 97
    assert found["paste"].rq < 100
    assert np.isnan(found[ALONE].shift_pq)


def test_cuts_run_through_the_images(slide: Slide, model: str):
    """The slide begins in the middle of an image: the cut between two columns of tiles crosses the two on the right."""
    first = next(iter(measure_slide(slide, ["0"], RunConfig(model=model, **CONFIG))))
    assert slide.shifted.truth.shape == (96, 96)
    assert first.scores.crossed == 50


def test_a_perfect_model_has_no_faults(slide: Slide, model: str):
    """Whatever the distance to the edge."""
    bands, faults = measure_edges(slide, RunConfig(model=model, overlap="0", **CONFIG))
    rows = list(bands.rows())
    assert [row.start for row in rows] == list(BANDS)
    assert sum(row.objects for row in rows) == faults.whole + faults.cut
    assert {row.unmatched for row in rows if row.objects} == {0}
    assert min(row.iou for row in rows if row.objects) > 0.97  # corners are rounded
    assert set(faults.rates.values()) <= {0, None}
    assert "unmatched 0.0 %" in " ".join(row.line for row in rows)


PLAN = TilePlan((64, 80), (64, 64), (48, 48), 16)
"""Two tiles; only their inner edges, after column 63 and before column 16, are edges."""


def told(*masks: tuple[slice, slice]) -> TileQueries:
    """Queries of a tile that are sure of their masks."""
    codes = np.zeros((len(masks), 64, 64), np.uint8)
    for place, code in zip(masks, codes, strict=True):
        code[place] = 255
    probs = np.tile(np.array([[1, 0]], np.float32), (len(masks), 1))
    return TileQueries(codes, probs, np.ones((64, 64), bool), boxes(codes > 0))


def faults_of(truth: dict[int, tuple[slice, slice]], *masks: tuple[slice, slice]) -> Faults:
    """The faults of the first tile, of which the second one, without data, says nothing."""
    ids = np.zeros(PLAN.shape, np.int64)
    for number, place in truth.items():
        ids[place] = number
    cut = Cut(truth_of(ids), PLAN, lambda tile: None if tile.rank else told(*masks), Rules())
    return count(cut)[1]


LEFT, RIGHT = (slice(8, 24), slice(0, 10)), (slice(8, 24), slice(10, 20))
BOTH, ELSEWHERE = (slice(8, 24), slice(0, 20)), (slice(40, 50), slice(30, 40))
ACROSS = (slice(40, 50), slice(56, 72))


def test_what_is_joined_is_counted_by_touching_pairs():
    """One segment over two that touch."""
    faults = faults_of({1: LEFT, 2: RIGHT}, BOTH)
    assert (faults.touching, faults.joined, faults.whole_missed, faults.false) == (1, 1, 0, 0)
    assert faults_of({1: LEFT, 2: RIGHT}, LEFT, RIGHT).joined == 0


def test_what_is_split_is_counted_by_objects():
    """Two segments in one object."""
    assert faults_of({1: BOTH}, LEFT, RIGHT).split == 1


def test_what_is_missed_is_counted_whole_and_in_part():
    """One object that the tile sees whole, one that its edge cuts; what is found instead is false."""
    faults = faults_of({1: LEFT, 2: ACROSS}, ELSEWHERE)
    assert (faults.whole, faults.cut, faults.whole_missed, faults.cut_missed, faults.false) == (1, 1, 1, 1, 1)
    assert faults.rates["miss"] == faults.rates["miss_cut"] == faults.rates["false"] == 1


def test_what_is_found_twice_is_counted():
    """Before the queries compete: one of the two that match the object is left over."""
    faults = faults_of({1: LEFT}, LEFT, LEFT)
    assert (faults.duplicates, faults.split, faults.false) == (1, 0, 0)


def test_a_band_is_the_distance_to_an_inner_edge():
    """Of an object whose part lies in the last four columns of the tile; the raster's border is no edge."""
    ids = np.zeros(PLAN.shape, np.int64)
    ids[8:24, 60:70], ids[:8, :8] = 1, 2
    cut = Cut(truth_of(ids), PLAN, lambda tile: None if tile.rank else told((slice(0, 8), slice(0, 8))), Rules())
    rows = list(count(cut)[0].rows())
    assert [row.objects for row in rows] == [1, 0, 0, 0, 1, 0]
    assert [row.unmatched for row in rows] == [1, None, None, None, 0, None]
    assert [row.wrong for row in rows] == [1, None, None, None, 0, None]


def test_masks_are_enlarged_as_a_model_enlarges_them():
    """To a code, as torch does; the box is that of the pixels."""
    logits = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0)).mul(2).clamp(-7.9, 7.9)
    codes = (logits * LOGIT_UNIT + LOGIT_ZERO).round()
    queries = TileQueries(
        codes[:, 0].numpy().astype(np.uint8), np.ones((3, 2), np.float32), np.ones((8, 8), bool), None
    )
    found = at_pixels(queries, 4)
    expected = torch.nn.functional.interpolate(codes, scale_factor=4, mode="bilinear", align_corners=False)
    assert np.abs(found.masks - expected[:, 0].numpy()).max() <= 0.5
    assert found.valid.shape == (32, 32)
    assert found.boxes.tolist() == [[0, 0, 32, 32]] * 3
