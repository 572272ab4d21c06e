"""`eomt-batch run`: rasters in, mosaics out."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from workflows.cli import settings
from workflows.cli.jobs import Job, jobs
from workflows.cli.main import Failure, explain, tell
from workflows.cli.options import OF_RUN, config_of, shared
from workflows.cli.plan import facts, words
from workflows.cli.progress import MEGA, Console, Meter, some
from workflows.cli.trust import warn_of_scheduler

if TYPE_CHECKING:
    from pipeline.config import RunConfig
    from pipeline.report import Progress, Report
    from pipeline.storage.paths import AnyPath

EXAMPLE = """\b
Examples:
  eomt-batch run input.tif --model DIR --out masks.zarr
  eomt-batch run tiles/*.tif --model ORG/NAME --out masks/ --overlap 128 --device cuda"""

SOME_FAILED = 3


@click.command(epilog=EXAMPLE)
@click.argument("inputs", nargs=-1, metavar="INPUT...")
@shared(*OF_RUN)
@click.pass_context
def run(ctx: click.Context, /, inputs: tuple[str, ...], **options: Any) -> int:
    """Segment rasters into Zarr mosaics.

    The same command continues a run that was stopped.
    """
    if options["print_config"]:
        click.echo(settings.to_toml(ctx.command.params, options))
        return 0
    if options["out"] is None:
        raise click.UsageError("--out is missing: give a .zarr for one input, a folder for several")
    config = config_of(options)
    todo = jobs(inputs, options["input_list"], options["out"])
    warn_of_scheduler(config, ctx.obj)
    if len(todo) > 1:
        return _several(todo, config, ctx.obj, options["as_json"])
    report = segment(todo[0], config, ctx.obj)
    show(report, ctx.obj, options["as_json"])
    return code_of(report)


def segment(job: Job, config: "RunConfig", console: Console) -> "Report":
    """Segment one raster, telling first what was decided and then how far it is.

    Raises:
        EomtBatchError: See `pipeline.segment_raster`.
    """
    from pipeline.run import segment_raster

    assert job.output is not None
    output, told = job.output, False
    with Meter(console) as meter:

        def follow(progress: "Progress") -> None:
            nonlocal told
            if not told:
                _announce(output, config, console)
                told = True
            meter(progress)

        return segment_raster(job.source, output, config, follow)


def _announce(output: "AnyPath", config: "RunConfig", console: Console) -> None:
    """Say what was decided, from the run spec that now stands."""
    from pipeline.steps.journal import Journal

    spec = Journal.of(output).spec()
    console.say("\n".join(words(spec, config)), "plan", **facts(spec, config))


def _several(todo: list[Job], config: "RunConfig", console: Console, as_json: bool) -> int:
    """Segment many rasters; one that fails does not stop the others."""
    from eomt_core.describe import describe_model

    describe_model(config.model, config.base)  # one word about it, not one per raster
    failed: dict[str, Failure] = {}
    code = 0
    for number, job in enumerate(todo, 1):
        console.say(f"[{number}/{len(todo)}] {job.name}", "input", input=job.name, number=number, of=len(todo))
        report = _attempt(job, config, console)
        if isinstance(report, Failure):
            failed[job.name] = report
        else:
            code = max(code, code_of(report))
            if not as_json:
                show(report, console, as_json)
        if as_json:
            click.echo(json.dumps({"input": job.name, **_outcome(report)}))
    return _verdict(failed, len(todo), console) if failed else code


def _attempt(job: Job, config: "RunConfig", console: Console) -> "Report | Failure":
    """Segment one of many; what would stop all the others too is raised."""
    from pipeline.errors import RetryLater

    try:
        return segment(job, config, console)
    except RetryLater:
        raise
    except Exception as error:
        failure = explain(error)
        if failure.code == RetryLater.exit_code:
            raise
        tell(console, failure, error)
        return failure


def _outcome(result: "Report | Failure") -> dict[str, Any]:
    return {"error": result.text, "exit_code": result.code} if isinstance(result, Failure) else asdict(result)


def _verdict(failed: dict[str, Failure], count: int, console: Console) -> int:
    """The exit code of many: that of the failures where nothing succeeded, 3 where something did."""
    codes = {failure.code for failure in failed.values()}
    every = codes.pop() if len(codes) == 1 else 1
    code = SOME_FAILED if len(failed) < count else every
    console.error(f"eomt-batch: error: {len(failed)} of {count} inputs failed: {', '.join(failed)}", code)
    return code


def code_of(report: "Report") -> int:
    """The exit code of a run that came to its end."""
    return SOME_FAILED if report.skipped else 0


def show(report: "Report", console: Console, as_json: bool) -> None:
    """Print a report."""
    if as_json:
        click.echo(json.dumps(asdict(report)))
    elif not console.quiet:
        click.echo(summary(report))


def summary(report: "Report") -> str:
    """A report, in words."""
    blocks = report.inferred + report.reused
    steps = [f"{step} {seconds:.1f} s" for step, seconds in report.seconds.items()]
    done = [
        f"{report.inferred} of {blocks} tile blocks inferred ({report.tiles} tiles)",
        f"{report.reused} reused",
        f"part {report.shard} only; after all parts: eomt-batch stitch {report.output}"
        if report.shard
        else f"{report.rendered} output blocks written",
        *_notes(report),
    ]
    return f"{report.output}: {report.pixels / MEGA:.2f} Mpx; {', '.join([*done, *steps])}"


def _notes(report: "Report") -> Iterator[str]:
    if report.skipped:
        yield f"{len(report.skipped)} tile blocks failed and are nodata ({some(report.skipped)}); a rerun tries them"
    if report.objects is not None:
        yield f"{report.objects} objects"
    if report.saturated:
        yield f"{report.saturated} tiles with nearly all queries taken: try a smaller --tile-size there"
