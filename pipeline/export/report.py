"""`report.html`: a mosaic and its run on one page that needs nothing else, neither files nor a network.

Python gathers facts and pictures, the template beside this file shows them. They meet in one JSON object, which the
page puts on screen as text alone: no name of a class or a model can become markup.
"""

import json
import logging
import math
import shlex
from collections.abc import Iterator
from dataclasses import asdict
from importlib.resources import files
from typing import Any

from eomt_core.describe import describe_model
from eomt_core.errors import ModelError
from pipeline.export.colours import RAMP, UNLABELLED, data_uri
from pipeline.export.panes import Subject, numbered
from pipeline.export.progress import progress_facts
from pipeline.export.survey import Survey, survey
from pipeline.mosaic.codes import codes
from pipeline.mosaic.companions import companions
from pipeline.spec import RunSpec
from pipeline.steps.journal import Journal
from pipeline.stitch.seams import Seams
from pipeline.storage.paths import AnyPath, path_of, write_atomically

FILE = "report.html"

SIDE = 1600
"""Pixels that the longer side of the map has: some megabytes, whatever the raster's size."""

PLACE = "/*REPORT*/"
"""Where the template has room for the facts."""

MOST_CLASSES = 300

Rows = list[tuple[str, str]]

log = logging.getLogger(__name__)


def report_run(output: str) -> None:
    """Write the report of a run that is done into its folder. What goes wrong is told and does no other harm."""
    try:
        path = path_of(output)
        write_report(Subject.open(path), Journal.of(path).folder / FILE)
    except Exception as error:
        log.warning(
            "no %s (%s: %s); the mosaic is complete: make it with `eomt-batch preview %s -o %s`",
            *(FILE, type(error).__name__, " ".join(str(error).split()), path_of(output).name, FILE),
        )


def write_report(subject: Subject, path: AnyPath) -> None:
    """Write the page; it appears when it is whole.

    Args:
        subject: The mosaic, its run, and what lies behind it.
        path: Where.
    """
    template = files("pipeline.export").joinpath("report.html").read_text(encoding="utf-8")
    # No tag can begin or end within the facts.
    facts = json.dumps(report_facts(subject), allow_nan=False).replace("<", "\\u003c")
    write_atomically(path, template.replace(PLACE, facts))


def report_facts(subject: Subject) -> dict[str, Any]:
    """All that the page shows, in JSON's types."""
    mosaic, run = subject.mosaic, subject.run
    place, found = mosaic.place(), survey(mosaic, run.plan if run else None)
    panes, classes, faults = subject.panes(SIDE)
    names = mosaic.class_names
    shown = _shown_classes(subject, found)
    return {
        "title": mosaic.path.name,
        "shape": mosaic.shape,
        "thinned": classes.shape,
        "metres": place.pixel_metres,
        "transform": place.transform,
        "crs": place.crs_name,
        "layers": [
            {
                "name": pane.name,
                "title": pane.title,
                "uri": data_uri(pane.picture, "webp" if pane.name == "image" else "png"),
            }
            for pane in panes
        ],
        "classes": shown,
        "numbers": [{"id": id, "at": at} for id, at in numbered(classes, len(names)).items()],
        "ramp": ["#" + bytes(colour).hex() for colour in RAMP.tolist()],
        "exact": found.whole,
        "seams": _seams(found),
        "progress": progress_facts(run, Journal.of(mosaic.path.resolve())) if run else None,
        "model": _model(run) if run else [],
        "run": _options(run) if run else [],
        "provenance": json.dumps(mosaic.provenance, indent=1, ensure_ascii=False),
        "commands": list(_commands(subject)),
        "notes": [*subject.notes, *faults, *(run.raster.notes if run else ())],
    }


def _shown_classes(subject: Subject, found: Survey) -> list[dict[str, Any]]:
    """Classes by share; those without any pixel last, then what has no class."""
    mosaic, colours = subject.mosaic, subject.colours
    _, unlabelled, nodata = codes(len(mosaic.class_names))
    order = sorted(range(len(mosaic.class_names)), key=lambda id: -found.shares.get(id, 0))[:MOST_CLASSES]
    rows: list[dict[str, Any]] = [
        {"id": id, "name": mosaic.class_names[id], "colour": colours[id], "share": found.shares.get(id, 0)}
        for id in order
    ]
    others = (("unlabelled", unlabelled, UNLABELLED), ("no data", nodata, None))
    return rows + [
        {"id": None, "name": name, "colour": colour, "share": found.shares[id]}
        for name, id, colour in others
        if id in found.shares
    ]


def _seams(found: Survey) -> dict[str, Any] | None:
    if found.seams is None:
        return None
    seams: Seams = found.seams
    figures = seams._asdict() | {"relative": seams.relative, "excess": seams.excess}
    finite = {name: value if math.isfinite(value) else None for name, value in figures.items()}
    return finite | {"pixels": found.looked_at, "whole": found.whole}


def _model(run: RunSpec) -> Rows:
    """The model's card, as far as its files are still there."""
    known = [("name", run.model.name), ("sha256", run.model.sha256)]
    try:
        info = describe_model(run.model.location, run.model.base)
    except ModelError:
        return [*known, ("card", "the model is not where it was")]
    card = asdict(info.card)
    card["pixel_size"] = card["pixel_size"] and f"{card['pixel_size']:g} m"
    words = {name: _words(card[name]) for name in ("tasks", "bands", "value_range", "pixel_size", "licence", "notes")}
    return [*known, ("parameters", f"{info.parameters:,}"), *((name, text) for name, text in words.items() if text)]


def _options(run: RunSpec) -> Rows:
    """The run's options, by the words that a user knows them by; paths are left out."""
    raster = run.raster
    rows, cols = run.tile_size
    facts: dict[str, Any] = {
        "input": run.provenance()["input"],
        "raster": f"{raster.driver}, {raster.count} bands of {raster.dtype}",
        "task": run.task,
        "bands": raster.bands,
        "scale": str(run.scaling),
        "nodata": raster.nodata if raster.mask == "nodata" else raster.mask,
        "aoi": "yes" if run.aoi else None,
        "tile size": f"{rows} x {cols}",
        "overlap": " x ".join(map(str, run.plan.overlap)),
        "tiles": f"{len(run.plan):,} in {math.prod(run.plan.block_grid):,} blocks",
        "records": run.kind,
        "precision": run.precision,
        "tta": run.tta,
        "score threshold": run.score_threshold,
    }
    if run.objects:
        thresholds = ("overlap_threshold", "mask_threshold", "merge_threshold", "min_area")
        facts |= {name.replace("_", " "): getattr(run, name) for name in thresholds}
    facts |= {"Zarr format": run.zarr_format, "chunk": run.chunk}
    facts["versions"] = ", ".join(f"{name} {version}" for name, version in run.versions.items())
    return [(name, _words(value)) for name, value in facts.items() if value is not None]


def _words(value: Any) -> str:
    match value:
        case None:
            return ""
        case list() | tuple():
            return ("; " if any(isinstance(part, tuple) for part in value) else ", ").join(map(_words, value))
        case float():
            return f"{value:g}"
        case _:
            return str(value)


def _commands(subject: Subject) -> Iterator[dict[str, str]]:
    """How to open the mosaic in other programs, from the folder that it lies in."""
    name, arrays = subject.mosaic.path.name, subject.mosaic.names
    sources = [f'ZARR:"{name}":/0/{array}' for array in arrays]
    needs = "" if subject.mosaic.root.metadata.zarr_format == 2 else " (3.11 or newer)"
    vrts = sorted(path.name for path in companions(subject.mosaic.path) if path.suffix == ".vrt" and path.exists())
    yield {
        "title": f"QGIS{needs and ' with GDAL' + needs}: source of a new raster layer; put the folder before the name",
        "text": "\n".join(vrts or sources),
    }
    targets = [
        f"gdal_translate {shlex.quote(source)} {array}.tif" for source, array in zip(sources, arrays, strict=True)
    ]
    yield {"title": f"GDAL{needs}", "text": "\n".join(targets)}
    masked = ", mask_and_scale=False" if not needs else ""
    yield {
        "title": "xarray",
        "text": f'import rioxarray, xarray\n\nmasks = xarray.open_zarr({name!r}, group="0"{masked})',
    }
    quoted = shlex.quote(name)
    yield {
        "title": "eomt-batch",
        "text": f"eomt-batch evaluate {quoted} LABELS.tif\neomt-batch stitch {quoted} -o NEW.zarr",
    }
