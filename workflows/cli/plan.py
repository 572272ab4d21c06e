"""`eomt-batch plan`: what a run would do, known before it does anything. No torch, no workers, nothing written."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.addresses import public
from workflows.cli import settings
from workflows.cli.jobs import Job, jobs, stem_of
from workflows.cli.options import OF_RUN, config_of, shared
from workflows.cli.progress import MEGA

if TYPE_CHECKING:
    from pipeline.budget import Bill
    from pipeline.config import RunConfig
    from pipeline.spec import RunSpec

EXAMPLE = "\b\nExample:\n  eomt-batch plan input.tif --model DIR --tile-size 640 --overlap 25% --json"


@click.command(epilog=EXAMPLE)
@click.argument("inputs", nargs=-1, metavar="INPUT...")
@shared(*OF_RUN)
@click.pass_context
def plan(ctx: click.Context, /, inputs: tuple[str, ...], **options: Any) -> None:
    """Show what run would do.

    Tiles, blocks, memory, disk, device. Takes the options of run and starts nothing; --out may be left out.
    """
    if options["print_config"]:
        click.echo(settings.to_toml(ctx.command.params, options))
        return
    for job in jobs(inputs, options["input_list"], options["out"]):
        _show(job, config_of(options), options["as_json"])


def _show(job: Job, config: "RunConfig", as_json: bool) -> None:
    """Print one raster's plan; a plan that does not fit is printed, then refused."""
    from pipeline import budget
    from pipeline.prepare import prepare

    output = job.output or Path(f"{stem_of(job.source)}.zarr")
    spec = prepare(job.source, output, config)
    bill = budget.of_config(spec, config)
    if job.output:
        spec = _continued(spec, config)
    if as_json:
        click.echo(json.dumps({**facts(spec, config), **costs(bill)}))
    else:
        click.echo("\n".join([*words(spec, config), *bill_words(bill)]))
    budget.check(bill, output, config.max_memory)


def _continued(spec: "RunSpec", config: "RunConfig") -> "RunSpec":
    """The spec with which run would begin or go on at this output, refused where run would refuse."""
    from pipeline.place import check_place, continued
    from pipeline.steps.journal import Journal
    from pipeline.storage.paths import path_of

    output = path_of(spec.output)
    check_place(output, config.overwrite)
    return spec if config.overwrite else continued(Journal.of(output), spec, config)


def facts(spec: "RunSpec", config: "RunConfig") -> dict[str, Any]:
    """All that is decided before a run begins, for machines."""
    from pipeline.cluster import together

    tiles, raster, model = spec.plan, spec.raster, spec.model
    return {
        "input": public(raster.path),
        "output": spec.output,
        "shape": raster.grid.shape,
        "dtype": raster.dtype,
        "bands": raster.bands,
        "scale": str(spec.scaling),
        "notes": raster.notes,
        "model": {name: getattr(model, name) for name in ("name", "sha256", "num_classes", "num_queries", "lattice")},
        "task": spec.task,
        "tile_size": tiles.tile_size,
        "overlap": tiles.overlap,
        "stride": (tiles.rows.stride, tiles.cols.stride),
        "tiles": len(tiles),
        "tile_grid": tiles.grid,
        "tile_blocks": tiles.block_grid[0] * tiles.block_grid[1],
        "output_blocks": len(spec.output_blocks),
        "levels": spec.levels,
        "device": likely_device(config),
        "precision": spec.precision,
        "batch_size": config.batch_size or "auto",
        "workers": config.workers,
        "threads": 1 if config.workers else together(),
        "readers": config.readers,
    }


def costs(bill: "Bill") -> dict[str, Any]:
    """What a run takes, in bytes, for machines."""
    from pipeline.budget import available_memory

    return {"bytes": {**asdict(bill), "memory_available": available_memory()}}


def words(spec: "RunSpec", config: "RunConfig") -> list[str]:
    """What is decided before a run begins, in lines."""
    known = facts(spec, config)
    rows, cols = spec.raster.grid.shape
    where = config.scheduler or config.scheduler_file or (f"{config.workers} processes" if config.workers else "here")
    return [
        f"input    {known['input']}: {rows} x {cols} pixels ({rows * cols / MEGA:.1f} Mpx), {known['dtype']}, "
        f"bands {','.join(map(str, known['bands']))}, scale {known['scale']}",
        *(f"note     {Path(known['input']).name} {note}" for note in known["notes"]),
        f"model    {spec.model.name}: {spec.model.num_classes} classes, {spec.model.num_queries} queries, "
        f"lattice {spec.model.lattice}; task {known['task']}",
        f"tiles    {_pair(known['tile_size'])}, overlap {_pair(known['overlap'])}, stride {_pair(known['stride'])}: "
        f"{_pair(known['tile_grid'])} = {known['tiles']} tiles; tile blocks: {known['tile_blocks']}, "
        f"output blocks: {known['output_blocks']}",
        f"device   {known['device']}, precision {known['precision']}, batch size {known['batch_size']}, "
        f"{known['threads']} threads, {known['readers']} readers, workers: {where}",
    ]


def bill_words(bill: "Bill") -> list[str]:
    """What a run takes, in lines."""
    from pipeline.budget import available_memory

    return [
        f"memory   {_size(bill.memory)} of {_size(available_memory())} (a process that infers: "
        f"{_size(bill.inference)} beyond its fixed part, one that renders: {_size(bill.rendering)})",
        f"disk     up to {_size(bill.store)} of records and {_size(bill.mosaic)} of mosaic, before compression",
    ]


def likely_device(config: "RunConfig") -> str:
    """The device that will be taken, as far as it shows without asking torch."""
    from pipeline.devices import choose_device

    device = choose_device(config)
    return "the workers'" if device == "auto" else device


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _pair(values: tuple[int, int]) -> str:
    return f"{values[0]}x{values[1]}"
