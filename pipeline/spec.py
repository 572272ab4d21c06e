"""The run spec: all that decides a run's result, in one JSON file, and its three fingerprints.

*infer* is what the stored records depend on, *stitch* what the labels made of them depend on, *layout* how the mosaic
is cut and stored. A change of the first means that inference must run again; a change of the others does not.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self, get_args

from pipeline.addresses import public
from pipeline.aoi import Aoi
from pipeline.mosaic.chunks import Layout as MosaicLayout
from pipeline.mosaic.codes import Codes, codes
from pipeline.preprocess import Scaling
from pipeline.rasters.raster import RasterSpec
from pipeline.stitch.queries import Rules
from pipeline.storage.paths import AnyPath, read_text
from pipeline.store import Kind, Layout
from pipeline.tiling import OutputBlock, TilePlan, output_block, output_blocks

FORMAT = 3
"""Of run.json."""

Stage = Literal["infer", "stitch", "layout"]

FUSING = "score_threshold", "overlap_threshold", "mask_threshold"
"""What the segments of a tile depend on."""

JOINING = "merge_threshold", "min_area"
"""What the objects depend on besides."""

PAINTING = ("sieve",)
"""What the pixels depend on besides, of any task."""


LAYOUT = "zarr_format", "chunk", "zarr_shard", "levels"
"""How the mosaic is stored."""


@dataclass(frozen=True)
class ModelFacts:
    """What the pipeline needs to know of a model, without its weights.

    Attributes:
        location: What was asked for, resolved: where every worker finds the weights.
        base: Where every worker finds the weights that differences are added to, `none` if there are none, or None.
        name: For people.
        sha256: Of the weight files, and of the base's.
        num_classes: K.
        num_queries: Q.
        width: Channels of the model's features.
        stride: Pixels a side of a cell.
        lattice: Pixels that tile sizes and origins are multiples of.
        weights: Bytes of the weights as fp32.
        classes: Names, by class id.
        colours: `#rrggbb`, by class id.
        things: Ids of the countable classes.
        features: Numbers that the encoder makes of one tile of the run, in its largest map or sequence.
        scores: Of its attention, numbers that are there at once.
    """

    location: str
    base: str | None
    name: str
    sha256: str
    num_classes: int
    num_queries: int
    width: int
    stride: int
    lattice: int
    weights: int
    classes: tuple[str, ...]
    colours: tuple[str, ...]
    things: tuple[int, ...] = ()
    features: int = 0
    scores: int = 0


@dataclass(frozen=True)
class RunSpec:
    """One run: input, model and the options that decide its result.

    Attributes:
        output: The mosaic's path.
        raster: The input.
        model: The model.
        task: What is segmented.
        scaling: Raw values that become 0 and 1, per band.
        tile_size: Rows and columns of a tile.
        overlap: Rows and columns that neighbours share.
        tile_block: Tiles per side of a tile block.
        kind: What is kept per tile.
        precision: Of the forward.
        score_threshold: Semantic: a pixel whose confidence is below it is unlabelled. Else of queries, see `Rules`.
        zarr_format: Of the mosaic.
        chunk: Pixels a side of its chunks.
        store: The records, relative to the run folder, or absolute where they are another run's.
        versions: Software that made the run.
        tta: Which turned and mirrored views of a tile are averaged, or their queries merged.
        aoi: The area outside of which nothing is inferred.
        overlap_threshold: See `Rules`, like those that follow; semantic runs have no use for them.
        mask_threshold: Likewise.
        merge_threshold: Likewise.
        min_area: Likewise.
        sieve: Pixels below which a part of a class or an object takes the second best of each pixel; 0: none does.
        zarr_shard: Pixels a side of the mosaic's shards; 0: it has none.
        levels: Its resolutions.
    """

    output: str
    raster: RasterSpec
    model: ModelFacts
    task: str
    scaling: Scaling
    tile_size: tuple[int, int]
    overlap: tuple[int, int]
    tile_block: int
    kind: Kind
    precision: str
    score_threshold: float
    zarr_format: Literal[2, 3]
    chunk: int
    store: str
    versions: dict[str, str]
    tta: str = "none"
    aoi: Aoi | None = None
    overlap_threshold: float = 0.8
    mask_threshold: float = 0.5
    merge_threshold: float = 0.3
    min_area: int = 0
    sieve: int = 0
    zarr_shard: int = 0
    levels: int = 1

    @property
    def objects(self) -> bool:
        """Whether the run looks for objects, which must be joined across tiles."""
        return self.task != "semantic"

    @property
    def rules(self) -> Rules:
        """How queries become objects."""
        stuff = set(range(self.model.num_classes)) - set(self.model.things) if self.task == "panoptic" else ()
        return Rules(**self._options(*FUSING, *JOINING), stuff=frozenset(stuff), outlined=self.task == "instance")

    @cached_property
    def plan(self) -> TilePlan:
        """The tiles."""
        return TilePlan(self.raster.grid.shape, self.tile_size, self.overlap, self.model.lattice, self.tile_block)

    @cached_property
    def codes(self) -> Codes:
        """The values of the mosaic's classes."""
        return codes(self.model.num_classes)

    @property
    def record_layout(self) -> Layout:
        """The store's arrays."""
        rows, cols = self.tile_size
        cells = rows // self.model.stride, cols // self.model.stride
        return Layout(self.kind, self.model.num_classes, self.model.num_queries, cells)

    @property
    def layout(self) -> MosaicLayout:
        """How the mosaic's arrays are cut."""
        return MosaicLayout(self.zarr_format, self.chunk, self.zarr_shard or None)

    @property
    def block_side(self) -> int:
        """Pixels a side of an output block: two objects while few classes keep the blended scores small."""
        side = self.layout.side
        return side * (2 if self.model.num_classes <= 32 and side <= 1024 else 1)

    @cached_property
    def output_blocks(self) -> list[OutputBlock]:
        """The mosaic's blocks."""
        return output_blocks(self.raster.grid.shape, self.block_side)

    def output_block(self, row: int, col: int) -> OutputBlock:
        """One of them, without making the others."""
        return output_block(self.raster.grid.shape, self.block_side, row, col)

    def facts(self, stage: Stage) -> dict[str, Any]:
        """What one fingerprint is made of, by the option that a user would change."""
        if stage == "infer":
            names = ("tile_size", "tile_block", "kind", "precision", "task", "tta")
            options = self._options(*names) | {"overlap": self.plan.overlap}
            # Where a model lies and how its folder is called decides nothing.
            model = {"model": self.model.sha256}
            area = {"aoi": self.aoi and self.aoi.digest}
            return self.raster.identity() | model | options | area | {"scale": self.scaling.to_json()}
        if stage == "stitch":
            return self._options(*((*FUSING, *JOINING) if self.objects else FUSING[:1]), *PAINTING)
        return self._options(*LAYOUT)

    def _options(self, *names: str) -> dict[str, Any]:
        return {name: getattr(self, name) for name in names}

    def fingerprint(self, *stages: Stage) -> str:
        """A short hash of the facts of some stages."""
        return _hash([self.facts(stage) for stage in stages])

    @property
    def infer_fingerprint(self) -> str:
        """Of everything that the records depend on."""
        return self.fingerprint("infer")

    @property
    def link_fingerprint(self) -> str:
        """Of everything that the segments of tiles, and the links between them, depend on."""
        return _hash([self.facts("infer"), self._options(*FUSING)])

    @property
    def resolve_fingerprint(self) -> str:
        """Of everything that the objects depend on."""
        return _hash([self.facts("infer"), self._options(*FUSING, *JOINING)])

    @property
    def render_fingerprint(self) -> str:
        """Of everything that the mosaic depends on."""
        return self.fingerprint("infer", "stitch", "layout")

    def changes(self, other: Self, stage: Stage) -> Iterator[tuple[str, Any, Any]]:
        """The facts of a stage in which two runs differ, with both values."""
        mine, theirs = json.loads(json.dumps([self.facts(stage), other.facts(stage)], default=list))
        for name in mine | theirs:
            if mine.get(name) != theirs.get(name):
                yield name, mine.get(name), theirs.get(name)

    def provenance(self) -> dict[str, Any]:
        """What the mosaic says of its making."""
        facts = {stage: self.facts(stage) for stage in get_args(Stage)}
        model = {"name": self.model.name, "sha256": self.model.sha256}
        return {
            "input": Path(public(self.raster.path)).name,
            "model": model,
            "options": facts,
            "versions": self.versions,
        }

    def to_json(self) -> str:
        """As a JSON object."""
        fields = asdict(replace(self, versions=dict(self.versions)))
        fields["raster"], fields["scaling"] = self.raster.to_json(), self.scaling.to_json()
        return json.dumps({"format": FORMAT, **fields}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote; ValueError, KeyError or TypeError where it is something else."""
        fields = json.loads(text)
        if not isinstance(fields, dict) or fields.pop("format", None) != FORMAT:
            raise ValueError("another format")
        model: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in dict(fields["model"]).items()
        }
        pairs = {name: tuple(fields[name]) for name in ("tile_size", "overlap")}
        parts = {
            "raster": RasterSpec.from_json(fields["raster"]),
            "scaling": Scaling.from_json(fields["scaling"]),
            "model": ModelFacts(**model),
            "aoi": Aoi.from_json(fields["aoi"]) if fields["aoi"] else None,
        }
        return cls(**{**fields, **pairs, **parts})


@dataclass(frozen=True)
class Engine:
    """How a worker works: nothing here changes a result by more than rounding, so none of it is in a fingerprint.

    Attributes:
        device: As the user says it.
        batch_size: Tiles per forward; None: by the device.
        readers: Threads that read.
        threads: Threads that compute.
        address: Of a raster on another host; it may be signed, so it is in no file, and in no log of a task.
    """

    device: str = "auto"
    batch_size: int | None = None
    readers: int = 2
    threads: int = 1
    address: str | None = field(default=None, repr=False)


def _hash(facts: Any) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=list).encode()).hexdigest()[:16]


def read_spec(folder: AnyPath) -> RunSpec:
    """The run spec of a run folder; OSError or ValueError, KeyError, TypeError where there is none."""
    return RunSpec.from_json(read_text(folder / "run.json"))
