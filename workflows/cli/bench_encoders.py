"""`eomt-batch bench encoders`: an experiment of an hour that goes on where it was stopped."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from workflows.cli.finetune import NAMES
from workflows.cli.options import shared

EXAMPLE = """\b
Examples:
  eomt-batch bench encoders 'tile*_rgb.tif' 'tile*_labels.tif' --val tile1 --val tile3
  eomt-batch bench encoders scenes/ labels/ --val tile1 --only vit-pytorch --only scalable-tiny --steps 1000"""


@click.command(epilog=EXAMPLE)
@click.argument("images", metavar="IMAGES")
@click.argument("labels", metavar="LABELS")
@click.option("--val", multiple=True, required=True, help="Pairs that are held out: stems, files, or a .txt list.")
@click.option(
    "--work",
    type=click.Path(file_okay=False, path_type=Path),
    default="eomt-batch-encoders",
    show_default=True,
    help="For results and models; the same command goes on from them.",
)
@click.option("--transfer", nargs=2, metavar="IMAGES LABELS", help="Objects that models are trained further on.")
@click.option("--steps", type=click.IntRange(1), default=200, show_default=True, help="Of each training.")
@click.option("--transfer-steps", type=click.IntRange(1), default=60, show_default=True, help="Of each further one.")
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True, help="Trainings of a configuration.")
@click.option("--only", multiple=True, help="A configuration, such as scalable-tiny; again for more. Default: all.")
@click.option("--tile-size", "tile", type=click.IntRange(32), default=128, show_default=True, help="Of crops, tiles.")
@click.option(
    "--side",
    "sides",
    type=click.IntRange(32),
    multiple=True,
    default=(256, 512, 1024),
    show_default=True,
    help="Of tiles whose costs are measured; again for more.",
)
@click.option("--attention", type=click.Path(dir_okay=False, path_type=Path), help="A picture of where queries look.")
@click.option("--classes", type=NAMES, default=(), help="Names for the picture, where the labels are numbers.")
@shared("as_json")
def encoders(as_json: bool, attention: Path | None, **options: Any) -> None:
    """Ways of the queries on ViT and ScalableViT against each other, trained alike at equal FLOPs.

    IMAGES and LABELS are paired as for finetune. Each model is scored on the pairs of --val, by a run from end to end.
    """
    from pipeline.bench.encoders.experiment import Experiment, conduct
    from pipeline.bench.encoders.table import tabulate
    from pipeline.bench.encoders.trial import Trial

    experiment, found = Experiment(**options), []
    for result in conduct(experiment):
        found.append(result)
        if isinstance(result, Trial):
            words = result.failed or f"mIoU {result.miou:.3f}"
            click.echo(f"{result.configuration}, seed {result.seed}: {words}   {result.seconds:.0f} s", err=True)
    for row in tabulate(found):
        click.echo(json.dumps(asdict(row)) if as_json else row.lines)
    if attention is not None:
        from pipeline.bench.encoders.picture import draw_experiment

        draw_experiment(experiment, attention)
