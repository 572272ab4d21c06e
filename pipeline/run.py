"""A run from end to end: PLAN, INFER, STITCH, FINISH, each continued from what already stands."""

import time
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import asdict, replace
from itertools import chain, groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from pipeline import budget
from pipeline.cluster import Cluster, connect
from pipeline.cluster.flight import OnFailure
from pipeline.cluster.pulse import stopping
from pipeline.config import RunConfig
from pipeline.devices import device_of_worker
from pipeline.errors import RetryLater
from pipeline.export.report import report_run
from pipeline.mosaic.companions import write_companions
from pipeline.mosaic.mosaic import Mosaic
from pipeline.place import check_place, clear, clear_mosaic, continued, existing, require_records, restitched
from pipeline.prepare import prepare
from pipeline.report import OnProgress, Progress, Report, Status
from pipeline.spec import Engine
from pipeline.steps import worker
from pipeline.steps.journal import BlockRecord, Journal, Step, sweep
from pipeline.steps.object_table import count_objects, write_objects
from pipeline.steps.tasks import Task, Tasks
from pipeline.storage.buckets import answering
from pipeline.storage.paths import AnyPath, built, path_of, remove_tree
from pipeline.store import Store


@answering()
def segment_raster(
    source: str | Path, output: str | AnyPath, config: RunConfig, on_progress: OnProgress | None = None
) -> Report:
    """Segment one raster into a mosaic, or continue a run that was stopped.

    Raises:
        UsageError: Nothing was started.
        RunError: A block failed; the same call continues.
        RetryLater: The cluster gave way; the same call continues.
    """
    output = path_of(output).resolve()
    journal = Journal.of(output)
    spec = prepare(str(source), output, config)
    check_place(output, config.overwrite)
    if not config.overwrite:
        spec = continued(journal, spec, config)
    tasks = Tasks(spec, journal, config.shard)
    budget.check(budget.of_config(spec, config), output, config.max_memory, tasks.share_left)
    with journal.lock(config.shard):
        if config.overwrite:
            clear(output)
        if config.shard:
            journal.found(spec)
        continued(journal, spec, config)  # once more: another run may have begun and ended since
        if config.shard:
            return Run(tasks, on_progress or _silent).part(config)
        journal.begin(spec)
        return Run(tasks, on_progress or _silent).all(config)


@answering()
def stitch_raster(
    output: str | AnyPath,
    new: str | AnyPath | None = None,
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
        **changes: Options of stitching and layout, as score_threshold or chunk; what is not given stays.

    Raises:
        UsageError: There is no run, its store was dropped, or a change is none that stitching can make.
        RetryLater: Tile blocks are missing.
    """
    old, place = existing(path_of(output)), path_of(new or output).resolve()
    spec = restitched(old, place, changes)
    journal = Journal.of(place)
    with journal.lock():
        require_records(old)
        if journal.exists and journal.spec().render_fingerprint != spec.render_fingerprint:
            journal.drop("render")
            clear_mosaic(path_of(spec.output))
        journal.begin(spec)
        run = Run(Tasks(spec, journal), on_progress or _silent)
        return run.all(config or RunConfig(model=spec.model.location), infer=False)


@answering()
def status(output: str | AnyPath) -> Status:
    """How far a run is.

    Raises:
        OutputError: There is no run.
    """
    journal = existing(path_of(output))
    tasks = Tasks(replace(journal.spec(), output=str(path_of(output).resolve())), journal)
    missing = {step: list(tasks.left(step)) for step in tasks.steps}
    done = {step: [name for name in tasks.of(step) if name not in set(missing[step])] for step in tasks.steps}
    return Status(str(output), done, missing, tasks.skipped, tasks.finished)


class Run:
    """One run's steps.

    Args:
        tasks: What is to be done, and what is done.
        on_progress: Told of every block.
    """

    def __init__(self, tasks: Tasks, on_progress: OnProgress) -> None:
        self.tasks, self.spec, self.journal = tasks, tasks.spec, tasks.journal
        self.on_progress = on_progress
        self.seconds: dict[str, float] = {}
        self.fresh: dict[Step, list[BlockRecord]] = {step: [] for step in tasks.steps}

    def all(self, config: RunConfig, infer: bool = True) -> Report:
        """Infer what is missing, if asked to, stitch what is missing, finish; nothing of it where all is done."""
        try:
            if not self.tasks.finished:
                self._work(config, infer)
                self._finish()
            if not config.keep_store and not self.tasks.skipped:
                self.journal.drop_store()
            return self._report()
        finally:
            worker.forget()

    def part(self, config: RunConfig) -> Report:
        """Infer what is missing of this part of the tile blocks."""
        try:
            with connect(config) as cluster, stopping(str(self.journal.folder)):
                self._infer(cluster, config)
            return self._report()
        finally:
            worker.forget()

    def _work(self, config: RunConfig, infer: bool) -> None:
        self.journal.reopen()
        sweep(self.journal.folder)
        if any(map(self.tasks.left, self.tasks.steps)):
            with connect(config) as cluster, stopping(str(self.journal.folder)):
                if infer:
                    self._infer(cluster, config)
                self._join(cluster)
                self._render(cluster)
                self._downsample(cluster)

    def _infer(self, cluster: Cluster, config: RunConfig) -> None:
        address = self.spec.raster.address
        engine = Engine(device_of_worker(config), config.batch_size, config.readers, cluster.threads, address)
        if self.tasks.left("infer"):
            self._create_store()
            on_failure = worker.skip_block if config.on_error == "skip" else None
            self._step("infer", cluster, worker.infer_block, extra=(engine,), on_failure=on_failure)

    def _join(self, cluster: Cluster) -> None:
        """Join segments to objects, where the run is for objects and the mosaic is not made yet."""
        if "link" in self.tasks.steps and self.tasks.left("render"):
            if self.tasks.left("link"):
                self._step("link", cluster, worker.link_block)
                self.journal.drop("resolve")
            if self.tasks.left("resolve"):
                self._step("resolve", cluster, worker.resolve)

    def _render(self, cluster: Cluster) -> None:
        if self.tasks.left("render"):
            # Before, not after: a run that is killed in between would find coarser levels of other pixels done.
            self.journal.drop("downsample")
            self._create_mosaic()
            self._step("render", cluster, worker.render_block)

    def _downsample(self, cluster: Cluster) -> None:
        """Make the coarser levels, each from the finer one, which must be whole."""
        levels = [list(tasks) for _, tasks in groupby(self.tasks.left("downsample").values(), itemgetter(0))]
        if levels:
            self._step("downsample", cluster, worker.downsample_block, waves=levels)

    def _step(
        self,
        step: Step,
        cluster: Cluster,
        function: Callable[..., Any],
        extra: tuple[Any, ...] = (),
        waves: Iterable[Iterable[Task]] | None = None,
        on_failure: OnFailure | None = None,
    ) -> None:
        """Run the tasks of a step that have no record; those of a wave when the wave before is done."""
        start, total, fresh = time.perf_counter(), self.tasks.pixels(step), self.fresh[step]
        before, new = sum(record.pixels for record in self.tasks.done(step)), 0
        self.on_progress(Progress(step, before, total, new, None))
        for tasks in waves or [self.tasks.left(step).values()]:
            calls = ((str(self.journal.folder), *task, *extra) for task in tasks)
            with closing(cluster.run(function, calls, step == "infer", on_failure)) as results:
                for record in results:
                    fresh.append(record)
                    new += record.pixels
                    self.on_progress(Progress(step, before + new, total, new, record.block))
        self.seconds[step] = round(time.perf_counter() - start, 3)

    def _create_store(self) -> None:
        """Make the store, as the mosaic is made; one that is another run's is not ours to fill."""
        store = self.tasks.store
        if store.parent != self.journal.folder:
            raise RetryLater(f"{store}: tile blocks are missing; finish the run that they belong to first")
        if isinstance(store, Path) and store.exists():
            return
        for stale in self.journal.folder.glob(".store.*") if not self.tasks.shard else ():
            remove_tree(stale)
        try:
            with built(store) as folder:
                Store(folder, self.spec.plan, self.spec.record_layout).create()
        except OSError:
            if not store.exists():  # else another part of the run was faster
                raise

    def _create_mosaic(self) -> None:
        """Make the mosaic; one that is there stays, but in a bucket it may have been begun, and is made again."""
        spec, model = self.spec, self.spec.model
        output = path_of(spec.output)
        if isinstance(output, Path) and output.exists():
            return
        Mosaic.create(
            output,
            spec.raster.grid,
            spec.raster.crs,
            classes=model.classes,
            colours=model.colours,
            instances=spec.objects,
            zarr_format=spec.zarr_format,
            chunk=spec.chunk,
            shard=spec.layout.shard,
            levels=spec.levels,
            provenance=spec.provenance(),
        )

    def _finish(self) -> None:
        """Consolidate the mosaic, write what stands beside it and the report, and say last that all is complete."""
        sweep(path_of(self.spec.output), age=0)  # zarr would warn of what it does not know, and nobody writes any more
        mosaic = Mosaic.open(path_of(self.spec.output))
        mosaic.finish()
        write_companions(mosaic)
        if self.spec.objects:
            write_objects(self.journal.folder, self.spec.model.classes, self.spec.output_blocks)
        self.journal.note("report.json", asdict(self._report()))
        worker.forget()  # the report's pictures take the room that the model had
        report_run(self.spec.output)
        self.journal.note("COMPLETE", {"fingerprint": self.spec.render_fingerprint})

    def _report(self) -> Report:
        parts: dict[str, float] = {}
        for record in chain.from_iterable(self.fresh.values()):
            for part, seconds in record.seconds.items():
                parts[part] = round(parts.get(part, 0) + seconds, 3)
        inferred = [record for record in self.fresh["infer"] if not record.skipped]
        skipped = self.tasks.skipped
        return Report(
            output=self.spec.output,
            pixels=self.tasks.pixels("render"),
            tiles=sum(record.tiles for record in inferred),
            inferred=len(inferred),
            reused=len(self.tasks.own("infer")) - len(inferred) - len(skipped),
            rendered=len(self.fresh["render"]),
            objects=count_objects(self.journal.folder) if self.spec.objects else None,
            saturated=sum(record.saturated for record in self.tasks.done("link")) if self.spec.objects else 0,
            skipped=skipped,
            shard=self.tasks.shard,
            seconds=self.seconds,
            parts=parts,
        )


def _silent(progress: Progress) -> None:
    """No one asked."""
