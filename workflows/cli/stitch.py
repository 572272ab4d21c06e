"""`eomt-batch stitch`: a mosaic again, from what inference has stored."""

from typing import TYPE_CHECKING, Any

import click

from workflows.cli.options import OF_CLUSTER, OF_STITCH, OF_WORK, PATH, shared
from workflows.cli.progress import Meter
from workflows.cli.run import code_of, show
from workflows.cli.trust import warn_of_scheduler

if TYPE_CHECKING:
    from pipeline.storage.paths import AnyPath

EXAMPLE = "\b\nExample:\n  eomt-batch stitch masks.zarr --out strict.zarr --score-threshold 0.5"


@click.command(epilog=EXAMPLE)
@click.argument("mosaic", type=PATH, metavar="OUT.zarr")
@click.option("--out", "-o", "new", type=PATH, help="A new mosaic; default: in place.")
@shared(*OF_STITCH, default=None, show_default="as it was")
@shared(*OF_CLUSTER)
@shared("as_json", *OF_WORK)
@click.pass_context
def stitch(ctx: click.Context, /, mosaic: "AnyPath", new: "AnyPath | None", as_json: bool, **options: Any) -> int:
    """Stitch again from what inference has stored.

    With other thresholds or another layout; takes no model and no GPU. What is not given stays as it was.
    """
    from pipeline.config import RunConfig
    from pipeline.place import existing
    from pipeline.run import stitch_raster

    changes = {name: options[name] for name in OF_STITCH if options[name] is not None}
    spec = existing(mosaic).spec()
    cluster = {name: options[name] for name in OF_CLUSTER if options[name] is not None}
    config = RunConfig(model=spec.model.location, **{**spec.facts("layout"), **changes}, **cluster)
    warn_of_scheduler(config, ctx.obj)
    with Meter(ctx.obj) as meter:
        report = stitch_raster(mosaic, new, config, meter, **changes)
    show(report, ctx.obj, as_json)
    return code_of(report)
