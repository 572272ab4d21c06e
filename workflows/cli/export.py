"""`eomt-batch export`: a mosaic in the formats of other programs."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from workflows.cli.options import OF_WORK, PATH, shared
from workflows.cli.progress import Meter

if TYPE_CHECKING:
    from pipeline.storage.paths import AnyPath

EXAMPLE = """\b
Examples:
  eomt-batch export masks.zarr --to cog -o classes.tif
  eomt-batch export masks.zarr --to gpkg -o objects.gpkg --array instances --simplify 0.5"""

FORMATS = ("cog", "gpkg", "fgb", "parquet", "stac")
ARRAYS = ("classes", "instances", "confidence")


@click.command(epilog=EXAMPLE)
@click.argument("mosaic", type=PATH, metavar="OUT.zarr")
@click.option("--to", type=click.Choice(FORMATS), required=True, help="The format.")
@click.option("--out", "-o", type=click.Path(path_type=Path), required=True, help="The file.")
@click.option(
    "--array",
    type=click.Choice(ARRAYS),
    help="What to write; default: classes, but as polygons the instances where there are some.",
)
@click.option(
    "--simplify",
    type=click.FloatRange(min=0),
    default=0,
    metavar="M",
    help="Metres that outlines may move, for fewer points (pixels without a CRS; a degree counts as one of latitude). "
    "Each is simplified for itself, so that gaps and overlaps between neighbours arise.",
)
@shared("overwrite", help="Replace a file that is there.")
@shared("as_json", *OF_WORK)
@click.pass_context
def export(ctx: click.Context, /, mosaic: "AnyPath", out: Path, as_json: bool, **options: Any) -> None:
    """Write a mosaic as a GeoTIFF, as polygons, or as a STAC item.

    cog: a Cloud Optimized GeoTIFF. gpkg, fgb, parquet: GeoPackage, FlatGeobuf and GeoParquet of connected regions of
    classes, or of objects, with id, class, name, score and area in square metres (before --simplify; pixels without
    a CRS); they need the extra vectors. stac: a STAC item; it needs the extra stac.
    """
    from pipeline.export.export import export_mosaic

    with Meter(ctx.obj) as meter:
        polygons = export_mosaic(mosaic, output=out, progress=meter, **options)
    if as_json:
        click.echo(json.dumps({"output": str(out), "bytes": out.stat().st_size, "polygons": polygons}))
    elif not ctx.obj.quiet:
        counted = "" if polygons is None else f", {polygons} polygons"
        click.echo(f"{out}: {out.stat().st_size / 1e6:.1f} MB{counted}")
