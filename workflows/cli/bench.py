"""`eomt-batch bench`: what runs cost on this computer, how good models are, and how good the stitching is."""

import json
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from workflows.cli.bench_encoders import encoders
from workflows.cli.options import FC, OF_WORK, OVERLAP, TILE_SIZE, config_of, shared

if TYPE_CHECKING:
    from pipeline.bench.slides.slide import Slide
    from pipeline.config import RunConfig
    from pipeline.truth.pairs import Pair

EXAMPLE = """\b
Examples:
  eomt-batch bench memory scene.tif --size 32000x40000 --size 16000x20000
  eomt-batch bench tiles scenes/ labels/ --model aerial-tiny
  eomt-batch bench objects images/ labels/ --only validation.txt --model nuclei-tiny
  eomt-batch bench stitch --seeds 3 --overlap 25%
  eomt-batch bench resolve --segments 6000000
  eomt-batch bench blocks --blocks 10000 --workers 2
  eomt-batch bench slide images/ labels/ --only validation.txt --overlap 25%
  eomt-batch bench edges images/ labels/ --only validation.txt
  eomt-batch bench export masks.zarr --side 32000"""


def _of_pairs(command: FC) -> FC:
    """The arguments of a bench that looks at images with their truth."""
    command = click.option("--only", multiple=True, help="Some of the pairs: stems, files, or a .txt list.")(command)
    return click.argument("images", metavar="IMAGES")(click.argument("labels", metavar="LABELS")(command))


_SIZE = click.option("--size", type=TILE_SIZE, help="Rows x columns of the images taken; default: the commonest.")


def _pairs(images: str, labels: str, only: tuple[str, ...]) -> list["Pair"]:
    from pipeline.truth.pairs import chosen_pairs, find_pairs

    pairs = find_pairs(images, labels)
    return chosen_pairs(pairs, only) if only else pairs


@click.group(epilog=EXAMPLE)
def bench() -> None:
    """Measure what runs cost on this computer, and how good they are."""


bench.add_command(encoders)


def _size(context: click.Context, option: click.Parameter, values: tuple[str, ...]) -> list[tuple[int, int]]:
    from pipeline.config import parse_tile_size

    return [parse_tile_size(value) for value in values]


@bench.command(epilog=EXAMPLE)
@click.argument("source", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--folder", type=click.Path(file_okay=False, path_type=Path), default="eomt-batch-bench", show_default=True
)
@click.option(
    "--size", "sizes", multiple=True, default=("4096",), callback=_size, help="Rows x columns; again for more."
)
@shared("model", "tile_size", "batch_size", "device", "workers", "as_json")
def memory(source: Path, folder: Path, sizes: list[tuple[int, int]], as_json: bool, **options: Any) -> None:
    """Peak memory of a run against its plan.

    Writes rasters of the given sizes, filled with the pixels of SOURCE, and runs each in a process of its own.
    """
    from eomt_core.describe import describe_model
    from pipeline.bench.memory import as_json as to_json
    from pipeline.bench.memory import measure_run, write_repeated

    config = config_of(options)
    bands = describe_model(config.model).architecture.in_channels
    words = [f"--{name.replace('_', '-')}={_word(value)}" for name, value in options.items() if value is not None]
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for size in sizes:
        raster = write_repeated(source, folder / f"{size[0]}x{size[1]}.tif", size, bands)
        rows.append(measure_run(raster, raster.with_suffix(".zarr"), config, words))
        if not as_json:
            row = rows[-1]
            click.echo(
                f"{row.pixels / 1e6:9.1f} Mpx   planned {row.planned / 1e9:.2f} GB   peak {row.peak / 1e9:.2f} GB   "
                f"planned/peak {row.ratio:.2f}   {row.seconds:.0f} s"
            )
    if as_json:
        click.echo(to_json(rows))


@bench.command(epilog=EXAMPLE)
@click.argument("images", metavar="IMAGES")
@click.argument("labels", metavar="LABELS")
@click.option(
    "--tta", multiple=True, type=click.Choice(["flips", "d4"]), default=("flips", "d4"), help="Views besides."
)
@shared("model", "device", "workers", "as_json", *OF_WORK)
def tiles(images: str, labels: str, tta: tuple[Any, ...], as_json: bool, **options: Any) -> None:
    """Scores of a model at other tile sizes, overlaps and views than those of its training.

    IMAGES and LABELS are paired as for finetune; all scenes are scored together.
    """
    from pipeline.bench.tiles import measure_tiles, ways
    from pipeline.truth.pairs import find_pairs

    pairs = find_pairs(images, labels)
    for config in ways(config_of(options), tta):
        row = measure_tiles(pairs, config)
        way = f"{row.tile_size[0]:>5} x {row.tile_size[1]:<5} overlap {row.overlap:<5} tta {row.tta:<6}"
        scores = f"mIoU {row.miou:.3f}   {' '.join(f'{value:.3f}' for value in row.iou)}"
        click.echo(json.dumps(asdict(row)) if as_json else f"{way} {scores}   {row.seconds:.0f} s")


@bench.command(epilog=EXAMPLE)
@_of_pairs
@shared("model", default="nuclei-tiny")
@shared("device", "as_json", *OF_WORK)
def objects(images: str, labels: str, only: tuple[str, ...], model: str, device: str, as_json: bool) -> None:
    """Quality of a model of objects on images that it sees whole, each in a forward of its own."""
    from pipeline.bench.objects import measure_objects

    for name, row in measure_objects(_pairs(images, labels, only), model, device).items():
        words = f"{name:<10} {row.images:>4} images   PQ {row.pq:.3f} (SQ {row.sq:.3f}, RQ {row.rq:.3f})   "
        counts = f"mean of images {row.mean_pq:.3f}   {row.matched} found, {row.spurious} false, {row.missed} missed"
        click.echo(json.dumps({"size": name, **asdict(row)}) if as_json else words + counts)


@bench.command(epilog=EXAMPLE)
@click.option("--seeds", type=click.IntRange(1), default=1, show_default=True, help="Scenes that are drawn.")
@click.option("--first-seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--side", type=click.IntRange(256), default=4096, show_default=True, help="Cells a side of a scene.")
@click.option(
    "--overlap",
    "overlaps",
    multiple=True,
    type=OVERLAP,
    default=("0", "12.5%", "25%", "50%"),
    show_default=True,
    help="Of tiles of 512 cells; again for more.",
)
@click.option("--rule", "rules", multiple=True, help="A row of the table; again for more. Default: all.")
@shared("as_json")
def stitch(
    seeds: int, first_seed: int, side: int, overlaps: tuple[str, ...], rules: tuple[str, ...], as_json: bool
) -> None:
    """Rules of stitching objects against each other, on drawn scenes and a simulated model."""
    from pipeline.bench.stitching.table import TILE, check_rules, measure_stitching, tabulate
    from pipeline.config import overlap_pixels

    chosen = check_rules(rules)
    pixels = [overlap_pixels(overlap, TILE) for overlap in overlaps]
    found = []
    for one in measure_stitching(range(first_seed, first_seed + seeds), pixels, chosen, side):
        click.echo(f"seed {one.seed}, overlap {one.overlap}, {one.rule}: PQ {one.scores.pq:.1f}", err=True)
        found.append(one)
    for row in tabulate(found):
        click.echo(json.dumps(asdict(row)) if as_json else row.line)


@bench.command(epilog=EXAMPLE)
@click.option("--segments", type=click.IntRange(36), default=1_000_000, show_default=True, help="About so many.")
@shared("as_json")
def resolve(segments: int, as_json: bool) -> None:
    """Seconds and memory of joining the segments of tiles to objects, on drawn links between them."""
    from pipeline.bench.stitching.crowd import measure_resolve

    row = measure_resolve(segments)
    counts = f"{row.segments} segments, {row.pairs} pairs, {row.borders} borders: {row.objects} objects"
    costs = f"read in {row.reading:.1f} s, resolved in {row.resolving:.1f} s   peak {row.peak / 1e9:.2f} GB"
    click.echo(json.dumps(asdict(row)) if as_json else f"{counts}   {costs}")


@bench.command(epilog=EXAMPLE)
@click.option("--blocks", type=click.IntRange(10), default=10_000, show_default=True, help="How many.")
@shared("workers", "as_json")
def blocks(blocks: int, workers: int | None, as_json: bool) -> None:
    """Time and memory of handing out tile blocks, apart from the work in them."""
    from pipeline.bench.scheduling import measure_scheduling

    row = measure_scheduling(blocks, workers or 0)
    costs = f"{row.microseconds:.0f} us a block, {row.cpu_microseconds:.0f} us of CPU in the driver"
    memory = f"driver {row.memory / 1e6:.0f} MB after a tenth, {row.growth / 1e6:+.1f} MB at the end"
    click.echo(json.dumps(asdict(row)) if as_json else f"{row.blocks} blocks   {costs}   {memory}")


@bench.command(epilog=EXAMPLE)
@_of_pairs
@_SIZE
@click.option("--overlap", "overlaps", multiple=True, type=OVERLAP, default=("25%",), help="Of tiles; again for more.")
@shared("model", default="nuclei-tiny")
@shared("tile_size", "device", "as_json", *OF_WORK)
def slide(
    images: str, labels: str, only: tuple[str, ...], overlaps: tuple[str, ...], as_json: bool, **options: Any
) -> None:
    """Rules of stitching objects against each other, on a slide of real images.

    Images of one size lie side by side, and tiles cut them.
    """
    from pipeline.bench.slides.table import measure_slide
    from pipeline.bench.stitching.table import tabulate

    found, config = _compose(images, labels, only, options)
    for one in measure_slide(found, overlaps, config):
        (row,) = tabulate([one])
        click.echo(json.dumps(asdict(row)) if as_json else row.line)


@bench.command(epilog=EXAMPLE)
@_of_pairs
@_SIZE
@shared("model", default="nuclei-tiny")
@shared("overlap", "tile_size", "device", "as_json", *OF_WORK)
def edges(images: str, labels: str, only: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """What a model gets wrong near the edges of its tiles, on the same slide; nothing is stitched."""
    from pipeline.bench.slides.edges import measure_edges

    bands, faults = measure_edges(*_compose(images, labels, only, options))
    for band in bands.rows():
        click.echo(json.dumps(asdict(band)) if as_json else band.line)
    facts = {**asdict(faults), "rates": faults.rates, "simulated": faults.simulated}
    click.echo(json.dumps(facts) if as_json else faults.lines)


@bench.command(epilog=EXAMPLE)
@click.argument("mosaic", type=click.Path(path_type=Path), metavar="OUT.zarr")
@click.option("--side", type=click.IntRange(1), default=8192, show_default=True, help="Pixels, at least.")
@click.option(
    "--to", "names", multiple=True, type=click.Choice(["cog", "gpkg", "fgb", "parquet"]), help="Default: all."
)
@click.option("--folder", type=click.Path(exists=True, file_okay=False, path_type=Path), help="For what is written.")
@shared("as_json")
def export(mosaic: Path, side: int, names: tuple[Any, ...], folder: Path | None, as_json: bool) -> None:
    """Peak memory of exports of a large mosaic: whole copies of a small one, side by side."""
    from pipeline.bench.exports import formats, measure_export, write_repeated

    with TemporaryDirectory(prefix="eomt-batch-bench-", dir=folder) as place:
        large = write_repeated(mosaic, Path(place) / "large.zarr", side)
        for to, array in formats(names or ("cog", "gpkg", "fgb", "parquet"), large):
            row = measure_export(large, to, array)
            costs = f"{row.size / 1e6:8.1f} MB   peak {row.peak / 1e9:.2f} GB   {row.seconds:.0f} s"
            words = f"{row.pixels / 1e6:9.1f} Mpx   {row.array:<9} {row.to:<7} {costs}"
            click.echo(json.dumps(asdict(row)) if as_json else words)


def _compose(images: str, labels: str, only: tuple[str, ...], options: dict[str, Any]) -> tuple["Slide", "RunConfig"]:
    """The slide of some images, and how it is run."""
    from pipeline.bench.slides.slide import compose
    from pipeline.config import RunConfig

    size = options.pop("size")
    config = RunConfig(**options)
    return compose(_pairs(images, labels, only), config.model, config.device, size), config


def _word(value: Any) -> str:
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)
