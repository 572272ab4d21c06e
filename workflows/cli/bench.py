"""`eomt-batch bench`: what runs cost on this computer, measured on real runs."""

from pathlib import Path
from typing import Any

import click

from workflows.cli.options import config_of, shared

EXAMPLE = "\b\nExample:\n  eomt-batch bench memory scene.tif --model DIR --size 32000x40000 --size 16000x20000"


@click.group(epilog=EXAMPLE)
def bench() -> None:
    """Measure what runs cost on this computer."""


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
    from pipeline.bench.memory import as_json as to_json
    from pipeline.bench.memory import measure_run, write_repeated

    config = config_of(options)
    words = [f"--{name.replace('_', '-')}={_word(value)}" for name, value in options.items() if value is not None]
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for size in sizes:
        raster = write_repeated(source, folder / f"{size[0]}x{size[1]}.tif", size)
        rows.append(measure_run(raster, raster.with_suffix(".zarr"), config, words))
        if not as_json:
            row = rows[-1]
            click.echo(
                f"{row.pixels / 1e6:9.1f} Mpx   planned {row.planned / 1e9:.2f} GB   peak {row.peak / 1e9:.2f} GB   "
                f"planned/peak {row.ratio:.2f}   {row.seconds:.0f} s"
            )
    if as_json:
        click.echo(to_json(rows))


def _word(value: Any) -> str:
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)
