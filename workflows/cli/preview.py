"""`eomt-batch preview`: a mosaic as a picture, or as a page."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.errors import UsageError
from workflows.cli.options import OF_WORK, PATH, Parsed, shared

if TYPE_CHECKING:
    from pipeline.storage.paths import AnyPath

EXAMPLE = (
    "\b\nExamples:\n  eomt-batch preview masks.zarr -o preview.png\n"
    "  eomt-batch preview masks.zarr --image input.tif -o report.html"
)


def _target(text: str) -> Path:
    path = Path(text)
    if path.suffix not in (".png", ".html"):
        raise UsageError(f"{text}: give a name that ends in .png for a picture, or in .html for a page")
    if not path.parent.is_dir() or path.is_dir() or not os.access(path.parent, os.W_OK):
        raise UsageError(f"{text}: cannot be written there; give a name in a folder that is there and may be written")
    return path


@click.command(epilog=EXAMPLE)
@click.argument("mosaic", type=PATH, metavar="OUT.zarr")
@click.option("--image", metavar="INPUT", help="The raster behind it; default: the run's input.")
@click.option(
    *("--out", "-o", "target"),
    type=Parsed("file", _target),
    metavar="FILE",
    required=True,
    help="A .png, or a .html to pan and zoom.",
)
@shared("allow_vrt", "allow_remote", "max_block_bytes", "as_json", *OF_WORK)
@click.pass_context
def preview(
    ctx: click.Context, /, mosaic: "AnyPath", image: str | None, target: Path, as_json: bool, **options: Any
) -> None:
    """Show a mosaic.

    A picture of the image, classes, objects and confidence; or the report that each run leaves in its folder, a page
    that needs no network. Both are thinned: they take seconds where there are coarser levels.
    """
    from pipeline.export.panes import Subject
    from pipeline.export.preview import draw_preview
    from pipeline.export.report import write_report

    subject = Subject.open(mosaic, image, **options)
    for note in subject.notes:
        ctx.obj.say(f"eomt-batch: {note}")
    (write_report if target.suffix == ".html" else draw_preview)(subject, target)
    click.echo(json.dumps({"preview": str(target), "bytes": target.stat().st_size}) if as_json else str(target))
