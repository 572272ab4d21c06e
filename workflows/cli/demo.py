"""`eomt-batch demo`: a drawn scene, segmented by the embedded model, scored and drawn."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from workflows.cli.evaluate import words as scores
from workflows.cli.jobs import Job
from workflows.cli.options import OF_WORK, shared
from workflows.cli.run import segment, summary

if TYPE_CHECKING:
    from pipeline.evaluate import Evaluation
    from pipeline.report import Report

EXAMPLE = "\b\nExamples:\n  eomt-batch demo\n  eomt-batch demo trial/ --seed 7"

SEED = 5
"""Of the scene, unless another is asked for; the embedded model was trained on seeds from 1000 on."""

SIDE = 1536


@click.command(epilog=EXAMPLE)
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), default="eomt-batch-demo", metavar="[DIR]")
@click.option("--seed", type=click.IntRange(0, 999), default=SEED, help="Of the scene.")
@shared("as_json", *OF_WORK)
@click.pass_context
def demo(ctx: click.Context, /, folder: Path, seed: int, as_json: bool) -> None:
    """Try everything on a drawn scene.

    Draws land seen from above with its truth, segments it with the embedded model, scores the result, and makes a
    picture of it. The model has seen drawn scenes in its training, but none of these.
    """
    from pipeline.config import RunConfig
    from pipeline.evaluate import evaluate_mosaic
    from pipeline.export.panes import Subject
    from pipeline.export.preview import draw_preview

    folder.mkdir(parents=True, exist_ok=True)
    scene, truth, mosaic = folder / f"scene-{seed}.tif", folder / f"truth-{seed}.tif", folder / f"masks-{seed}.zarr"
    if not (scene.exists() and truth.exists()):
        draw(scene, truth, seed)
    report = segment(Job(str(scene), mosaic), RunConfig(), ctx.obj)
    evaluation = evaluate_mosaic(mosaic, truth)
    picture = folder / f"picture-{seed}.png"
    draw_preview(Subject.open(mosaic), picture, truth)
    if as_json:
        click.echo(json.dumps({**asdict(report), "evaluation": evaluation.to_json()}))
    elif not ctx.obj.quiet:
        click.echo(words(scene, truth, mosaic, picture, report, evaluation))


def draw(scene: Path, truth: Path, seed: int) -> None:
    """Write a scene and its truth; each appears when it is whole."""
    from pipeline.scenes import HOMELY, draw_scene, write_scene, write_truth

    drawn = draw_scene(SIDE, seed, HOMELY)
    writers: dict[Path, Callable[..., None]] = {truth: write_truth, scene: write_scene}
    for path, write in writers.items():
        partial = path.with_name(f".{path.name}")
        write(partial, drawn)
        partial.replace(path)


def words(scene: Path, truth: Path, mosaic: Path, picture: Path, report: "Report", evaluation: "Evaluation") -> str:
    """What was made, with the commands that make it."""
    table = "\n".join(scores(evaluation))
    return f"""{summary(report)}

{table}

{scene}    land seen from above, drawn: 1 m pixels, EPSG:32640
{truth}    its classes
{mosaic}    what the model aerial-tiny makes of it
{picture}    image, truth, classes and confidence
{mosaic.with_suffix(".run") / "report.html"}    maps to pan and zoom, areas and figures of the run, for any browser

The commands, for files of your own:
  eomt-batch run {scene} --out {mosaic}
  eomt-batch evaluate {mosaic} {truth}
  eomt-batch preview {mosaic} -o preview.png
  gdalinfo 'ZARR:"{mosaic}":/0/classes'
"""
