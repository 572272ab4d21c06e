"""`eomt-batch evaluate`: a mosaic against labels."""

import json
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from pipeline.errors import UsageError
from workflows.cli.options import OF_WORK, PATH, Parsed, shared
from workflows.cli.progress import Meter

if TYPE_CHECKING:
    from pipeline.evaluate import Confusion, Evaluation, Quality
    from pipeline.evaluate.labels import Ignore
    from pipeline.stitch.seams import Seams
    from pipeline.storage.paths import AnyPath

EXAMPLE = (
    "\b\nExamples:\n  eomt-batch evaluate masks.zarr labels.tif\n  eomt-batch evaluate masks.zarr labels.tif --json"
)

WIDEST = 24
"""Characters of a class's name that a table shows."""

MATRIX = 12
"""Classes up to which the confusion matrix is shown in words."""


def _ignore(text: str) -> "Ignore":
    if text in ("none", "file"):
        return "file" if text == "file" else None
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"{text}: give a whole number, or none") from None


@click.command(epilog=EXAMPLE)
@click.argument("mosaic", type=PATH, metavar="OUT.zarr")
@click.argument("truth", metavar="LABELS")
@click.option(
    "--labels",
    "kind",
    type=click.Choice(["classes", "instances"]),
    help="What the labels' numbers are: class ids, or instance ids and 0 for background; default: instances if the "
    "mosaic has them.",
)
@click.option(
    "--ignore",
    type=Parsed("V|file|none", _ignore),
    metavar="V|file|none",
    default="file",
    help="The labels' value for pixels that are left out; file: its nodata, else 255 (for instances, where 0 is "
    "background, else none).",
)
@shared("allow_vrt", "max_block_bytes", "as_json", *OF_WORK)
@click.pass_context
def evaluate(
    ctx: click.Context, /, mosaic: "AnyPath", truth: str, kind: Any, ignore: Any, as_json: bool, **options: Any
) -> None:
    """Compare a mosaic with labels on the same grid.

    IoU of each class, or panoptic quality and AP50 of instances; and how far the tiles show, each time against a grid
    where no tiles are.
    """
    from pipeline.evaluate import evaluate_mosaic

    with Meter(ctx.obj) as meter:
        found = evaluate_mosaic(mosaic, truth, kind=kind, ignore=ignore, progress=meter, **options)
    for note in found.notes:
        ctx.obj.say(f"eomt-batch: {note}")
    click.echo(json.dumps(found.to_json()) if as_json else "\n".join(words(found)))


def words(found: "Evaluation") -> list[str]:
    """An evaluation, in lines."""
    ignored = "" if found.ignore is None else f" (labels {found.ignore})"
    lines = [
        f"{found.mosaic} against the {found.kind} of {found.labels}",
        f"pixels    {found.compared} compared; left out: {found.ignored} without label{ignored}, "
        f"{found.nodata} nodata in the mosaic",
    ]
    if found.confusion is not None:
        lines += _of_classes(found.confusion, found.names)
    if found.quality is not None:
        lines += _of_instances(found.quality, found.ap50)
    return lines + (_of_seams(found.seams) if found.seams is not None else [])


def _of_classes(confusion: "Confusion", names: Sequence[str]) -> list[str]:
    absent = f"; {len(confusion.absent)} more are in neither" if confusion.absent else ""
    unlabelled = confusion.unlabelled / max(1, confusion.pixels)
    present = [id for id in range(len(names)) if id not in confusion.absent]
    return [
        f"mIoU      {_number(confusion.miou)} (mean of {len(present)} classes{absent})",
        f"accuracy  {_number(confusion.accuracy)} ({unlabelled:.1%} of the pixels are unlabelled and so missed)",
        "",
        *_table([["class", "IoU", "recall", "precision", "share"], *_class_rows(confusion, names, present)]),
        "",
        *_matrix(confusion, names, present),
    ]


def _class_rows(confusion: "Confusion", names: Sequence[str], present: list[int]) -> Iterator[list[str]]:
    scores = confusion.per_class
    for id in present:
        *values, share = scores[id]
        yield [_short(names[id]), *map(_number, values), f"{share:.1%}"]


def _matrix(confusion: "Confusion", names: Sequence[str], present: list[int]) -> list[str]:
    """Of each true class, the shares of what it was taken for."""
    if len(present) > MATRIX:
        return [f"confusion matrix: {len(present)} classes; --json has it"]
    columns = [*present, *([len(names)] if confusion.unlabelled else [])]
    rows = [["true class, % taken for", *(str(id) if id < len(names) else "none" for id in columns)]]
    for id in present:
        total = confusion.truth[id]
        shares = [f"{100 * confusion.matrix[id, column] / total:.1f}" if total else "-" for column in columns]
        rows.append([f"{id} {_short(names[id])}", *shares])
    return _table(rows)


def _of_instances(quality: "Quality", ap50: float | None) -> list[str]:
    pq, sq, rq = quality.scores
    return [
        f"PQ        {_number(pq)} = SQ {_number(sq)} x RQ {_number(rq)}",
        f"AP50      {_number(ap50)}",
        f"objects   {quality.matched} matched, {quality.spurious} spurious, {quality.missed} missed",
    ]


def _of_seams(seams: "Seams") -> list[str]:
    ratios = [_number(value, 2) for value in (seams.relative, seams.ratio, seams.phantom)]
    lengths = [_number(value, 1) for value in (seams.excess, seams.straight, seams.phantom_straight)]
    return [
        "",
        "seams: label changes on the tiles' lines against a phantom grid",
        f"gradient  {ratios[0]} = {ratios[1]} / {ratios[2]} (seamless: 1)",
        f"straight  {lengths[0]} = {lengths[1]} - {lengths[2]} pixels per 1000 of line (seamless: 0)",
    ]


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows in columns: the first one left, the others right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    ]


def _short(name: str) -> str:
    return name if len(name) <= WIDEST else f"{name[: WIDEST - 3]}..."


def _number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"
