"""`eomt-batch demo`: a drawn scene, a model with random weights, and the whole way from one to a mosaic."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from workflows.cli.options import OF_WORK, Job, shared
from workflows.cli.run import segment, summary

if TYPE_CHECKING:
    from pipeline.report import Report

EXAMPLE = "\b\nExample:\n  eomt-batch demo trial/"

TILE = 256
SEED = 0


@click.command(epilog=EXAMPLE)
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), default="eomt-batch-demo", metavar="[DIR]")
@shared("as_json", *OF_WORK)
@click.pass_context
def demo(ctx: click.Context, /, folder: Path, as_json: bool) -> None:
    """Try everything on a drawn scene.

    Draws a scene, makes a small model with random weights, segments the one with the other. It shows that everything
    works here and what a run leaves behind. The model has learned nothing: its classes mean nothing.
    """
    from pipeline.config import RunConfig
    from pipeline.export.preview import draw_preview
    from pipeline.journal import Journal

    scene, model, mosaic = folder / "scene.tif", folder / "model", folder / "masks.zarr"
    folder.mkdir(parents=True, exist_ok=True)
    if not scene.exists():
        draw(scene)
    if not (model / "eomt_batch.json").exists():
        make_model(model, scene)
    report = segment(Job(str(scene), mosaic), RunConfig(model=str(model)), ctx.obj)
    draw_preview(Journal.of(mosaic).spec(), folder / "picture.png")
    click.echo(json.dumps(asdict(report)) if as_json else words(folder, report))


def draw(path: Path) -> None:
    """Write the scene; it appears when it is whole."""
    from pipeline.scenes import draw_scene, write_scene

    partial = path.with_name(f".{path.name}")
    write_scene(partial, draw_scene())
    partial.replace(path)


def make_model(folder: Path, scene: Path) -> None:
    """Write a small EoMT with random weights, the same each time, made to see pixels like the scene's."""
    import torch

    from eomt_core import save_model
    from eomt_core.card import ModelCard
    from eomt_core.untrained import untrained_eomt
    from pipeline.scenes import CLASSES, read_samples

    pixels = torch.from_numpy(read_samples(scene, TILE)).float() / 255
    notes = "Random weights: the classes mean nothing."
    card = ModelCard("random-demo", CLASSES, tasks=("semantic",), bands=("red", "green", "blue"), notes=notes)
    save_model(untrained_eomt(pixels, len(CLASSES), SEED), folder, card)


def words(folder: Path, report: "Report") -> str:
    """What was made, and how to look at it."""
    return f"""{summary(report)}

{folder}/scene.tif    a drawn landscape, 1 m pixels, EPSG:32640
{folder}/model/       an EoMT with RANDOM weights: the classes in the result mean nothing
{folder}/masks.zarr   the mosaic
{folder}/picture.png  the scene, and what became of it
{folder}/masks.run/   the run: options, per-tile records, report

Look at it:
  eomt-batch info {folder}/masks.zarr
  gdalinfo 'ZARR:"{folder}/masks.zarr":/0/classes'
  pip install xarray
  python -c "import xarray; print(xarray.open_zarr('{folder}/masks.zarr', group='0', mask_and_scale=False))"
"""
