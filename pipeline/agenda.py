"""What a run has to do: its steps, their tasks, and which of these are done."""

import os
from itertools import islice
from pathlib import Path

from pipeline.config import parse_shard
from pipeline.journal import BlockRecord, Journal, Step
from pipeline.link import ALL
from pipeline.spec import RunSpec


class Agenda:
    """The tasks of a run over its journal.

    Args:
        spec: What is to be done.
        journal: What is done.
        shard: The part of the tile blocks that is this run's to infer, and all that it does; None: everything is.
    """

    def __init__(self, spec: RunSpec, journal: Journal, shard: str | None = None) -> None:
        self.spec, self.journal, self.shard = spec, journal, shard
        self.steps: tuple[Step, ...] = steps_of(spec)

    @property
    def finished(self) -> bool:
        """Whether the mosaic is complete, and nothing is missing."""
        return self.journal.complete and not any(map(self.todo, self.steps))

    @property
    def left(self) -> tuple[float, float]:
        """The part of the tile blocks, and of the output blocks, that is still to be done."""
        steps: tuple[Step, ...] = "infer", "render"
        infer, render = (len(self.todo(step)) / len(self.tasks(step)) for step in steps)
        return infer, render

    def tasks(self, step: Step) -> dict[str, tuple[int, int]]:
        """Rows and columns of blocks, by block name."""
        if step == "render":
            return {block.name: block.index for block in self.spec.output_blocks}
        if step == "resolve":
            return {ALL: (0, 0)}
        rows, cols = self.spec.plan.block_grid
        return {f"{row}-{col}": (row, col) for row in range(rows) for col in range(cols)}

    def done(self, step: Step) -> list[BlockRecord]:
        """The records that count."""
        # A block of nothing but nodata has no objects: its record says nothing about a mosaic that is gone.
        if step == "render" and not Path(self.spec.output).exists():
            return []
        return list(self.journal_of(step).records(step, self.fingerprint(step)))

    def journal_of(self, step: Step) -> Journal:
        """Where a step's records are: those of inference may be another run's, whose store this one stitches."""
        return Journal(self.store.parent) if step == "infer" else self.journal

    def fingerprint(self, step: Step) -> str:
        """What a step's records must carry to count."""
        return str(getattr(self.spec, f"{step}_fingerprint"))

    def todo(self, step: Step) -> dict[str, tuple[int, int]]:
        """The tasks without a record; there are none to infer once the store was dropped after all was done."""
        if step == "infer" and self.journal.complete and not self.store.exists():
            return {}
        done = {record.block for record in self.done(step)}
        return {name: task for name, task in self.own(step).items() if name not in done}

    def own(self, step: Step) -> dict[str, tuple[int, int]]:
        """The tasks that are this run's to do."""
        tasks = self.tasks(step)
        if not self.shard:
            return tasks
        index, count = parse_shard(self.shard)
        first, last = (len(tasks) * number // count for number in (index, index + 1))
        return dict(islice(tasks.items(), first, last)) if step == "infer" else {}

    @property
    def store(self) -> Path:
        """Where the per-tile records lie."""
        return Path(os.path.normpath(self.journal.folder / self.spec.store))


def steps_of(spec: RunSpec) -> tuple[Step, ...]:
    """The steps of a run: only objects must be linked and resolved between inference and mosaic."""
    return ("infer", "link", "resolve", "render") if spec.objects else ("infer", "render")
