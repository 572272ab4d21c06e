"""Post-processing of one tile, against the rules written as loops and against transformers' EoMT."""

from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from eomt_core import QueryMasks
from eomt_core.postprocess import Instances, fold_scores, instance, paint, panoptic, semantic, semantic_scores
from eomt_core.postprocess.strips import enlarged_rows, enlarged_strips

assert_equal = partial(torch.testing.assert_close, rtol=0, atol=0)
NONE = 6
STUFF = {0, 1}
SIZE = (83, 107)
sides = st.integers(1, 40)


def voronoi(seed: int, cells: tuple[int, int] = (21, 27), stride: int = 4, queries: int = 16) -> QueryMasks:
    """Two images of regions around random centres; some queries double another, some are unsure, some are none."""
    rng = torch.Generator().manual_seed(seed)
    rows, columns = torch.meshgrid(*(torch.arange(float(side)) for side in cells), indexing="ij")
    centres = torch.rand(2, queries, 2, generator=rng) * torch.tensor(cells)
    centres[:, -3:] = centres[:, :3] + torch.rand(2, 3, 2, generator=rng) * 2
    distance = torch.cdist(centres, torch.stack([rows.flatten(), columns.flatten()], -1))
    first, second = distance.topk(2, dim=1, largest=False).values.unbind(1)
    rival = torch.where(distance == first[:, None], second[:, None], first[:, None])
    logits = (rival - distance + 0.7) * 3 + torch.randn(distance.shape, generator=rng)
    classes = torch.randint(0, NONE + 1, (2, queries), generator=rng)
    sureness = torch.rand(2, queries, 1, generator=rng) * 8
    class_logits = F.one_hot(classes, NONE + 1) * sureness + torch.randn(2, queries, NONE + 1, generator=rng) / 2
    return QueryMasks(logits.unflatten(2, cells), class_logits, stride)


def one_image(masks: list[list[float]], probs: list[list[float]]) -> QueryMasks:
    """One image a single pixel high, at stride 1, from mask logits and class probabilities per query."""
    return QueryMasks(torch.tensor(masks)[None, :, None], torch.tensor(probs)[None].log(), 1)


def enlarge(mask_logits: Tensor, size: tuple[int, int]) -> Tensor:
    """The whole of every mask at once, as (B, Q, H, W)."""
    return F.interpolate(mask_logits.float(), size=size, mode="bilinear", align_corners=False)


def panoptic_by_loops(masks: QueryMasks, image: int, size: tuple[int, int]) -> tuple[Tensor, list[tuple[Any, ...]]]:
    """The panoptic rules one query at a time, on masks that are all enlarged before any is dropped."""
    scores, classes = masks.class_logits[image].softmax(-1).max(-1)
    probs = enlarge(masks.mask_logits[image : image + 1], size)[0].sigmoid()
    kept = [q for q in range(len(scores)) if classes[q] != NONE and scores[q] > 0.8]
    winner = torch.tensor(kept)[torch.stack([scores[q] * probs[q] for q in kept]).argmax(0)]
    ids = torch.full(size, -1)
    segments: list[tuple[Any, ...]] = []
    index_of: dict[Any, int] = {}
    for q in kept:
        wins, claims, class_id = winner == q, probs[q] >= 0.5, int(classes[q])
        if not (wins & claims).any() or int(wins.sum()) / int(claims.sum()) < 0.8:
            continue
        index = index_of.setdefault(class_id if class_id in STUFF else ("thing", q), len(segments))
        if index == len(segments):
            segments.append((index, class_id, 0.0, 0))
        ids[wins & claims] = index
        _, _, score, area = segments[index]
        segments[index] = (index, class_id, max(score, float(scores[q])), area + int((wins & claims).sum()))
    return ids, segments


def instances_by_loops(masks: QueryMasks, image: int, size: tuple[int, int], top_k: int) -> list[tuple[Any, ...]]:
    """The instance rules one pair of query and class at a time: (score, query, class, mask), best first."""
    probs = masks.class_logits[image].softmax(-1)[:, :-1]
    pairs = sorted(((float(p), q, k) for q, row in enumerate(probs) for k, p in enumerate(row)), key=lambda x: -x[0])
    found = []
    for prob, query, class_id in pairs[:top_k]:
        logits = enlarge(masks.mask_logits[image : image + 1, query : query + 1], size)[0, 0]
        inside = logits > 0
        quality = float(logits[inside].sigmoid().mean()) if inside.any() else 0.0
        found.append((prob * quality, query, class_id, inside))
    return sorted(found, key=lambda x: -x[0])


@pytest.fixture
def thin_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    """Strips of a row or a few, so that these small scenes are cut at all."""
    monkeypatch.setattr("eomt_core.postprocess.strips.STRIP_BYTES_CPU", 40_000)


@pytest.fixture(scope="module")
def processor() -> Any:
    """Transformers' image processor; its rules are the reference's up to a ratio that equals the threshold."""
    eomt = pytest.importorskip("transformers.models.eomt.image_processing_eomt", reason="transformers is the oracle")
    return eomt.EomtImageProcessor()


@settings(deadline=None)
@given(sides, sides, sides, sides, st.data())
def test_enlarged_rows_are_those_of_the_whole(h: int, w: int, height: int, width: int, data: st.DataObject) -> None:
    """Any rows of any enlargement or reduction are the rows that interpolating everything gives."""
    start = data.draw(st.integers(0, height - 1))
    stop = data.draw(st.integers(start + 1, height))
    logits = torch.randn(2, 3, h, w, generator=torch.Generator().manual_seed(h * w))
    rows = enlarged_rows(logits, (height, width), range(start, stop))
    expected = enlarge(logits, (height, width))[:, :, start:stop].permute(0, 2, 3, 1)
    torch.testing.assert_close(rows, expected, rtol=0, atol=5e-5)


def test_strips_stay_within_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """No strip of enlarged masks takes more bytes than it may, and together they cover every row once."""
    monkeypatch.setattr("eomt_core.postprocess.strips.STRIP_BYTES_CPU", 30_000)
    strips = list(enlarged_strips(torch.zeros(2, 5, 20, 25), (80, 100)))
    assert max(logits.numel() * 4 for _, logits in strips) <= 30_000
    assert [row for rows, _ in strips for row in rows] == list(range(80))


def test_fold_is_the_sum_over_queries() -> None:
    """A cell's score is the sum of class probability times mask probability over the queries, and may pass 1."""
    masks = voronoi(0, cells=(3, 4))
    probs, mask_probs = masks.class_logits.softmax(-1), masks.mask_logits.sigmoid()
    expected = torch.zeros(2, NONE, 3, 4)
    for query in range(masks.mask_logits.shape[1]):
        for class_id in range(NONE):
            expected[:, class_id] += probs[:, query, class_id, None, None] * mask_probs[:, query]
    torch.testing.assert_close(fold_scores(masks), expected)
    assert expected.max() > 1


@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float16])
def test_half_precision_counts_in_float32(stored: torch.dtype) -> None:
    """Logits of half precision are widened first, and a surrounding autocast does not narrow the sums."""
    masks = voronoi(1)
    half = masks._replace(mask_logits=masks.mask_logits.to(stored), class_logits=masks.class_logits.to(stored))
    wide = half._replace(mask_logits=half.mask_logits.float(), class_logits=half.class_logits.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        folded, scores = fold_scores(half), semantic_scores(half, SIZE)
    assert torch.equal(folded, fold_scores(wide))
    assert torch.equal(scores, semantic_scores(wide, SIZE))
    assert folded.dtype == scores.dtype == torch.float32


def test_nothing_keeps_the_graph() -> None:
    """Scores of logits that require gradients carry none, so that strips do not pile up in memory."""
    masks = voronoi(0)
    masks.mask_logits.requires_grad_()
    assert not any(scores.requires_grad for scores in (fold_scores(masks), semantic_scores(masks, SIZE)))


@pytest.mark.parametrize(("stride", "size"), [(4, (83, 107)), (7, (147, 185)), (8, (168, 211)), (16, (335, 431))])
@pytest.mark.usefixtures("thin_strips")
def test_semantic_by_strips_equals_the_whole(stride: int, size: tuple[int, int]) -> None:
    """Not one pixel differs from the whole-image order where more than rounding decides, at any stride and size."""
    masks = voronoi(stride, stride=stride)
    probs = masks.class_logits.softmax(-1)[..., :-1]
    whole = torch.einsum("bqk,bqhw->bkhw", probs, enlarge(masks.mask_logits, size).sigmoid())
    best, runner_up = whole.topk(2, dim=1).values.unbind(1)
    decided = best - runner_up > 1e-5
    assert torch.equal(semantic(masks, size)[decided], whole.argmax(1)[decided])
    assert decided.float().mean() > 0.99


@settings(deadline=None)
@given(start=st.integers(0, 82), count=st.integers(1, 83))
def test_scores_of_rows_are_rows_of_the_scores(start: int, count: int) -> None:
    """A slice of rows has the scores of the whole tile there, and its best classes are the labels."""
    masks = voronoi(2)
    rows = slice(start, start + count)
    scores = semantic_scores(masks, SIZE, rows)
    torch.testing.assert_close(scores, semantic_scores(masks, SIZE)[:, rows])
    assert torch.equal(scores.argmax(-1), semantic(masks, SIZE)[:, rows])


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.usefixtures("thin_strips")
def test_panoptic_equals_the_rules_as_loops(seed: int) -> None:
    """Ids, classes, scores and areas are those of the rules taken literally, on masks dropped only at the end."""
    masks = voronoi(seed)
    for image, found in enumerate(panoptic(masks, SIZE, STUFF)):
        ids, segments = panoptic_by_loops(masks, image, SIZE)
        assert torch.equal(found.ids, ids.int())
        assert list(found.segments) == segments


@pytest.mark.parametrize("seed", range(4))
def test_maps_are_those_of_transformers(seed: int, processor: Any) -> None:
    """At the tile's own size transformers gives the same labels and draws the same segments of the same classes."""
    masks = voronoi(seed)
    logits = {"masks_queries_logits": masks.mask_logits, "class_queries_logits": masks.class_logits}
    size = {"shortest_edge": SIZE[0], "longest_edge": SIZE[1]}
    asked = {"outputs": SimpleNamespace(patch_offsets=None, **logits), "target_sizes": [SIZE] * 2, "size": size}
    assert torch.equal(semantic(masks, SIZE), torch.stack(processor.post_process_semantic_segmentation(**asked)))
    theirs = processor.post_process_panoptic_segmentation(**asked, stuff_classes=list(STUFF))
    for our, their in zip(panoptic(masks, SIZE, STUFF), theirs, strict=True):
        assert torch.equal(our.ids, their["segmentation"].int())
        assert [s[:2] for s in our.segments] == [(s["id"], s["label_id"]) for s in their["segments_info"]]


def test_panoptic_never_enlarges_dropped_queries() -> None:
    """What a query of low score or of no object would draw does not matter, even if it is not a number."""
    masks = voronoi(4)
    scores, classes = masks.class_logits.softmax(-1).max(-1)
    dropped = (classes == NONE) | (scores <= 0.8)
    blank = masks._replace(mask_logits=masks.mask_logits.masked_fill(dropped[..., None, None], torch.nan))
    assert dropped.any()
    assert_equal(panoptic(blank, SIZE, STUFF), panoptic(masks, SIZE, STUFF))


@pytest.mark.parametrize(("claimed", "accepted"), [(5, True), (6, False)])
def test_four_of_five_pixels_suffice(claimed: int, accepted: bool) -> None:
    """A query that wins exactly the overlap threshold of what it claims is accepted; a pixel less and it is not."""
    weak = [1.0] * claimed + [-9.0] * (8 - claimed)
    strong = [-9.0] * 4 + [9.0] * 4
    found = panoptic(one_image([weak, strong], [[0.85, 0.05, 0.1], [0.05, 0.9, 0.05]]), (1, 8), stuff=())[0]
    assert [s.class_id for s in found.segments] == ([0, 1] if accepted else [1])
    assert found.ids.tolist() == [[0] * 4 + [1] * 4 if accepted else [-1] * 4 + [0] * 4]


@pytest.mark.parametrize(("stuff", "ids"), [((), [0, -1, 1]), ((0,), [0, -1, 0])])
def test_stuff_shares_one_segment(stuff: tuple[int, ...], ids: list[int]) -> None:
    """Two queries of one class are two things, or one stuff with both areas and the better score."""
    apart = one_image([[9.0, -9.0, -9.0], [-9.0, -9.0, 9.0]], [[0.85, 0.1, 0.05], [0.9, 0.05, 0.05]])
    found = panoptic(apart, (1, 3), stuff)[0]
    assert found.ids.tolist() == [ids]
    assert sum(s.area for s in found.segments) == 2
    assert max(s.score for s in found.segments) == pytest.approx(0.9)


@pytest.mark.parametrize("threshold", [0.8, 0.95])
def test_an_image_may_be_void(threshold: float) -> None:
    """Where no query is sure enough, or a sure one claims nothing, no segment is made and every pixel is void."""
    void = one_image([[9.0, 9.0], [-1.0, -1.0]], [[0.5, 0.5], [0.9, 0.1]])
    found = panoptic(void, (1, 2), stuff=(), score_threshold=threshold)[0]
    assert (found.ids.tolist(), found.segments) == ([[-1, -1]], ())


@pytest.mark.parametrize(("seed", "top_k"), [(0, 7), (1, 30), (2, 1000)])
@pytest.mark.usefixtures("thin_strips")
def test_instance_equals_the_rules_as_loops(seed: int, top_k: int) -> None:
    """The best pairs of query and class, their masks and areas are those of the rules; there are Q * K at most."""
    masks = voronoi(seed)
    for image, found in enumerate(instance(masks, SIZE, top_k)):
        scores, queries, classes, shapes = zip(*instances_by_loops(masks, image, SIZE, top_k), strict=True)
        torch.testing.assert_close(found.scores, torch.tensor(scores))
        assert (found.queries.tolist(), found.classes.tolist()) == (list(queries), list(classes))
        assert torch.equal(found.masks, torch.stack(shapes))
        assert torch.equal(found.areas, found.masks.sum((1, 2)))


def test_instance_never_enlarges_other_queries() -> None:
    """What the queries beyond the best pairs would draw does not matter, even if it is not a number."""
    masks = voronoi(5)
    chosen = torch.stack([found.queries for found in instance(masks, SIZE, top_k=5)])
    dropped = torch.ones(2, 16, dtype=torch.bool).scatter(1, chosen, False)
    blank = masks._replace(mask_logits=masks.mask_logits.masked_fill(dropped[..., None, None], torch.nan))
    assert_equal(instance(blank, SIZE, 5), instance(masks, SIZE, 5))


def test_an_empty_mask_scores_nothing() -> None:
    """A sure query without a positive pixel comes last with score 0, area 0 and an empty mask."""
    found = instance(one_image([[-1.0, -1.0], [9.0, -1.0]], [[0.9, 0.1], [0.4, 0.6]]), (1, 2))[0]
    assert found.queries.tolist() == [1, 0]
    assert (found.scores[1], found.areas.tolist()) == (0, [1, 0])


def test_paint_puts_the_better_on_top() -> None:
    """Where instances overlap the better one shows; those at the threshold or below are left out."""
    shapes = torch.tensor([[[1, 1, 0, 0, 0]], [[0, 1, 1, 0, 0]], [[0, 0, 1, 1, 0]]]).bool()
    found = Instances(torch.arange(3), torch.arange(3), torch.tensor([0.9, 0.6, 0.3]), shapes.sum((1, 2)), shapes)
    assert paint(found).tolist() == [[0, 0, 1, 2, -1]]
    assert paint(found, score_threshold=0.3).tolist() == [[0, 0, 1, -1, -1]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (partial(semantic_scores, rows=slice(0, 83, 2)), r"rows: got slice\(0, 83, 2\) of a tile of 83 rows; give"),
        (partial(semantic_scores, rows=slice(90, 99)), r"rows: got slice\(90, 99, None\) of a tile of 83 rows; give"),
        (partial(panoptic, stuff={1, 6, 80}), r"stuff: the model has classes 0\.\.5, got \[6, 80\]; give"),
        (partial(instance, top_k=0), r"top_k: got 0; ask"),
    ],
)
def test_what_cannot_be_done_is_refused(call: Any, message: str) -> None:
    """An error names the argument, its value and what to give instead."""
    with pytest.raises(ValueError, match=message):
        call(voronoi(0), SIZE)


@pytest.mark.gpu
def test_a_gpu_gives_what_the_cpu_gives() -> None:
    """Scores, labels, segments and instances agree between devices, but for pixels that float32 rounding decides."""
    here = voronoi(6)
    there = here._replace(mask_logits=here.mask_logits.cuda(), class_logits=here.class_logits.cuda())
    torch.testing.assert_close(fold_scores(there).cpu(), fold_scores(here), rtol=1e-4, atol=1e-4)
    maps = [(semantic(there, SIZE), semantic(here, SIZE))]
    maps += [(a.ids, b.ids) for a, b in zip(panoptic(there, SIZE, STUFF), panoptic(here, SIZE, STUFF), strict=True)]
    maps += [(paint(a), paint(b)) for a, b in zip(instance(there, SIZE), instance(here, SIZE), strict=True)]
    assert min((a.cpu() == b).float().mean() for a, b in maps) > 0.999
