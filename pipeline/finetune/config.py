"""The choices of a training, as a user states them, checked when they are made."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import UsageError

NEW = "new:"
"""Before an architecture's name: a model with random weights."""

PLACES = ("output", "resume", "overwrite", "device", "threads")
"""Options that do not change what is learned; a training may go on with others."""

PRECISIONS = ("auto", "fp32", "bf16", "fp16")

MOST_ZOOM = 16.0
"""Raster pixels that may become one: crops are read at full size before they are thinned."""

MOST_SEED = 2**32 - 1


@dataclass(frozen=True)
class FinetuneConfig:
    """How to train, on what.

    Attributes:
        images: a file, a folder or a pattern.
        labels: likewise.
        model: `new:NAME` or a model.
        base: as for a run.
        output: the folder of the training and of the model it makes.
        val: which pairs are for validation; see `split_pairs`; `20%`: whole groups of look-alikes, about that many.
        task: semantic or instance; None: the model's, semantic for a new one.
        classes: names; None: the model's, or what the labels say.
        ignore: the label of pixels that say nothing.
        class_field: the polygons' property that names the class.
        outside: the class of pixels that no polygon covers.
        bands: as for a run.
        scale: likewise.
        steps: how many; None: by `minutes`, or `STEPS`.
        minutes: how long, instead.
        lr: learning rate; None: by the model.
        batch_size: crops of the tile size per step.
        tile_size: pixels a side of a crop; None: the model's training size.
        zoom: smallest and largest number of raster pixels that become one in a crop.
        light: how much brightness, contrast, gamma and the bands' gains vary.
        pixel_size: metres a side of a pixel, for the card; None: what the images say.
        drawn: landscapes that are drawn and join the training.
        masked: whether attention is masked at first; None: where queries compete, in a model that is not new.
        half: whether weights are stored as float16.
        seed: of everything random.
        device: as for a run.
        precision: likewise.
        threads: compute threads; None: as many as cores.
        resume: whether a training that was stopped goes on.
        overwrite: whether one that is there is dropped.
    """

    images: str
    labels: str
    model: str
    output: str
    base: str | None = None
    val: tuple[str, ...] = ()
    task: str | None = None
    classes: tuple[str, ...] | None = None
    ignore: int = 255
    class_field: str = "class"
    outside: str | None = None
    bands: str | None = None
    scale: str = "auto"
    steps: int | None = None
    minutes: float | None = None
    lr: float | None = None
    batch_size: int = 8
    tile_size: int | None = None
    zoom: tuple[float, float] = (0.65, 1.6)
    light: tuple[float, float, float, float] = (0.15, 0.2, 0.2, 0.06)
    pixel_size: float | None = None
    drawn: int = 0
    masked: bool | None = None
    half: bool = False
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"
    threads: int | None = None
    resume: bool = False
    overwrite: bool = False

    def __post_init__(self) -> None:
        if self.steps is not None and self.minutes is not None:
            raise UsageError(f"--steps {self.steps}, --minutes {self.minutes:g}: give one of them")
        if self.resume and self.overwrite:
            raise UsageError("--resume, --overwrite: give one of them")
        if self.base and self.model.startswith(NEW):
            raise UsageError(
                f"--base {self.base}: is for weights stored as differences, and --model {self.model} has none"
            )
        if self.task not in (None, "semantic", "instance"):
            raise UsageError(f"--task {self.task}: give semantic or instance")
        if self.precision not in PRECISIONS:
            raise UsageError(f"--precision {self.precision}: give one of {', '.join(PRECISIONS)}")
        self._check_numbers()
        if self.classes is not None and len(set(self.classes)) < len(self.classes):
            raise UsageError(f"--classes {','.join(self.classes)}: a name stands there twice")

    def _check_numbers(self) -> None:
        for name in ("steps", "minutes", "lr", "batch_size", "tile_size", "threads", "pixel_size"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise UsageError(f"--{name.replace('_', '-')} {value}: give a number above 0")
        if not 0 < self.zoom[0] <= self.zoom[1] <= MOST_ZOOM:
            text = ",".join(f"{value:g}" for value in self.zoom)
            raise UsageError(f"--zoom {text}: give the smallest and the largest, above 0 and at most {MOST_ZOOM:g}")
        if not all(0 <= value < math.inf for value in self.light):
            text = ",".join(f"{value:g}" for value in self.light)
            raise UsageError(f"--light {text}: give numbers from 0, which leaves the light alone")
        if self.drawn < 0:
            raise UsageError(f"--drawn {self.drawn}: give 0 or more")
        if not 0 <= self.seed <= MOST_SEED:
            raise UsageError(f"--seed {self.seed}: give 0 to {MOST_SEED}")

    def lasting(self) -> dict[str, Any]:
        """The choices that decide what is learned, in JSON's types."""
        made = {name: value for name, value in asdict(self).items() if name not in PLACES}
        # A relative path means something else in another folder.
        made |= {name: str(Path(made[name]).absolute()) for name in ("images", "labels")}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in made.items()}
