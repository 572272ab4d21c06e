"""`eomt-batch finetune`: a model from rasters with truth."""

import json
import os
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from pipeline.errors import UsageError
from pipeline.finetune.config import FinetuneConfig
from workflows.cli.options import FC, OF_WORK, Parsed, shared
from workflows.cli.progress import EVERY, Console, on_terminal

if TYPE_CHECKING:
    from pipeline.finetune import Outcome, Pulse

EXAMPLE = """\b
Examples:
  eomt-batch finetune images/ labels/ --model aerial-tiny --val 20% -o my-model/
  eomt-batch finetune scene.tif roofs.gpkg --outside land --model new:hybrid-tiny --minutes 30 -o roofs/
  eomt-batch run input.tif --model my-model/ --out masks.zarr"""

CACHE_MB = 2048
"""GDAL's cache for decoded blocks: a training comes back to the same scenes all the time."""


def _numbers(count: int) -> Callable[[str], tuple[float, ...]]:
    def parse(text: str) -> tuple[float, ...]:
        try:
            values = tuple(float(part) for part in text.split(","))
        except ValueError:
            values = ()
        if len(values) != count:
            raise UsageError(f"{text}: give {count} numbers joined by commas")
        return values

    return parse


def _names(text: str) -> tuple[str, ...]:
    names = tuple(part.strip() for part in text.split(","))
    if not all(names):
        raise UsageError(f"{text}: give names joined by commas")
    return names


NAMES = Parsed("A,B,...", _names)

DEFAULTS = FinetuneConfig("", "", "", "")


def _own(name: str, **more: Any) -> Callable[[FC], FC]:
    """An option that only this command has, with the default that training has."""
    return click.option(f"--{name.replace('_', '-')}", name, default=getattr(DEFAULTS, name), **more)


@click.command(epilog=EXAMPLE)
@click.argument("images", metavar="IMAGES")
@click.argument("labels", metavar="LABELS")
@shared(
    "model",
    default=None,
    help="A model as for run, to train further; or a new one: new:hybrid-tiny, new:TIMM_NAME, or see `models new`.",
)
@shared("base")
@click.option("--out", "-o", "output", required=True, help="A folder for the training and the model that it makes.")
@_own(
    "val",
    multiple=True,
    metavar="WHICH",
    help="A pair to validate with: a stem, a file, a .txt list of them; may be given several times. Or 20%: about so "
    "many, look-alikes kept together. Default: none.",
)
@_own("task", type=click.Choice(["semantic", "instance"]), help="Default: the model's; semantic for a new one.")
@_own("classes", type=NAMES, help="Names by class id; default: the model's, or what the labels have.")
@_own("ignore", type=int, help="The label of pixels that say nothing; among instance ids 255 is one.")
@_own("class_field", metavar="FIELD", help="The polygons' property that names the class.")
@_own("outside", metavar="CLASS", help="The class of pixels that no polygon covers; default: they say nothing.")
@_own("steps", type=int, help="How many steps; default: 2000, unless --minutes.")
@_own("minutes", type=float, help="How many minutes, instead of steps.")
@_own("lr", type=float, help="Learning rate; default: by the model.")
@_own("batch_size", type=int, help="Crops per step; of larger crops there are fewer.")
@click.option(
    "--tile-size",
    type=int,
    help="Pixels a side of a crop; default: the model's training size, for a new one 256 or what its patches make "
    "nearest to it.",
)
@_own("zoom", type=Parsed("LO,HI", _numbers(2)), help="How many raster pixels become one in a crop, at random.")
@_own(
    "light",
    type=Parsed("B,C,G,W", _numbers(4)),
    help="How much brightness, contrast, gamma and the bands' balance vary (deviations of logarithms).",
)
@click.option(
    "--masked/--no-masked",
    default=None,
    help="Mask attention at first; default: in trained models with more queries than classes.",
)
@_own("drawn", type=int, help="Drawn landscapes that join the training; they have the classes of aerial-tiny.")
@_own("pixel_size", type=float, help="Metres a side of a pixel, for the model's card; default: what the images say.")
@_own("half", is_flag=True, help="Store the model as float16, in half the space.")
@_own("seed", type=int, help="Of everything random.")
@_own("threads", type=int, help="Compute threads; default: as many as cores.")
@_own("resume", is_flag=True, help="Go on with the training that was stopped in --out, with the same options.")
@shared("overwrite", help="Drop the training in --out and start afresh.")
@shared("bands", "scale", "device", "precision", "as_json", *OF_WORK)
@click.pass_context
def finetune(ctx: click.Context, /, as_json: bool, **options: Any) -> None:
    """Train a model on rasters with truth.

    IMAGES and LABELS are a file each, or folders or quoted patterns, paired by stem: a_rgb.tif with a_labels.tif.
    LABELS are rasters of class ids or instance ids on the images' grids, or polygons. --out is a model: give it to
    run. With --val it is the best of ten looks, and validation.png shows what it sees.
    """
    os.environ.setdefault("GDAL_CACHEMAX", str(CACHE_MB))
    if not options["model"]:
        raise click.UsageError("--model is missing: give a model to train further, or new:hybrid-tiny for a new one")
    config = FinetuneConfig(**options)
    from pipeline.finetune import finetune as train

    with _shown(ctx.obj) as on_pulse:
        outcome = train(config, on_pulse)
    click.echo(json.dumps(asdict(outcome)) if as_json else words(outcome))


@contextmanager
def _shown(console: Console) -> Iterator[Any]:
    """Show how far a training is: a bar on a terminal, else a line every 30 seconds."""
    if console.quiet:
        yield None
    elif console.log_json or not on_terminal():
        yield _Lines(console)
    else:
        from tqdm import tqdm

        layout = "{desc}{percentage:3.0f}% |{bar}| {elapsed}, {remaining} left"
        with tqdm(total=1.0, smoothing=0, dynamic_ncols=True, bar_format=layout) as bar:

            def move(pulse: "Pulse") -> None:
                if not bar.n:  # what an earlier call did says nothing about how fast this one is
                    bar.initial = pulse.progress
                bar.set_description_str(told(pulse) + " ", refresh=False)
                bar.update(pulse.progress - bar.n)

            yield move


class _Lines:
    """A line every 30 seconds."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._next = 0.0
        self._begun: Pulse | None = None

    def __call__(self, pulse: "Pulse") -> None:
        """Say a line, if it is time."""
        self._begun = self._begun or pulse
        if pulse.seconds < self._next and pulse.progress < 1:
            return
        self._next = pulse.seconds + EVERY
        left = _left(self._begun, pulse)
        self._console.say(f"{told(pulse)}, {100 * pulse.progress:.0f} %{left}", "train", **pulse._asdict())


def _left(begun: "Pulse", pulse: "Pulse") -> str:
    done = pulse.progress - begun.progress
    if done <= 0:
        return ""
    minutes, seconds = divmod(round((1 - pulse.progress) * (pulse.seconds - begun.seconds) / done), 60)
    return f", {minutes}:{seconds:02d} left"


def told(pulse: "Pulse") -> str:
    """How far a training is, in words."""
    score = "" if pulse.score is None else f", validation {pulse.score:.3f}"
    return f"step {pulse.step}, loss {pulse.loss:.3f}{score}"


def words(outcome: "Outcome") -> str:
    """What a training came to."""
    losses = f"loss {outcome.first_loss:.3f} -> {outcome.last_loss:.3f}"
    if outcome.score is None:
        score, pictures = "no validation, so nobody knows how good it is: --val 20% holds images out for it", "loss.png"
    else:
        score = f"{outcome.measure} {outcome.score:.3f} on validation, by the model of step {outcome.best_step}"
        pictures = "loss.png and validation.png"
    return f"""{outcome.output}: {outcome.steps} steps in {outcome.minutes:.1f} minutes, {losses}
{score}
The model is there, with {pictures}. Use it:
  eomt-batch run INPUT --model {shlex.quote(outcome.output)} --out masks.zarr"""
