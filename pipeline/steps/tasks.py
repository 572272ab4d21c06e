"""A run's tasks, step by step: which there are, which are done, which are left."""

import os
from functools import cached_property
from itertools import islice
from pathlib import Path

from pipeline.config import parse_shard
from pipeline.spec import RunSpec
from pipeline.steps.journal import BlockRecord, Journal, Step
from pipeline.steps.link import ALL
from pipeline.steps.pyramid import level_shape, level_tasks
from pipeline.storage.paths import AnyPath, follow, path_of

Task = tuple[int, ...]
"""What names a block to a worker: row and column, or level, row and column."""


class Tasks:
    """The tasks of one run over its journal.

    Args:
        spec: What is to be done.
        journal: What is done.
        shard: The part of the tile blocks that is this run's to infer, and all that it does; None: everything is.
    """

    def __init__(self, spec: RunSpec, journal: Journal, shard: str | None = None) -> None:
        self.spec = spec
        self.journal = journal
        self.shard = shard

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """Only objects are linked and resolved between inference and mosaic; a single level has none below it."""
        joining: tuple[Step, ...] = ("link", "resolve") if self.spec.objects else ()
        coarser: tuple[Step, ...] = ("downsample",) if self.spec.levels > 1 else ()
        return ("infer", *joining, "render", *coarser)

    def of(self, step: Step) -> dict[str, Task]:
        """All of a step, by block name."""
        if step == "render":
            return {block.name: block.index for block in self.spec.output_blocks}
        if step == "downsample":
            return {**level_tasks(self.spec)}
        if step == "resolve":
            return {ALL: (0, 0)}
        rows, cols = self.spec.plan.block_grid
        return {f"{row}-{col}": (row, col) for row in range(rows) for col in range(cols)}

    def own(self, step: Step) -> dict[str, Task]:
        """Those that are this run's to do."""
        tasks = self.of(step)
        if not self.shard:
            return tasks
        index, count = parse_shard(self.shard)
        first, last = (len(tasks) * number // count for number in (index, index + 1))
        return dict(islice(tasks.items(), first, last)) if step == "infer" else {}

    def done(self, step: Step) -> list[BlockRecord]:
        """The records that count, but for those of skipped blocks, which a rerun tries again."""
        return [record for record in self._stand(step) if not record.skipped]

    @property
    def skipped(self) -> dict[str, str]:
        """Tile blocks of this run's that were left as nodata, and why."""
        own = self.own("infer")
        return {
            record.block: record.skipped for record in self._stand("infer") if record.skipped and record.block in own
        }

    def _stand(self, step: Step) -> list[BlockRecord]:
        # A block of nothing but nodata has no objects: its record says nothing about a mosaic that is gone.
        if step in ("render", "downsample") and not path_of(self.spec.output).exists():
            return []
        return list(self.journal_of(step).records(step, self.fingerprint(step)))

    def journal_of(self, step: Step) -> Journal:
        """Where a step's records are: those of inference may be another run's, whose store this one stitches."""
        return Journal(self.store.parent) if step == "infer" else self.journal

    def fingerprint(self, step: Step) -> str:
        """What a step's records must carry to count."""
        return str(getattr(self.spec, f"{'render' if step == 'downsample' else step}_fingerprint"))

    def left(self, step: Step) -> dict[str, Task]:
        """Those without a record; there are none to infer once the store was dropped after all was done."""
        if step == "infer" and self.journal.complete and not self.store.exists():
            return {}
        done = {record.block for record in self.done(step)}
        return {name: task for name, task in self.own(step).items() if name not in done}

    @property
    def finished(self) -> bool:
        """Whether the mosaic is complete, and nothing is missing."""
        return self.journal.complete and not any(map(self.left, self.steps))

    @property
    def share_left(self) -> tuple[float, float]:
        """The part of the tile blocks, and of the output blocks, that is still to be done."""
        steps: tuple[Step, ...] = "infer", "render"
        infer, render = (len(self.left(step)) / len(self.of(step)) for step in steps)
        return infer, render

    def pixels(self, step: Step) -> int:
        """Pixels that the tasks of a step answer for together: the raster's, or those of the coarser levels."""
        levels = range(1, self.spec.levels) if step == "downsample" else range(1)
        shapes = [level_shape(self.spec.raster.grid.shape, level) for level in levels]
        return sum(rows * cols for rows, cols in shapes)

    @property
    def store(self) -> AnyPath:
        """Where the per-tile records lie."""
        store = follow(self.journal.folder, self.spec.store)
        return Path(os.path.normpath(store)) if isinstance(store, Path) else store
