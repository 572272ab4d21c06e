"""One configuration trained once: how it went, and how good it is on scenes that it has not seen."""

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from pathlib import Path

import numpy as np

from pipeline.bench.encoders.boundaries import Boundaries, boundaries_of
from pipeline.config import RunConfig
from pipeline.errors import RunError
from pipeline.evaluate import Evaluation, evaluate_mosaic
from pipeline.finetune import FinetuneConfig, finetune
from pipeline.finetune.folder import LOSSES, Folder
from pipeline.run import segment_raster
from pipeline.truth.pairs import Pair, find_pairs, split_pairs

RECENT = 50
"""Steps at the end over which the loss is averaged, and its spread taken."""


@dataclass(frozen=True)
class Course:
    """How a configuration is trained: in float32 on one thread, so that results depend on nothing else.

    Attributes:
        steps: how many.
        tile: pixels a side of a crop.
        batch_size: crops per step.
        seed: of weights and crops.
    """

    steps: int
    tile: int
    batch_size: int
    seed: int

    def config(self, images: str, labels: str, model: str, output: Path, val: tuple[str, ...]) -> FinetuneConfig:
        """A training, which goes on where it was begun."""
        return FinetuneConfig(
            images=images,
            labels=labels,
            model=model,
            output=str(output),
            val=val,
            steps=self.steps,
            tile_size=self.tile,
            batch_size=self.batch_size,
            seed=self.seed,
            device="cpu",
            precision="fp32",
            threads=1,
            resume=Folder(output).stands,
        )


@dataclass(frozen=True)
class Trial:
    """What a training came to.

    Attributes:
        configuration: what stands behind `new:`.
        seed: of weights and crops.
        failed: why it came to nothing; empty: it did not.
        loss: mean of the last steps.
        wobble: standard deviation of the last steps' losses.
        miou: on the held-out scenes, by `run` from end to end.
        iou: per class.
        boundary_f1: likewise, see `Boundaries`.
        seams: seam gradient ratio against that of a phantom grid, mean of the scenes.
        transferred: mIoU on held-out images of the other task, trained further on it.
        scratch: the same from random weights, with as many steps.
        seconds: of all that.
    """

    configuration: str
    seed: int
    failed: str = ""
    loss: float | None = None
    wobble: float | None = None
    miou: float | None = None
    iou: tuple[float, ...] = ()
    boundary_f1: float | None = None
    seams: float | None = None
    transferred: float | None = None
    scratch: float | None = None
    seconds: float = 0.0


def conduct_trial(
    name: str, course: Course, images: str, labels: str, val: tuple[str, ...], folder: Path, floor: float
) -> Trial:
    """Train a configuration and score it; a loss that is no number is a result, too.

    Raises:
        UsageError: the data will not do.
    """
    began = time.monotonic()
    try:
        finetune(course.config(images, labels, f"new:{name}", folder, val), looks=0)
    except RunError as error:
        return Trial(name, course.seed, failed=str(error), seconds=round(time.monotonic() - began, 1))
    losses = np.loadtxt(folder / LOSSES, delimiter=",", skiprows=1, usecols=1, ndmin=1)[-RECENT:]
    _, held = split_pairs(find_pairs(images, labels), val)
    evaluations, edges = zip(*(_score(folder, pair, course.tile) for pair in held), strict=True)
    confusion = reduce(add, (evaluation.confusion for evaluation in evaluations))
    miou = float(confusion.miou)
    return Trial(
        name,
        course.seed,
        failed="" if miou >= floor else f"mIoU {miou:.3f} is below {floor:g}",
        loss=round(float(losses.mean()), 4),
        wobble=round(float(losses.std()), 4),
        miou=round(miou, 4),
        iou=tuple(round(float(value), 4) for value in np.nan_to_num(confusion.iou)),
        boundary_f1=round(reduce(add, edges).f1, 4),
        seams=_mean_seams(evaluations),
        seconds=round(time.monotonic() - began, 1),
    )


def _score(model: Path, pair: Pair, tile: int) -> tuple[Evaluation, Boundaries]:
    """Run a model over a scene, as users do, and look at the mosaic."""
    output = model.with_name(f"{model.name}-{pair.stem}.zarr")
    config = RunConfig(model=str(model), tile_size=(tile, tile), device="cpu", overwrite=True)
    segment_raster(pair.image, output, config)
    found = evaluate_mosaic(output, pair.labels, kind="classes"), boundaries_of(output, pair.labels)
    for made in output.parent.glob(f"{output.stem}.*"):
        shutil.rmtree(made) if made.is_dir() else made.unlink()
    return found


def _mean_seams(evaluations: Sequence[Evaluation]) -> float | None:
    """None where a scene has no seams, or where nothing changes at all."""
    ratios = [evaluation.seams.relative for evaluation in evaluations if evaluation.seams is not None]
    known = [ratio for ratio in ratios if np.isfinite(ratio)]
    return round(float(np.mean(known)), 4) if known else None
