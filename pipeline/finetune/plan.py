"""What is decided before the first step: from the choices, the model's card and the data to one training."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from eomt_core.card import Architecture, ModelCard, PaletteArchitecture
from eomt_core.describe import describe_model
from eomt_core.errors import ModelError
from eomt_core.family import FamilyArchitecture
from pipeline.errors import UsageError
from pipeline.finetune.config import NEW, FinetuneConfig
from pipeline.finetune.data import Data
from pipeline.prepare import pixel_size
from pipeline.truth.samples import Augmentation, Sampler

if TYPE_CHECKING:
    from eomt_core.training.session import Beginning, Session
    from eomt_core.training.trainer import Training

STEPS = 2000
"""Steps where nobody says how many or how long."""

TILE = 256
"""Pixels a side of the tiles of new models, or as near to it as their lattice allows."""

NEW_LR = {"semantic": 1.5e-3, "instance": 1e-3}
"""Learning rates of models with random weights."""

OLD_LR, SMALL_LR, SMALL = 1e-4, 5e-4, 256
"""The reference's learning rate for trained models, and one for those of at most `SMALL` channels."""

LAYER_DECAY = 0.8
"""Of trained models, from one block to the one before; the reference's."""

WARMUP = 0.05
"""The share of a training in which rates rise; those of a trained encoder begin to after as much."""

SIZES = (1.0, 0.75, 1.5)
"""Sides of crops, against the tile size: a model that has seen several is used to positions that were interpolated."""

SAMPLED = 8
"""Batches that the mean and spread of new models' pixels are taken from."""


class Start(NamedTuple):
    """What is trained further, or made.

    Attributes:
        task: semantic or instance.
        card: of the model; None for a new one.
        bands: that it takes; None for a new one.
        tile: pixels a side of a crop.
        one_each: whether each class has one query of its own, else queries compete.
        width: D; 0 for a new one.
        stem: whether it has a stem, as our own recipes have.
        sha256: of its files; empty for a new one.
    """

    task: str
    card: ModelCard | None = None
    bands: int | None = None
    tile: int = TILE
    one_each: bool = True
    width: int = 0
    stem: bool = False
    sha256: str = ""


def describe_start(config: FinetuneConfig) -> Start:
    """Look at the model that a training begins with.

    Raises:
        UsageError: There is no such model, or it cannot be trained for the task.
    """
    if config.model.startswith(NEW):
        return _describe_new(config)
    try:
        info = describe_model(config.model, config.base)
        task = info.card.choose_task(config.task)
    except ModelError as error:
        raise UsageError(f"--model {str(error).removeprefix('model ')}") from error
    shape = info.architecture
    if isinstance(shape, PaletteArchitecture):
        raise UsageError(f"--model {config.model}: is a palette, which learns nothing; take new:hybrid-tiny")
    if task == "panoptic":
        raise UsageError(f"--model {config.model}: is for panoptic, which is not trained here; give --task semantic")
    tile = config.tile_size or min(shape.image_size)
    _check_tile(tile, shape.min_multiple, shape)
    one_each = _one_each(info.card, shape)
    return Start(task, info.card, shape.in_channels, tile, one_each, shape.embed_dim, bool(shape.stem), info.sha256())


def _one_each(card: ModelCard, shape: Architecture | FamilyArchitecture) -> bool:
    """Whether each class has one query of its own.

    Queries that compete may happen to be as many as the classes; a model that knows things has such, and so may one
    that does not say what it is for.
    """
    return card.tasks == ("semantic",) and not card.things and shape.num_queries == shape.num_classes


def _describe_new(config: FinetuneConfig) -> Start:
    """What can be said of a model before it is made; torch is loaded for it."""
    from eomt_core.family import PRESETS
    from eomt_core.recipes import RECIPES

    name, task = config.model.removeprefix(NEW), config.task or "semantic"
    if name in PRESETS:
        lattice = PRESETS[name].min_multiple
    else:
        lattice = 2 ** (len(RECIPES[name].stem) + 1) if name in RECIPES else _lattice_of_timm(name)
    tile = config.tile_size or round(TILE / lattice) * lattice
    _check_tile(tile, lattice, PRESETS.get(name))
    return Start(task, tile=tile, one_each=task == "semantic", stem=name in RECIPES)


def _lattice_of_timm(name: str) -> int:
    from eomt_core.encoders import lattice_of
    from eomt_core.encoders.refusals import why_name_refused
    from eomt_core.recipes import RECIPES

    try:
        why_name_refused(name)
    except (KeyError, RuntimeError) as error:  # timm knows no such name
        names = ", ".join(NEW + known for known in RECIPES)
        raise UsageError(f"--model {NEW}{name}: there is no such architecture; give {names}, or one of timm") from error
    try:
        return lattice_of(name)
    except ModelError as error:
        raise UsageError(f"--model {NEW}{name}: {error}") from error


def _check_tile(tile: int, lattice: int, shape: Architecture | FamilyArchitecture | None = None) -> None:
    if tile % lattice:
        raise UsageError(f"--tile-size {tile}: must be a multiple of {lattice}, the model's lattice")
    try:
        if isinstance(shape, FamilyArchitecture):
            shape.check_tile((tile, tile))
    except ModelError as error:
        raise UsageError(f"--tile-size {tile}: {error}") from error


@dataclass(frozen=True)
class CoursePlan:
    """One training, decided.

    Attributes:
        beginning: the model.
        training: how it learns.
        card: what it will be.
        sha256: of the files of the model that it begins with.
        data: what tells its scenes from others.
    """

    beginning: "Beginning"
    training: "Training"
    card: ModelCard
    sha256: str
    data: Mapping[str, Any]

    def settled(self) -> dict[str, Any]:
        """What was decided, in JSON's types."""
        parts: dict[str, Any] = {"beginning": self.beginning, "training": self.training, "card": self.card}
        decided = {name: asdict(part) for name, part in parts.items()}
        return {**decided, "data": dict(self.data), "sha256": self.sha256}


def choose_plan(config: FinetuneConfig, start: Start, data: Data) -> CoursePlan:
    """Decide what the choices leave open.

    Raises:
        ModelError: No such device, or a precision that it does not have.
    """
    from eomt_core.training.session import Beginning, training_precision

    mean, std = (start.card.mean, start.card.std) if start.card else _statistics(config, start, data)
    beginning = Beginning(
        model=config.model,
        classes=data.classes,
        one_each=start.one_each,
        bands=len(data.rasters[0].bands),
        image_size=start.tile,
        mean=mean,
        std=std,
        seed=config.seed,
        known_classes=start.card.classes if start.card else (),
        base=config.base,
    )
    training = _training(config, start, data, training_precision(config.precision, config.device))
    return CoursePlan(beginning, training, _card(config, start, data), start.sha256, data.identity)


def progress(config: FinetuneConfig, step: int, elapsed: float) -> float:
    """How far a training is, 0 to 1, before a step; `elapsed` in seconds."""
    done = elapsed / (60 * config.minutes) if config.minutes else step / (config.steps or STEPS)
    return min(1.0, done)


def choose_sampler(config: FinetuneConfig, start: Start, data: Data, session: "Session") -> Sampler:
    """The crops of a training, in sizes that the model takes.

    Raises:
        UsageError: The tile size is not on it.
    """
    lattice = session.lattice
    _check_tile(start.tile, lattice)
    wanted = (max(1, round(start.tile * factor / lattice)) * lattice for factor in SIZES)
    sizes = tuple(side for side in wanted if session.takes(side))
    augmentation = Augmentation(config.zoom, config.light)
    return Sampler(data.training, sizes, config.batch_size, config.seed, augmentation, _balanced(start))


def _balanced(start: Start) -> float:
    """The share of crops around a pixel of a class drawn evenly; objects are everywhere, so there it is none."""
    return 0.5 if start.task == "semantic" else 0.0


def _statistics(config: FinetuneConfig, start: Start, data: Data) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and spread of each band, from crops as the training takes them."""
    from eomt_core.training.session import channel_statistics

    augmentation = Augmentation(config.zoom, config.light)
    sampler = Sampler(data.training, (start.tile,), config.batch_size, config.seed, augmentation, balanced=0.0)
    return channel_statistics([crop for step in range(SAMPLED) for crop in sampler.batch(step).pixels])


def _training(config: FinetuneConfig, start: Start, data: Data, precision: str) -> "Training":
    from eomt_core.training.schedule import Schedule
    from eomt_core.training.trainer import Training

    new = start.card is None
    return Training(
        task=start.task,
        matched=not start.one_each,
        deep=not start.one_each and not start.stem,
        at_home=start.task == "instance" and start.stem,
        masked=(not new and not start.one_each and not start.stem) if config.masked is None else config.masked,
        lr=config.lr or (NEW_LR[start.task] if new else SMALL_LR if start.width <= SMALL else OLD_LR),
        layer_decay=1.0 if new else LAYER_DECAY,
        schedule=Schedule(WARMUP, 0.0 if new else WARMUP),
        precision=precision,
        seed=config.seed,
    )


def _card(config: FinetuneConfig, start: Start, data: Data) -> ModelCard:
    """The card of what the training makes."""
    classes, raster, scaling = data.classes, data.rasters[0], data.training[0].scaling
    sizes = [size for spec in data.rasters if (size := pixel_size(spec))]
    things = tuple(range(len(classes))) if start.task == "instance" else ()
    old = start.card or ModelCard("new", classes)
    same_bands = start.card is not None and len(start.card.mean) == len(raster.bands)
    return replace(
        old,
        name=Path(config.output).absolute().name,
        classes=classes,
        things=things,
        tasks=(start.task,),
        bands=tuple(map(str.strip, config.bands.split(","))) if config.bands else old.bands if same_bands else (),
        value_range=tuple(zip(scaling.lo, scaling.hi, strict=True)),
        pixel_size=config.pixel_size or (float(f"{median(sizes):.3g}") if sizes else old.pixel_size),
        mean=(0.0,) * len(raster.bands),
        std=(1.0,) * len(raster.bands),
        notes="",
    )
