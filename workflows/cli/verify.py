"""`eomt-batch verify`: whether what a run has written is still what it wrote."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from workflows.cli.options import PATH, shared

if TYPE_CHECKING:
    from pipeline.storage.paths import AnyPath
    from pipeline.verify import Verified

EXAMPLE = "\b\nExample:\n  eomt-batch verify masks.zarr"


@click.command(epilog=EXAMPLE)
@click.argument("mosaic", type=PATH, metavar="OUT.zarr")
@shared("as_json", "verbose")
def verify(mosaic: "AnyPath", as_json: bool) -> int:
    """Hold every block against its checksum.

    Names what is damaged or gone; the same run command then makes just that anew. Exit code 75 where something is.
    """
    from pipeline.errors import RetryLater
    from pipeline.verify import verify as verify_run

    found = verify_run(mosaic)
    click.echo(json.dumps(asdict(found)) if as_json else "\n".join(words(found)))
    if found.damaged:
        raise RetryLater(f"{mosaic}: damaged blocks: {len(found.damaged)}; the same run command makes them anew")
    return 0


def words(found: "Verified") -> list[str]:
    """What was found, in lines."""
    damaged = [f"{one.step:<8} {one.block}: {', '.join(one.files)}" for one in found.damaged]
    counts = ", ".join(f"{step} {count}" for step, count in found.checked.items())
    return [*damaged, f"{found.output}: blocks held against their checksums: {counts}; {len(damaged)} damaged"]
