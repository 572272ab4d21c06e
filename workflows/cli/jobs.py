"""The rasters of a command, and where the mosaic of each goes."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from pipeline.addresses import public

if TYPE_CHECKING:
    from pipeline.storage.paths import AnyPath


@dataclass(frozen=True)
class Job:
    """One raster and where its mosaic goes.

    Attributes:
        source: The raster.
        output: The mosaic; None where --out was not given.
    """

    source: str
    output: "AnyPath | None"

    @property
    def name(self) -> str:
        """The raster for those who read: an address without what is secret in it."""
        return public(self.source)


def jobs(inputs: tuple[str, ...], input_list: IO[str] | None, out: "AnyPath | None") -> list[Job]:
    """The rasters of a command, in order.

    Raises:
        click.UsageError: No raster, or rasters whose mosaics would have the same name.
    """
    listed = [line.strip() for line in input_list or ()]
    sources = [*inputs, *(line for line in listed if line and not line.startswith("#"))]
    if not sources:
        raise click.UsageError("no input: give a raster, or --input-list FILE")
    if out is None:
        return [Job(source, None) for source in sources]
    if len(sources) == 1 and (out.suffix == ".zarr" or not (input_list or out.is_dir())):
        return [Job(sources[0], out)]
    if out.suffix == ".zarr":
        raise click.UsageError(f"--out {out}: {len(sources)} inputs need a folder; give a name without .zarr")
    for stem, count in Counter(map(stem_of, sources)).items():
        if count > 1:
            same = [public(source) for source in sources if stem_of(source) == stem][:2]
            raise click.UsageError(f"{' and '.join(same)} would both become {out / stem}.zarr; run them apart")
    return [Job(source, out / f"{stem_of(source)}.zarr") for source in sources]


def stem_of(source: str) -> str:
    """What a raster's mosaic is called."""
    return Path(public(source)).stem
