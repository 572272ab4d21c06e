"""The experiment: which configurations, trained how; each result is a file, so that a stopped one goes on."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from eomt_core.location import WEIGHTS
from pipeline.bench.encoders.focus import Focus, attends, measure_focus
from pipeline.bench.encoders.growth import Growth, measure_growth
from pipeline.bench.encoders.transfer import Task, prepare_transfer
from pipeline.bench.encoders.trial import Course, Trial, conduct_trial
from pipeline.errors import ChangedError, UsageError
from pipeline.storage.paths import write_atomically
from pipeline.truth.pairs import Pair, find_pairs, split_pairs

CONFIGURATIONS = {
    "vit-pytorch": "EoMT on ViT",
    "simple-vit": "EoMT on SimpleViT",
    "scalable-tiny": "Spatial cross on ScalableViT",
    "scalable-tiny-joint": "Spatial joint on ScalableViT",
    "vit-pytorch-cross": "Spatial cross on ViT",
    "scalable-tiny-conv": "Spatial conv on ScalableViT",
    "vit-pytorch-raw": "EoMT on ViT, patches as they are",
}
"""What is compared, by what stands behind `new:`: FLOPs a pixel are matched, and one thing at a time differs."""

SETTINGS = "settings.json"


@dataclass(frozen=True)
class Experiment:
    """What is trained, on what, how long.

    Attributes:
        images: a file, a folder or a pattern.
        labels: of classes; likewise.
        val: which pairs are held out, see `split_pairs`.
        work: the folder of results and models.
        transfer: images and labels of objects that trained models are trained further on, as object and background.
        steps: of each training.
        transfer_steps: of each further training, and of those from scratch that they are compared with.
        seeds: trainings of each configuration.
        tile: pixels a side of a crop, and of a tile of the held-out scenes.
        batch_size: crops per step.
        sides: of tiles whose costs are measured.
        floor: a mIoU on the held-out scenes below which a training has failed.
        only: some of the configurations; empty: all.
        classes: names for the picture; empty: those of the labels.
    """

    images: str
    labels: str
    val: tuple[str, ...]
    work: Path
    transfer: tuple[str, str] | None = None
    steps: int = 200
    transfer_steps: int = 60
    seeds: int = 3
    tile: int = 128
    batch_size: int = 8
    sides: tuple[int, ...] = (256, 512, 1024)
    floor: float = 0.15
    only: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in self.only:
            if name not in CONFIGURATIONS:
                raise UsageError(f"--only {name}: there is none; give {', '.join(CONFIGURATIONS)}")

    @property
    def names(self) -> tuple[str, ...]:
        """The configurations, in the order of the table."""
        return tuple(name for name in CONFIGURATIONS if name in (self.only or CONFIGURATIONS))

    def lasting(self) -> dict[str, Any]:
        """What must stay the same for results to be compared, in JSON's types."""
        free = ("work", "seeds", "only", "sides", "classes")
        settings: dict[str, Any] = json.loads(json.dumps(asdict(self) | dict.fromkeys(free)))
        return settings


def conduct(experiment: Experiment) -> Iterator[Trial | Focus | Growth]:
    """Do what is not done yet, and give every result in turn; all configurations have one seed before any has two.

    Raises:
        UsageError: the data will not do, or the folder has results of other settings.
    """
    _check_same(experiment)
    task = _task(experiment)
    for seed in range(experiment.seeds):
        for name in experiment.names:
            yield _trial(experiment, task, name, seed)
            if attends(name) and (model_of(experiment, name, seed) / WEIGHTS).exists():
                yield _focus(experiment, name, seed)
    for name in experiment.names:
        for side in experiment.sides:
            yield _growth(experiment, name, side)


def model_of(experiment: Experiment, name: str, seed: int = 0) -> Path:
    """Where the model of a trial is."""
    return experiment.work / f"{name}-{seed}"


def held_out(experiment: Experiment) -> list[Pair]:
    """The pairs that nothing is trained on.

    Raises:
        UsageError: there are no pairs, or a name that is none of theirs.
    """
    return split_pairs(find_pairs(experiment.images, experiment.labels), experiment.val)[1]


def _trial(experiment: Experiment, task: Task | None, name: str, seed: int) -> Trial:
    path = experiment.work / f"{name}-{seed}.json"
    if not path.exists():
        course = Course(experiment.steps, experiment.tile, experiment.batch_size, seed)
        places = experiment.images, experiment.labels, experiment.val
        trial = conduct_trial(name, course, *places, model_of(experiment, name, seed), experiment.floor)
        if task is not None and not trial.failed:
            trial = task.try_on(trial, model_of(experiment, name, seed), course, experiment.transfer_steps)
        write_atomically(path, json.dumps(asdict(trial), indent=1))
    return Trial(**_read(path))


def _focus(experiment: Experiment, name: str, seed: int) -> Focus:
    path = experiment.work / f"{name}-{seed}-focus.json"
    if not path.exists():
        focus = measure_focus(name, seed, model_of(experiment, name, seed), held_out(experiment), experiment.tile)
        write_atomically(path, json.dumps(asdict(focus), indent=1))
    return Focus(**_read(path))


def _growth(experiment: Experiment, name: str, side: int) -> Growth:
    path = experiment.work / f"{name}-{side}px.json"
    if not path.exists():
        growth = measure_growth(name, model_of(experiment, name), side)
        write_atomically(path, json.dumps(asdict(growth), indent=1))
    return Growth(**_read(path))


def _task(experiment: Experiment) -> Task | None:
    if experiment.transfer is None:
        return None
    return prepare_transfer(*experiment.transfer, experiment.work / "transfer")


def _check_same(experiment: Experiment) -> None:
    """Results of other settings would stand in one table with these."""
    held_out(experiment)
    experiment.work.mkdir(parents=True, exist_ok=True)
    path, settings = experiment.work / SETTINGS, experiment.lasting()
    if not path.exists():
        write_atomically(path, json.dumps(settings, indent=1))
    old = _read(path)
    for field in fields(Experiment):
        if old.get(field.name) != settings.get(field.name):
            was, now = old.get(field.name), settings.get(field.name)
            raise ChangedError(
                f"{experiment.work}: has results with {field.name.replace('_', ' ')} {was}, not {now}; give the old "
                "value, or another --work"
            )


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read ({error}); delete it, it is made again") from error
    assert isinstance(found, dict)
    return found
