"""From what a user states to a run spec: the raster opened, the model described, everything left open decided.

Reads headers only: no pixel but the sample that `--scale auto` may need, no weights, no torch.
"""

from collections.abc import Iterator
from dataclasses import replace

from pyproj import CRS

from eomt_core.card import Architecture, ModelCard, PaletteArchitecture
from eomt_core.describe import ModelInfo, describe_model
from eomt_core.errors import ModelError
from eomt_core.family import FamilyArchitecture
from eomt_core.labels import class_colours
from pipeline.aoi import choose_aoi
from pipeline.config import RunConfig, overlap_pixels
from pipeline.devices import choose_precision
from pipeline.errors import UsageError
from pipeline.preprocess import choose_scaling
from pipeline.rasters.raster import open_raster
from pipeline.rasters.raster_spec import RasterSpec
from pipeline.software import versions
from pipeline.spec import FUSING, ModelFacts, RunSpec
from pipeline.steps.pyramid import choose_levels
from pipeline.storage.paths import AnyPath
from pipeline.store import MOST_QUERIES, Kind

FAR = 1.5
"""How many times larger or smaller a pixel may be than those of the training before the user is told."""


def prepare(source: str, output: AnyPath, config: RunConfig) -> RunSpec:
    """The run spec for one raster.

    Raises:
        UsageError: The raster, the model or an option will not do.
    """
    info = _described(config)
    task = choose_task(config.task, info.card)
    raster = open_raster(
        source,
        bands=config.bands,
        default_bands=info.card.bands,
        needed=info.architecture.in_channels,
        nodata=config.nodata,
        subdataset=config.subdataset,
        allow_vrt=config.allow_vrt,
        allow_remote=config.allow_remote,
        max_block_bytes=config.max_block_bytes,
    )
    tile_size = config.tile_size or info.architecture.image_size
    if isinstance(info.architecture, FamilyArchitecture):
        _check_tile(info.architecture, tile_size)
    rows, cols = (overlap_pixels(config.overlap, size) for size in tile_size)
    return RunSpec(
        output=str(output.absolute()),
        raster=replace(raster, notes=(*raster.notes, *_doubts(raster, info.card, config))),
        model=model_facts(info, tile_size),
        task=task,
        scaling=choose_scaling(config.scale, raster, info.card.value_range),
        tile_size=tile_size,
        overlap=(rows, cols),
        tile_block=config.tile_block,
        kind=_kind(config, task, info.architecture.num_queries),
        precision=choose_precision(config),
        **_thresholds(config, task, info.card),
        merge_threshold=config.merge_threshold,
        min_area=config.min_area,
        sieve=config.sieve,
        zarr_format=config.zarr_format,
        chunk=config.chunk,
        zarr_shard=config.zarr_shard,
        levels=choose_levels(config.levels, raster.grid.shape),
        store="store",
        versions=versions(),
        tta=config.tta,
        aoi=choose_aoi(config.aoi, config.bbox, raster),
    )


def _described(config: RunConfig) -> ModelInfo:
    """The model, which can be made here."""
    try:
        info = describe_model(config.model, config.base)
        if isinstance(info.architecture, FamilyArchitecture):
            info.architecture.check_installed()
    except ModelError as error:
        raise UsageError(f"--model {str(error).removeprefix('model ')}") from error
    return info


def _check_tile(architecture: FamilyArchitecture, tile_size: tuple[int, int]) -> None:
    try:
        architecture.check_tile(tile_size)
    except ModelError as error:
        raise UsageError(f"--tile-size: {error}") from error


def model_facts(info: ModelInfo, tile_size: tuple[int, int]) -> ModelFacts:
    """What the pipeline needs to know of a model, and of a tile in it."""
    architecture, card = info.architecture, info.card
    features, scores = _alive(architecture, tile_size)
    return ModelFacts(
        location=str(info.path.absolute()),
        base=info.base.path if info.base else None,
        name=card.name,
        sha256=info.sha256(),
        num_classes=architecture.num_classes,
        num_queries=architecture.num_queries,
        width=architecture.embed_dim,
        stride=architecture.stride,
        lattice=architecture.min_multiple,
        weights=4 * info.parameters,
        classes=card.classes,
        colours=class_colours(card.classes),
        things=card.things,
        features=features,
        scores=scores,
    )


def _alive(
    architecture: Architecture | PaletteArchitecture | FamilyArchitecture, tile_size: tuple[int, int]
) -> tuple[int, int]:
    """Features and attention scores of one tile in the encoder."""
    if isinstance(architecture, FamilyArchitecture):
        return architecture.alive(tile_size)
    return architecture.embed_dim * (tile_size[0] * tile_size[1] // architecture.min_multiple**2), 0


def _doubts(raster: RasterSpec, card: ModelCard, config: RunConfig) -> Iterator[str]:
    """What to tell a user whose raster is far from what the model was trained on."""
    size = pixel_size(raster)
    if size and card.pixel_size and max(size / card.pixel_size, card.pixel_size / size) > FAR:
        yield f"has pixels of {size:g} m, the model {card.name} was trained on {card.pixel_size:g} m: resample it first"
    if config.scale == "auto" and card.value_range and raster.dtype != "uint8" and card.value_range[0][1] <= 255:
        yield f"holds {raster.dtype}, the model's card a range for bytes: give --scale LO,HI"


def pixel_size(raster: RasterSpec) -> float | None:
    """Metres a side of a pixel, or None where the file does not say, or says degrees."""
    if raster.crs is None or raster.grid.transform is None:
        return None
    crs = CRS(raster.crs)
    if not crs.is_projected:
        return None
    a, b, _, d, e, _ = raster.grid.transform
    return float(abs(a * e - b * d) ** 0.5 * crs.axis_info[0].unit_conversion_factor)


def choose_task(asked: str | None, card: ModelCard) -> str:
    """The task that is asked for, else the card's first.

    Raises:
        UsageError: The model is not for it.
    """
    try:
        task = card.choose_task(asked)
    except ModelError as error:
        raise UsageError(f"--task: {error}{'; leave the option out' if asked else ''}") from error
    return task


def _kind(config: RunConfig, task: str, queries: int) -> Kind:
    if task == "semantic":
        return "exact" if config.exact else "scores"
    if config.exact:
        raise UsageError(
            f"--exact: is for semantic runs; objects of --task {task} are painted from enlarged mask logits without it"
        )
    if queries > MOST_QUERIES:
        raise UsageError(f"--model {config.model}: has {queries} queries; objects are told apart among {MOST_QUERIES}")
    return "queries"


def _thresholds(config: RunConfig, task: str, card: ModelCard) -> dict[str, float]:
    """What the user asks for, else the card; of a semantic run every pixel is labelled unless the user asks."""
    cards = {name: getattr(card, name) for name in FUSING} | ({"score_threshold": 0.0} if task == "semantic" else {})
    asked = {name: getattr(config, name) for name in FUSING}
    return {name: cards[name] if value is None else value for name, value in asked.items()}
