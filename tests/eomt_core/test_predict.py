"""A model at work: whatever the batches, the same answer; in the codes that the store keeps."""

import logging

import numpy as np
import pytest
import torch
from small_predictor import BYTES, CPU, Linear, predictor
from torch import nn

from eomt_core.errors import DeviceError, ModelError
from eomt_core.outputs import QueryMasks
from eomt_core.palette import save_palette
from eomt_core.postprocess import semantic, semantic_scores
from eomt_core.predict import choose_device, choose_precision, load_predictor, stored_scores


class Fixed(nn.Module):
    """Says the same of every tile: the masks (Q, h, w) and class logits (Q, K + 1) that it is made with."""

    def __init__(self, masks, classes):
        super().__init__()
        self.masks = torch.as_tensor(masks, dtype=torch.float32)
        self.classes = torch.as_tensor(classes, dtype=torch.float32)

    def forward(self, pixels):
        """The same for each of the batch."""
        return QueryMasks(*(part.expand(len(pixels), *part.shape) for part in (self.masks, self.classes)), 4)


@pytest.fixture
def tiles():
    """Six tiles of 16 x 20 pixels."""
    return np.random.default_rng(0).integers(0, 256, (6, 3, 16, 20)).astype(np.uint8)


def same(first, second):
    """Whether two query records are the same, bit for bit."""
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("batch_size", [1, 2, 4, 8])
def test_the_batch_size_changes_no_score(tiles, batch_size):
    """A padded last batch gives what a full one gives."""
    made = predictor(Linear(), batch_size).scores(tiles)
    assert made.shape == (6, 3, 4, 5)
    assert (made == predictor(Linear(), 6).scores(tiles)).all()


def test_every_batch_has_the_same_shape(tiles):
    """The last one is filled up, so that nothing is compiled or chosen anew for it."""
    model = Linear()
    assert len(predictor(model, 4).scores(tiles)) == 6
    assert len(predictor(model, 4).queries(tiles, exact=False)) == 6
    assert model.sizes == [4, 4, 4, 4]


@pytest.mark.parametrize("exact", [False, True])
def test_the_company_in_a_batch_changes_no_query(tiles, exact):
    """In batches of one size, bit for bit."""
    forwards = predictor(Linear(), 4).queries(tiles, exact)
    backwards = predictor(Linear(), 4).queries(tiles[::-1].copy(), exact)[::-1]
    assert all(map(same, forwards, backwards))


def test_the_size_of_a_batch_changes_no_order(tiles):
    """It may change the last digits of a probability, but not which query comes first."""
    alone = [predictor(Linear(), 1).queries(tile[None], exact=False)[0] for tile in tiles]
    together = predictor(Linear(), 6).queries(tiles, exact=False)
    for one, other in zip(alone, together, strict=True):
        assert (one.masks == other.masks).all()
        np.testing.assert_allclose(one.class_probs, other.class_probs, rtol=1e-3)


def test_queries_come_best_first_then_by_first_pixel():
    """Scores count in 255ths; equal ones go by the first cell above a half, then by their own order."""
    masks = np.full((4, 2, 3), -1.0)
    masks[0, 1], masks[1, 0, 1], masks[2, 1], masks[3] = 1, 1, 1, 1
    probs = np.array([[0.8, 0.2], [0.8, 0.2], [0.8005, 0.1995], [0.9, 0.1]])
    found = predictor(Fixed(masks, np.log(probs))).queries(np.zeros((1, 3, 8, 12), "u1"), exact=False)[0]
    np.testing.assert_allclose(found.class_probs, probs[[3, 1, 0, 2]], rtol=1e-6)
    assert (found.masks == np.rint(masks[[3, 1, 0, 2]] * 16 + 128)).all()


def test_mask_codes_are_sixteenths_about_128():
    """round(16 · logit) + 128, cut off at 0 and 255."""
    logits = [-100, -8.1, -8, -7.97, -0.04, 0, 0.03, 0.04, 1, 7.93, 7.9375, 8, 100]
    found = predictor(Fixed([[logits]], [[9.0, 0.0]])).queries(np.zeros((1, 3, 4, 52), "u1"), exact=False)[0]
    assert found.masks.tolist() == [[[0, 0, 0, 0, 127, 128, 128, 129, 144, 255, 255, 255, 255]]]


def test_a_query_is_kept_from_a_twentieth_on():
    """The rest of the record is zero."""
    probs = np.array([[0.0499, 0.9501], [0.0501, 0.9499], [0.0, 1.0], [0.7, 0.3]])
    model = Fixed(np.ones((4, 2, 2)), np.log(probs + 1e-12))
    found = predictor(model).queries(np.zeros((1, 3, 8, 8), "u1"), exact=False)[0]
    assert found.kept == 2
    np.testing.assert_allclose(found.class_probs[:, 0], [0.7, 0.0501, 0, 0], rtol=1e-4)
    assert (found.masks[:2] == 144).all()
    assert not found.masks[2:].any()


def test_exact_records_hold_all_queries_as_they_are(tiles):
    """Half-precision logits in the model's own order."""
    model = Linear()
    found = predictor(model).queries(tiles, exact=True)[5]
    masks = model(torch.from_numpy(tiles[5:]) / 255)
    assert found.kept == 11
    assert found.masks.dtype == np.float16
    assert (found.masks == masks.mask_logits[0].detach().half().numpy()).all()


@pytest.mark.parametrize(("queries", "prob", "mask"), [(1, 0.5, 0.5), (1, 0.9, 0.1), (3, 0.7, 0.9), (80, 1.0, 1.0)])
def test_score_codes_are_1024ths_up_to_the_type(queries, prob, mask):
    """Scores are sums over the queries: nothing keeps them below 1."""
    model = Fixed(
        np.full((queries, 1, 1), np.log(mask + 1e-12) - np.log(1 - mask + 1e-12)),
        [[np.log(prob), np.log(1 - prob + 1e-12)]] * queries,
    )
    found = predictor(model).scores(np.zeros((1, 3, 4, 4), "u1"))
    assert found.dtype == np.uint16
    assert found.tolist() == [[[[min(round(1024 * queries * prob * mask), 65535)]]]]


@pytest.mark.parametrize("scaling", [BYTES, ((10.0, 0.0, 50.0), (200.0, 255.0, 60.0))])
def test_bytes_are_scaled_to_what_floats_say(tiles, scaling):
    """Bytes cross the bus; what the model sees is the same."""
    lo, hi = (np.array(values, "f4")[:, None, None] for values in scaling)
    floats = ((tiles - lo) / (hi - lo)).clip(0, 1)
    assert (predictor(Linear(), scaling=scaling).scores(tiles) == predictor(Linear()).scores(floats)).all()


def test_a_range_without_width_is_no_division_by_zero(tiles):
    """In float32 two near numbers are one."""
    close = predictor(Linear(), scaling=((100.0,) * 3, (100.0 + 1e-9,) * 3)).scores(tiles)
    assert (close == predictor(Linear()).scores((tiles > 100).astype("f4"))).all()


@pytest.mark.parametrize(
    ("limit", "seen"), [(8, [8]), (4, [8, 4, 4]), (2, [8, 4, 2, 2, 2]), (1, [8, 4, 2, 1, 1, 1, 1, 1, 1])]
)
def test_a_full_device_halves_the_batch(tiles, limit, seen, caplog):
    """8, 4, 2, 1, and what was asked is answered all the same; it stays halved, and says so once per step."""
    model = Linear(limit)
    at_work = predictor(model, 8)
    with caplog.at_level(logging.WARNING):
        made = at_work.scores(tiles)
    assert model.sizes == seen
    assert at_work.batch_size == limit
    assert len(caplog.records) == {8: 0, 4: 1, 2: 2, 1: 3}[limit]
    assert (made == predictor(Linear(), 8).scores(tiles)).all()


def test_a_device_too_small_for_one_tile_is_told(tiles):
    """After 8, 4, 2 and 1 there is nothing left to halve."""
    model = Linear(0)
    with pytest.raises(ModelError, match="--batch-size 1: cpu has too little memory for one tile"):
        predictor(model, 8).queries(tiles, exact=False)
    assert model.sizes == [8, 4, 2, 1]


@pytest.mark.parametrize("words", ["device-side assert triggered\nCompile with", "an illegal memory access"])
def test_a_device_that_fails_is_told_from_all_other_errors(tiles, words):
    """Whatever else this process asked of it would fail as well."""
    with pytest.raises(DeviceError, match=r"^cpu: CUDA error: [a-z -]+$"):
        predictor(Failing(f"CUDA error: {words}")).scores(tiles)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        predictor(Failing("shapes cannot be multiplied")).scores(tiles)


@pytest.mark.parametrize(
    "words", ["out of memory", "CUBLAS_STATUS_ALLOC_FAILED when calling", "CUDNN_STATUS_ALLOC_FAILED"]
)
def test_a_driver_without_memory_is_a_full_device(tiles, words):
    """CUDA itself may have none left for its own needs, or for its libraries'."""
    with pytest.raises(ModelError, match="too little memory for one tile"):
        predictor(Failing(f"CUDA error: {words}")).scores(tiles)


class Failing(torch.nn.Module):
    """Raises an error of these words."""

    def __init__(self, words):
        super().__init__()
        self.words = words

    def forward(self, pixels):
        """Fail."""
        raise RuntimeError(self.words)


class Greedy(torch.Tensor):
    """Logits that a device has no room to copy for more than two tiles."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        """Fail where the tensor is used."""
        if function is torch.Tensor.float and len(args[0]) > 2:
            raise torch.OutOfMemoryError("full")
        with torch._C.DisableTorchFunctionSubclass():
            return function(*args, **(kwargs or {}))


def test_a_device_that_fills_up_after_the_forward_halves_the_batch_too(tiles):
    """Folding the queries needs room as well."""
    model = Linear()
    model.register_forward_hook(
        lambda module, args, made: made._replace(mask_logits=made.mask_logits.as_subclass(Greedy))
    )
    at_work = predictor(model, 8)
    assert (at_work.scores(tiles) == predictor(Linear(), 8).scores(tiles)).all()
    assert at_work.batch_size == 2


@pytest.mark.parametrize("ask", ["scores", "kept", "exact"])
def test_an_answer_that_is_no_number_is_an_error(tiles, ask):
    """Half precision may overflow; NaN has no code, and must not become a class."""
    at_work = predictor(Fixed(np.full((2, 4, 5), np.nan), np.zeros((2, 3))))
    with pytest.raises(ModelError, match="not a number; take --precision fp32"):
        at_work.scores(tiles) if ask == "scores" else at_work.queries(tiles, exact=ask == "exact")


def test_logits_beyond_half_precision_stay_finite(tiles):
    """As certain as can be is certain enough."""
    masks = np.array([[[1e9, -1e9]]])
    found = predictor(Fixed(masks, [[0.0, 0.0]])).queries(tiles[:1], exact=True)[0]
    assert found.masks.tolist() == [[[65504, -65504]]]


def test_scores_are_folded_in_full_precision(tiles):
    """Only the forward runs in bf16."""
    half, full = (predictor(Linear(), precision=name).scores(tiles).astype(int) for name in ("bf16", "fp32"))
    assert 0 < abs(half - full).max() < 400
    assert len(np.unique(half)) > 200


@pytest.mark.parametrize("rows", [slice(0, 16), slice(0, 1), slice(5, 11), slice(15, 16)])
def test_stored_queries_give_the_scores_at_full_resolution(tiles, rows):
    """Any rows of them, as the reference's order has them, but for the half precision."""
    found = predictor(Linear()).queries(tiles, exact=True)[2]
    made = stored_scores(found.masks, found.class_probs, (16, 20), rows)
    masks = Linear()(torch.from_numpy(tiles[2:3]) / 255)
    expected = semantic_scores(masks._replace(mask_logits=masks.mask_logits.half()), (16, 20))[0, rows].detach().numpy()
    np.testing.assert_allclose(made, expected, atol=1e-5)
    assert (made.argmax(-1) == semantic(masks, (16, 20))[0, rows].numpy()).mean() > 0.99


def test_a_class_that_is_impossible_stays_so():
    """Though the logarithm of nothing is no number."""
    masks, probs = np.zeros((1, 2, 2), "f2"), np.array([[1, 0, 0]], "f4")
    assert stored_scores(masks, probs, (8, 8), slice(0, 8))[0, 0].tolist() == pytest.approx([0.5, 0])


def test_a_model_is_loaded_and_put_to_work(tmp_path):
    """On a CPU one tile at a time, with the threads that it is given."""
    colours = [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    options = {"device": "cpu", "precision": "auto", "scaling": BYTES, "batch_size": None, "threads": 1, "tta": "none"}
    at_work = load_predictor(str(save_palette(tmp_path / "m", colours)), None, **options)
    assert (at_work.device, at_work.dtype, at_work.batch_size) == (CPU, torch.float32, 1)
    assert torch.get_num_threads() == 1
    blue = np.zeros((1, 3, 16, 16), "u1")
    blue[:, 2] = 255
    assert (at_work.scores(blue)[0].argmax(0) == 1).all()


def test_auto_is_the_first_gpu_or_the_cpu():
    """As the machine has it."""
    assert str(choose_device("auto")) == ("cuda:0" if torch.cuda.is_available() else "cpu")
    assert choose_device("cpu") == CPU


@pytest.mark.parametrize("name", ["cuda:99", "mps", "tpu", "cpu:x", ""])
def test_a_device_that_is_not_there_is_named(name):
    """With what may be given instead."""
    with pytest.raises(ModelError, match=rf"^--device {name}: .*give auto"):
        choose_device(name)


@pytest.mark.parametrize(("name", "expected"), [("auto", "fp32"), ("bf16", "bf16"), ("fp16", "fp16"), ("fp32", "fp32")])
def test_precision_on_a_cpu(name, expected):
    """`auto` is full precision; what is asked for is taken."""
    assert choose_precision(name, CPU) == expected
