"""What a run tells: progress while it goes, a report at its end, its status at any time."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from pipeline.steps.journal import Step

Shown = Step | Literal["evaluate", "export"]
"""What progress is told of: the steps of a run, the comparison of a mosaic with labels, and its export."""


@dataclass(frozen=True)
class Progress:
    """How far a step is.

    Attributes:
        step: `infer`, `link`, `resolve`, `render` or `downsample`; `evaluate` and `export` outside of a run.
        done: Pixels whose blocks are done, those of earlier runs with them; of coarser levels, their own.
        total: Pixels in all.
        fresh: Pixels done by this run.
        block: The block that was just finished; None at the start of the step.
    """

    step: Shown
    done: int
    total: int
    fresh: int
    block: str | None


@dataclass(frozen=True)
class Report:
    """What a run did.

    Attributes:
        output: The mosaic.
        pixels: Of the raster.
        tiles: Inferred by this run.
        inferred: Tile blocks inferred by this run.
        reused: Tile blocks that earlier runs had inferred.
        rendered: Output blocks written by this run.
        seconds: Wall time by step.
        parts: Seconds of the tasks by part: read, model, write, blend, label, link, resolve, paint,
            downsample.
        objects: Things in the mosaic, rows of its table; None for a semantic run, or a part of a run.
        saturated: Tiles in which nearly all queries of the model were taken.
        skipped: Tile blocks that could not be inferred, left as nodata, and why.
        shard: The part of the tile blocks that the run was for; None: all, and the mosaic.
    """

    output: str
    pixels: int
    tiles: int
    inferred: int
    reused: int
    rendered: int
    seconds: dict[str, float]
    parts: dict[str, float]
    objects: int | None = None
    saturated: int = 0
    skipped: dict[str, str] = field(default_factory=dict)
    shard: str | None = None


@dataclass(frozen=True)
class Status:
    """How far a run is: block names by step.

    Attributes:
        output: The mosaic.
        done: Blocks that are done.
        missing: Those that are not, the skipped ones with them.
        skipped: Tile blocks that were left as nodata, and why.
        complete: Whether nothing is missing.
    """

    output: str
    done: dict[Step, list[str]]
    missing: dict[Step, list[str]]
    skipped: dict[str, str]
    complete: bool


OnProgress = Callable[[Progress], None]
