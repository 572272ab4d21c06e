"""The two steps between inference and mosaic of a run for objects.

LINK: one task per tile block writes what its tiles' segments are, and how they go with those of the tiles around, into
`links/ROW-COL.npz`. RESOLVE: one task joins all that to objects, into `objects.npz`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import RunError
from pipeline.spec import RunSpec
from pipeline.steps.clock import Clock
from pipeline.steps.journal import LINKS, OBJECTS, BlockRecord
from pipeline.stitch.covers import Covers
from pipeline.stitch.links import Borders, Links, Pairs, Segments, link
from pipeline.stitch.objects import Objects, resolve
from pipeline.stitch.views import Views
from pipeline.storage.paths import AnyPath, at_hand, follow, whole
from pipeline.store import Store
from pipeline.tiling import TileBlock

ALL = "0-0"
"""The name of the one block that RESOLVE has."""

MOST = 2**32 - 1
"""Objects that the mosaic's ids can tell apart."""

TABLES: dict[str, Any] = {"segments": Segments, "pairs": Pairs, "borders": Borders, "covers": Covers}


@dataclass
class LinkWorker:
    """What a worker keeps between the tile blocks of a run.

    Args:
        spec: The run.
        folder: The run folder.
    """

    spec: RunSpec
    folder: AnyPath
    store: Store = field(init=False)
    views: Views = field(init=False)

    def __post_init__(self) -> None:
        self.store = Store(follow(self.folder, self.spec.store), self.spec.plan, self.spec.record_layout)
        self.views = views_of(self.spec, self.store)

    def run(self, block: TileBlock) -> tuple[BlockRecord, list[AnyPath]]:
        """Link one tile block; its record, and the file that holds it."""
        clock = Clock()
        with clock("link"):
            found = link(self.views, list(block.tiles))
            saturated = self._saturated(block)
        with clock("write"):
            path = write_links(self.folder / LINKS / f"{block.name}.npz", found)
        record = BlockRecord(
            block.name,
            "link",
            self.spec.link_fingerprint,
            block.owned.height * block.owned.width,
            segments=len(found.segments.keys),
            saturated=saturated,
            seconds=clock.rounded(),
        )
        return record, [path]

    def _saturated(self, block: TileBlock) -> int:
        views = [self.views(tile) for tile in block.tiles]
        return sum(view is not None and view.fused.saturated(self.spec.model.num_queries) for view in views)


def views_of(spec: RunSpec, store: Store) -> Views:
    """The tiles of a run, as its store has them."""
    return Views(spec.plan, spec.model.stride, store.queries, spec.rules)


def resolve_run(spec: RunSpec, folder: AnyPath) -> tuple[BlockRecord, list[AnyPath]]:
    """Join the segments of all tile blocks; the record, and the file of the objects.

    Raises:
        RunError: There are more objects than ids.
    """
    clock = Clock()
    with clock("resolve"):
        rows, cols = spec.plan.block_grid
        links = read_links(folder / LINKS / f"{row}-{col}.npz" for row, col in product(range(rows), range(cols)))
        cell = spec.model.stride**2
        objects = resolve(links, spec.rules, cell, prod(spec.tile_size) // cell)
    if len(objects.classes) > MOST:
        raise RunError(f"{folder}: {len(objects.classes)} objects, and ids for {MOST}; raise --min-area")
    with clock("write"):
        path = save(folder / OBJECTS, objects._asdict())
    pixels = spec.plan.shape[0] * spec.plan.shape[1]
    count = len(objects.classes)
    return BlockRecord(ALL, "resolve", spec.resolve_fingerprint, pixels, segments=count, seconds=clock.rounded()), [
        path
    ]


def write_links(path: AnyPath, links: Links) -> AnyPath:
    """Write the links of a block."""
    tables: tuple[Any, ...] = links.segments, links.pairs, links.borders, links.covers
    columns = {
        f"{name}_{column}": values
        for name, table in zip(TABLES, tables, strict=True)
        for column, values in table._asdict().items()
    }
    return save(path, columns)


def read_links(paths: Iterable[AnyPath]) -> Links:
    """The links of some blocks together, column by column: all blocks' tables are never there beside what is made."""
    with at_hand(paths) as files:
        return Links(*(
            table(*(_column(files, f"{name}_{column}") for column in table._fields)) for name, table in TABLES.items()
        ))  # fmt: skip


def _column(files: Sequence[Path], name: str) -> NDArray[Any]:
    """One column of the tables in some files."""
    parts = []
    for path in files:
        with np.load(path, allow_pickle=False) as file:
            parts.append(file[name])
    return np.concatenate(parts)


def read_objects(folder: AnyPath) -> Objects:
    """The objects of a run."""
    return Objects(**load(folder / OBJECTS))


def save(path: AnyPath, arrays: Mapping[str, NDArray[Any]]) -> AnyPath:
    """Write arrays to a file that is either whole or not there."""
    with whole(path) as file:
        np.savez(file, **dict[str, Any](arrays))
    return path


def load(path: AnyPath) -> dict[str, NDArray[Any]]:
    """The arrays of such a file."""
    with at_hand([path]) as (copy,), np.load(copy, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}
