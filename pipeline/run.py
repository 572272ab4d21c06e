"""A run from end to end: PLAN, INFER, STITCH, FINISH, each continued from what already stands."""

import os
import shutil
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path
from typing import Any

from pipeline import budget, worker
from pipeline.cluster import Cluster, connect
from pipeline.config import RunConfig
from pipeline.errors import OutputError, RetryLater
from pipeline.journal import BlockRecord, Journal, Step, sweep
from pipeline.link import ALL
from pipeline.mosaic import Mosaic
from pipeline.mosaic import remove as remove_mosaic
from pipeline.object_table import write_objects
from pipeline.place import check_place, clear, continued, existing, restitched
from pipeline.prepare import prepare
from pipeline.report import OnProgress, Progress, Report, Status
from pipeline.spec import Engine, RunSpec
from pipeline.store import Store

SHOWN = 20
"""Missing blocks that a message names."""


def segment_raster(
    source: str | Path, output: str | Path, config: RunConfig, on_progress: OnProgress | None = None
) -> Report:
    """Segment one raster into a mosaic, or continue a run that was stopped.

    Raises:
        UsageError: Nothing was started.
        RunError: A block failed; the same call continues.
        RetryLater: The cluster gave way; the same call continues.
    """
    output = Path(output).resolve()
    journal = Journal.of(output)
    spec = prepare(str(source), output, config)
    check_place(output, config.overwrite)
    if not config.overwrite:
        spec = continued(journal, spec, config)
    run = Run(spec, journal, on_progress or _silent)
    budget.check(budget.of_config(spec, config), output, config.max_memory, run.left)
    with journal.lock():
        if config.overwrite:
            clear(output)
        continued(journal, spec, config)  # once more: another run may have begun and ended since
        journal.begin(spec)
        return run.all(config)


def stitch_raster(
    output: str | Path,
    new: str | Path | None = None,
    config: RunConfig | None = None,
    on_progress: OnProgress | None = None,
    **changes: Any,
) -> Report:
    """Stitch again from the stored records, in place or into a new mosaic.

    Args:
        output: A mosaic that a run has made or begun.
        new: Where the new mosaic goes; None: in place.
        config: Where the tasks run; None: in this process.
        on_progress: Told of every block.
        **changes: score_threshold, zarr_format, chunk; what is not given stays.

    Raises:
        UsageError: There is no run, its store was dropped, or a change is none that stitching can make.
        RetryLater: Tile blocks are missing.
    """
    old, place = existing(Path(output)), Path(new or output).resolve()
    spec = restitched(old, place, changes)
    journal = Journal.of(place)
    with journal.lock():
        _require_records(old)
        if journal.exists and journal.spec().render_fingerprint != spec.render_fingerprint:
            journal.drop("render")
            remove_mosaic(Path(spec.output))
        journal.begin(spec)
        return Run(spec, journal, on_progress or _silent).all(config or RunConfig(model=spec.model.location))


def status(output: str | Path) -> Status:
    """How far a run is.

    Raises:
        OutputError: There is no run.
    """
    journal = existing(Path(output))
    run = Run(replace(journal.spec(), output=str(Path(output).resolve())), journal, _silent)
    missing = {step: list(run.todo(step)) for step in run.steps}
    done = {step: [name for name in run.tasks(step) if name not in set(missing[step])] for step in run.steps}
    return Status(str(output), done, missing, run.finished)


class Run:
    """One run's steps over its journal.

    Args:
        spec: What is to be done.
        journal: What is done.
        on_progress: Told of every block.
    """

    def __init__(self, spec: RunSpec, journal: Journal, on_progress: OnProgress) -> None:
        self.spec = spec
        self.journal = journal
        self.on_progress = on_progress
        self.seconds: dict[str, float] = {}
        self.steps: tuple[Step, ...] = steps_of(spec)
        self.fresh: dict[Step, list[BlockRecord]] = {step: [] for step in self.steps}

    def all(self, config: RunConfig) -> Report:
        """Infer what is missing, stitch what is missing, finish; nothing of it where all is done."""
        try:
            if not self.finished:
                self._work(config)
                self._finish()
            if not config.keep_store:
                self.journal.drop_store()
            return self._report()
        finally:
            worker.forget()

    def _work(self, config: RunConfig) -> None:
        self.journal.reopen()
        sweep(self.journal.folder)
        if any(map(self.todo, self.steps)):
            with connect(config) as cluster:
                self._infer(cluster, config)
                self._join(cluster)
                self._render(cluster)

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
        """The records that count; those of inference may be another run's, whose store this one stitches."""
        if step == "infer":
            return list(Journal(self.store.parent).records(step, self.spec.infer_fingerprint))
        if step == "link":
            return list(self.journal.records(step, self.spec.link_fingerprint))
        if step == "resolve":
            return list(self.journal.records(step, self.spec.resolve_fingerprint))
        # A block of nothing but nodata has no objects: its record says nothing about a mosaic that is gone.
        mosaic = Path(self.spec.output).exists()
        return list(self.journal.records(step, self.spec.render_fingerprint)) if mosaic else []

    def todo(self, step: Step) -> dict[str, tuple[int, int]]:
        """The tasks without a record; there are none to infer once the store was dropped after all was done."""
        if step == "infer" and self.journal.complete and not self.store.exists():
            return {}
        done = {record.block for record in self.done(step)}
        return {name: task for name, task in self.tasks(step).items() if name not in done}

    @property
    def store(self) -> Path:
        """Where the per-tile records lie."""
        return Path(os.path.normpath(self.journal.folder / self.spec.store))

    def _infer(self, cluster: Cluster, config: RunConfig) -> None:
        engine = Engine(config.device, config.batch_size, config.readers, cluster.threads)
        if self.todo("infer"):
            self._create_store()
            self._step("infer", cluster, worker.infer_block, (engine,))

    def _join(self, cluster: Cluster) -> None:
        """Join segments to objects, where the run is for objects and the mosaic is not made yet."""
        if "link" in self.steps and self.todo("render"):
            if self.todo("link"):
                self._step("link", cluster, worker.link_block, ())
                self.journal.drop("resolve")
            if self.todo("resolve"):
                self._step("resolve", cluster, worker.resolve, ())

    def _render(self, cluster: Cluster) -> None:
        if self.todo("render"):
            self._create_mosaic()
            self._step("render", cluster, worker.render_block, ())

    def _step(self, step: Step, cluster: Cluster, function: Callable[..., Any], extra: tuple[Any, ...]) -> None:
        """Run the tasks of a step that have no record."""
        start, todo, fresh = time.perf_counter(), self.todo(step), self.fresh[step]
        before, new = sum(record.pixels for record in self.done(step)), 0
        self.on_progress(Progress(step, before, self.pixels, new, None))
        calls = ((str(self.journal.folder), *task, *extra) for task in todo.values())
        with closing(cluster.run(function, calls, alone=step == "infer")) as results:
            for record in results:
                fresh.append(record)
                new += record.pixels
                self.on_progress(Progress(step, before + new, self.pixels, new, record.block))
        self.seconds[step] = round(time.perf_counter() - start, 3)

    @property
    def pixels(self) -> int:
        """Of the raster."""
        return self.spec.plan.shape[0] * self.spec.plan.shape[1]

    def _create_store(self) -> None:
        """Make the store; one that is there stays, and one that is another run's is not ours to fill."""
        if self.store.parent != self.journal.folder:
            raise RetryLater(f"{self.store}: tile blocks are missing; finish the run that they belong to first")
        if self.store.exists():
            return
        partial = self.store.with_name("store.partial")
        shutil.rmtree(partial, ignore_errors=True)
        Store(partial, self.spec.plan, self.spec.record_layout).create()
        partial.replace(self.store)

    def _create_mosaic(self) -> None:
        spec, model = self.spec, self.spec.model
        if Path(spec.output).exists():
            return
        Mosaic.create(
            Path(spec.output),
            spec.raster.grid,
            spec.raster.crs,
            classes=model.classes,
            colours=model.colours,
            instances=spec.objects,
            zarr_format=spec.zarr_format,
            chunk=spec.chunk,
            provenance=spec.provenance(),
        )

    def _finish(self) -> None:
        """Consolidate the mosaic, write the report, and say last that all is complete."""
        sweep(Path(self.spec.output), age=0)  # zarr would warn of what it does not know, and nobody writes any more
        Mosaic.open(Path(self.spec.output)).finish()
        if self.spec.objects:
            write_objects(self.journal.folder, self.spec.model.classes, self.spec.output_blocks)
        self.journal.note("report.json", asdict(self._report()))
        self.journal.note("COMPLETE", {"fingerprint": self.spec.render_fingerprint})

    def _report(self) -> Report:
        parts: dict[str, float] = {}
        for record in chain.from_iterable(self.fresh.values()):
            for part, seconds in record.seconds.items():
                parts[part] = round(parts.get(part, 0) + seconds, 3)
        inferred = self.fresh["infer"]
        return Report(
            output=self.spec.output,
            pixels=self.pixels,
            tiles=sum(record.tiles for record in inferred),
            inferred=len(inferred),
            reused=len(self.tasks("infer")) - len(inferred),
            rendered=len(self.fresh["render"]),
            objects=sum(record.segments for record in self.done("resolve")) if self.spec.objects else None,
            saturated=sum(record.saturated for record in self.done("link")) if self.spec.objects else 0,
            seconds=self.seconds,
            parts=parts,
        )


def steps_of(spec: RunSpec) -> tuple[Step, ...]:
    """The steps of a run: only objects must be linked and resolved between inference and mosaic."""
    return ("infer", "link", "resolve", "render") if spec.objects else ("infer", "render")


def _require_records(journal: Journal) -> None:
    """Raises RetryLater where tile blocks are missing, UsageError where the store is gone."""
    run = Run(journal.spec(), journal, _silent)
    if not run.store.exists():
        raise OutputError(f"{journal.folder}: the per-tile records are not there; run again with --keep-store")
    missing = list(run.todo("infer"))
    if missing:
        some = ", ".join(missing[:SHOWN]) + (", ..." if len(missing) > SHOWN else "")
        raise RetryLater(f"{journal.folder}: {len(missing)} tile blocks are missing ({some}); finish them with run")


def _silent(progress: Progress) -> None:
    """No one asked."""
