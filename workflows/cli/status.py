"""`eomt-batch status`: how far a run is."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from workflows.cli.options import PATH, shared
from workflows.cli.progress import some

if TYPE_CHECKING:
    from pipeline.report import Status
    from pipeline.storage.paths import AnyPath

EXAMPLE = "\b\nExample:\n  eomt-batch status masks.zarr --json"


@click.command(epilog=EXAMPLE)
@click.argument("mosaic", type=PATH, metavar="OUT.zarr")
@shared("as_json", "verbose")
def status(mosaic: "AnyPath", as_json: bool) -> None:
    """Show how far a run is.

    Blocks that are done, are missing, and have failed, step by step.
    """
    from pipeline.run import status as status_of

    found = status_of(mosaic)
    click.echo(json.dumps(asdict(found)) if as_json else "\n".join(words(found)))


def words(found: "Status") -> list[str]:
    """A status, in lines."""
    lines = [f"{found.output}: {'complete' if found.complete else 'not complete; the same run command continues'}"]
    for step, done in found.done.items():
        missing = found.missing[step]
        names = f"; missing: {some(missing)}" if missing else ""
        lines.append(f"{step:<10} {len(done)} of {len(done) + len(missing)} blocks done{names}")
    return lines + [f"failed     {block}: {reason}" for block, reason in found.skipped.items()]
