"""A model at work on one device: raw pixels in, what the store keeps out.

Only what is kept crosses the bus: pixels go up as they are in the file, the queries are folded into class scores and
quantised on the device.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from eomt_core.batch import AUTO_BATCH
from eomt_core.card import PaletteArchitecture
from eomt_core.describe import describe_model
from eomt_core.errors import DeviceError, ModelError
from eomt_core.merging import merge_queries
from eomt_core.outputs import KEEP, QueryMasks
from eomt_core.palette import load_palette
from eomt_core.postprocess import fold_scores, semantic_scores
from eomt_core.views import VIEWS, View

log = logging.getLogger(__name__)

SCORE_UNIT = 1024
"""The code of a score of 1. Scores are sums over queries and may pass 1; 65535 ends the scale at 64."""

LOGIT_UNIT = 16
"""Steps per unit of mask logit in a query record's uint8 codes, which reach from -8 to just below 8."""

FULL = ("CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")
"""What the driver says, and the libraries that ask it for memory beside torch's allocator."""

HALF = torch.finfo(torch.float16).max
"""Logits beyond it are as certain as it is."""

Answer = TypeVar("Answer")

Scaling = tuple[Sequence[float], Sequence[float]]


class Queries(NamedTuple):
    """The queries of one tile that are kept, best first.

    Attributes:
        masks: (Q, h, w), uint8 codes or float16 logits; rows beyond the kept queries are 0.
        class_probs: (Q, K + 1), softmax over the classes, the last one "no object".
        kept: How many they are.
    """

    masks: NDArray[np.uint8] | NDArray[np.float16]
    class_probs: NDArray[np.float32]
    kept: int


class Predictor:
    """A model on its device, fed with fixed-size batches.

    Args:
        model: Called with (B, C, H, W) in [0, 1], gives QueryMasks.
        device: Where it runs.
        precision: fp32, bf16 or fp16: the autocast of the forward; everything after it is fp32.
        scaling: Per band, the bytes that become 0 and those that become 1.
        batch_size: Tiles per forward; halved when the device is full.
        tta: The views of each tile whose scores are averaged or queries merged, by their name in `VIEWS`.
    """

    def __init__(
        self,
        model: nn.Module,
        device: torch.device,
        precision: str,
        scaling: Scaling,
        batch_size: int,
        tta: str = "none",
    ) -> None:
        self.device = device
        self.model = model.eval().to(device)
        self.dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
        self.low, high = (torch.tensor(values, device=device).reshape(1, -1, 1, 1) for values in scaling)
        self.span = high - self.low
        self.span += self.span == 0  # a range may have no width in float32: then all is 0 or 1, not 0 / 0
        self.batch_size = batch_size
        self.views = VIEWS[tta]

    def scores(self, pixels: NDArray[np.generic]) -> NDArray[np.uint16]:
        """Class scores as codes, (B, K, h, w), of pixels (B, C, H, W): bytes, or float32 in [0, 1]."""
        return np.concatenate(list(self._answers(pixels, self._score_codes)))

    def queries(self, pixels: NDArray[np.generic], exact: bool) -> list[Queries]:
        """Query records of pixels (B, C, H, W), bytes or float32 in [0, 1]; `exact` keeps all, as float16 logits."""
        pack = _exact_queries if exact else _kept_queries

        def records(unit: Tensor, count: int) -> list[Queries]:
            masks = self._merged(unit)
            return [pack(masks, index) for index in range(count)]

        return [record for answer in self._answers(pixels, records) for record in answer]

    def _answers(self, pixels: NDArray[np.generic], ask: Callable[[Tensor, int], Answer]) -> Iterator[Answer]:
        """What `ask(unit, count)` gives for each batch on the device, whose first `count` tiles are real."""
        start = 0
        while start < len(pixels):
            part = pixels[start : start + self.batch_size]
            answer = self._try(part, ask)
            if answer is None:
                self._halve()
                continue
            yield answer
            start += len(part)

    def _try(self, part: NDArray[np.generic], ask: Callable[[Tensor, int], Answer]) -> Answer | None:
        """The answer for one batch, padded to its fixed shape; None when the device is full.

        The exception must be left before memory is freed: its traceback keeps the tensors alive.
        """
        padded = np.concatenate([part, np.repeat(part[-1:], self.batch_size - len(part), axis=0)])
        try:
            return ask(self._to_unit(torch.from_numpy(padded)), len(part))
        except RuntimeError as error:
            if _is_full(error):
                return None
            if "CUDA error" in str(error):  # its context is lost, and every later call would fail as well
                raise DeviceError(f"{self.device}: {str(error).splitlines()[0]}") from error
            raise

    @torch.inference_mode()
    def _to_unit(self, pixels: Tensor) -> Tensor:
        """Pixels in [0, 1] on the device."""
        unit = pixels.to(self.device)
        return unit if unit.dtype != torch.uint8 else ((unit.float() - self.low) / self.span).clamp(0, 1)

    @torch.inference_mode()
    def _run(self, unit: Tensor) -> QueryMasks:
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            masks: QueryMasks = self.model(unit)
        return masks

    @torch.inference_mode()
    def _merged(self, unit: Tensor) -> QueryMasks:
        """The queries of each tile, those of its views made one set."""
        if len(self.views) == 1:
            return self._run(unit)
        return merge_queries(self._seen(unit, view) for view in self.views)

    def _seen(self, unit: Tensor, view: View) -> QueryMasks:
        masks = self._run(view.apply(unit))
        for values in masks[:2]:
            _check_numbers(values)
        return masks._replace(mask_logits=view.undo(masks.mask_logits))

    @torch.inference_mode()
    def _score_codes(self, unit: Tensor, count: int) -> NDArray[np.uint16]:
        """Codes of the mean score over the views of each tile."""
        views = (view.undo(fold_scores(self._run(view.apply(unit)))) for view in self.views)
        scores = reduce(torch.add, views)[:count] / len(self.views)
        _check_numbers(scores)
        codes = (scores * SCORE_UNIT).round().clamp(max=65535)
        return codes.to(torch.int32).cpu().numpy().astype(np.uint16)

    def _halve(self) -> None:
        if self.batch_size == 1:
            raise ModelError(
                f"--batch-size 1: {self.device} has too little memory for one tile; take a smaller --tile-size"
            )
        self.batch_size //= 2
        torch.cuda.empty_cache()
        log.warning("%s is full: going on with batches of %d", self.device, self.batch_size)


def _is_full(error: RuntimeError) -> bool:
    """Whether the device has no memory left, as torch's allocator says, the driver itself, or a library of CUDA's."""
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in FULL)


def _check_numbers(values: Tensor) -> None:
    """Raises ModelError where a forward in half precision has left its range: NaN has no code."""
    if values.isnan().any():
        raise ModelError("the model's answer is not a number; take --precision fp32, or bf16 on a GPU that has it")


@torch.inference_mode()
def _exact_queries(masks: QueryMasks, index: int) -> Queries:
    """All queries in the model's own order."""
    probs = masks.class_logits[index].float().softmax(-1)
    logits = masks.mask_logits[index].float().clamp(-HALF, HALF).half()
    _check_numbers(probs)
    _check_numbers(logits)
    return Queries(logits.cpu().numpy(), probs.cpu().numpy(), len(probs))


@torch.inference_mode()
def _kept_queries(masks: QueryMasks, index: int) -> Queries:
    """The queries above KEEP, by falling score and then by their first pixel: an order that no batch changes."""
    probs = masks.class_logits[index].float().softmax(-1)
    _check_numbers(probs)
    _check_numbers(masks.mask_logits[index])
    score = (probs[:, :-1].amax(-1) * 255).round()
    codes = ((masks.mask_logits[index].float() * LOGIT_UNIT).round() + 128).clamp(0, 255).to(torch.uint8)
    first = (codes.flatten(1) > 128).to(torch.uint8).argmax(1)
    kept = torch.nonzero(probs[:, :-1].amax(-1) >= KEEP)[:, 0].cpu().numpy()
    order = kept[np.lexsort((kept, first.cpu().numpy()[kept], -score.cpu().numpy()[kept]))]
    masks_kept, probs_kept = np.zeros(codes.shape, np.uint8), np.zeros(probs.shape, np.float32)
    masks_kept[: len(order)] = codes.cpu().numpy()[order]
    probs_kept[: len(order)] = probs.cpu().numpy()[order]
    return Queries(masks_kept, probs_kept, len(order))


def stored_scores(
    masks: NDArray[np.float16], class_probs: NDArray[np.float32], size: tuple[int, int], rows: slice
) -> NDArray[np.float32]:
    """Class scores at full resolution, (rows, W, K), of some pixel rows of a tile of H x W, from its query record.

    Masks are (Q, h, w) logits, class_probs (Q, K + 1).
    """
    # The softmax of log-probabilities is the probabilities.
    classes = torch.from_numpy(class_probs).clamp(min=torch.finfo(torch.float32).tiny).log()
    stored = QueryMasks(torch.from_numpy(masks)[None], classes[None], size[0] // masks.shape[1])
    return semantic_scores(stored, size, rows)[0].numpy()


def load_predictor(
    location: str,
    base: str | None,
    *,
    device: str,
    precision: str,
    scaling: Scaling,
    batch_size: int | None,
    threads: int,
    tta: str,
) -> Predictor:
    """Load a model and put it to work.

    Args:
        location: See `load_model`.
        base: Likewise.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        precision: `auto`, `fp32`, `bf16` or `fp16`.
        scaling: See `Predictor`.
        batch_size: Tiles per forward; None: by the device.
        threads: Compute threads of this process.
        tta: See `Predictor`.

    Raises:
        ModelError: The model cannot be loaded, or there is no such device.
    """
    torch.set_num_threads(threads)
    place = choose_device(device)
    model = _load(location, base)
    return Predictor(
        model,
        place,
        choose_precision(precision, place),
        scaling,
        batch_size or (AUTO_BATCH if place.type == "cuda" else 1),
        tta,
    )


def _load(location: str, base: str | None) -> nn.Module:
    """The model; timm and torchvision, seconds of import for every worker, only where it is made of them."""
    info = describe_model(location, base)
    if isinstance(info.architecture, PaletteArchitecture):
        return load_palette(info.weights[0], info.architecture)
    from eomt_core.checkpoint import build_model

    return build_model(info)


def choose_device(name: str) -> torch.device:
    """The device of that name; `auto` is the first GPU where there is one.

    Raises:
        ModelError: There is no such device here.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device("cuda:0" if count else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ModelError(f"--device {name}: no such device; give auto, cpu, cuda or cuda:N") from error
    if device.type not in ("cpu", "cuda") or (device.type == "cuda" and (device.index or 0) >= count):
        raise ModelError(f"--device {name}: this machine has {count} CUDA devices; give auto or cpu")
    return device


def choose_precision(name: str, device: torch.device) -> str:
    """`auto`: bf16 on a GPU that has it, fp16 on one that has not, fp32 on a CPU."""
    if name != "auto":
        return name
    if device.type == "cpu":
        return "fp32"
    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
