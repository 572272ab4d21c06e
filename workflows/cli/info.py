"""`eomt-batch info`: what a mosaic was made with, or what a model is."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from workflows.cli.options import shared

if TYPE_CHECKING:
    from pipeline.storage.paths import AnyPath

EXAMPLE = "\b\nExamples:\n  eomt-batch info masks.zarr\n  eomt-batch info ORG/NAME --json"


WIDEST = 200
"""Characters of a value that a line shows."""


@click.command(epilog=EXAMPLE)
@click.argument("subject", metavar="OUT.zarr|MODEL")
@shared("base", "as_json", "verbose")
def info(subject: str, base: str | None, as_json: bool) -> None:
    """Show a mosaic's making, or a model's card."""
    from pipeline.mosaic.mosaic import is_ours
    from pipeline.storage.paths import path_of

    path = path_of(subject)
    found = mosaic_facts(path) if path.suffix == ".zarr" or is_ours(path) else model_facts(subject, base)
    click.echo(json.dumps(found) if as_json else "\n".join(lines(found)))


def mosaic_facts(path: "AnyPath") -> dict[str, Any]:
    """All that a mosaic says of itself.

    Raises:
        InputError: There is no mosaic.
    """
    from pipeline.mosaic.mosaic import open_mosaic
    from pipeline.steps.journal import Journal

    mosaic = open_mosaic(path)
    return {
        "mosaic": str(path),
        "complete": (Journal.of(path).folder / "COMPLETE").exists(),
        "shape": mosaic.shape,
        "arrays": mosaic.names,
        "levels": mosaic.levels,
        "crs": mosaic.place().crs_name,
        "transform": mosaic.transform,
        "zarr_format": mosaic.root.metadata.zarr_format,
        "chunk": mosaic.classes.chunks[0],
        "shard": mosaic.classes.shards and mosaic.classes.shards[0],
        "nodata": mosaic.nodata,
        "classes": dict(enumerate(mosaic.class_names)),
        "colours": dict(enumerate(mosaic.colours)),
        "provenance": mosaic.provenance,
    }


def model_facts(location: str, base: str | None = None) -> dict[str, Any]:
    """All that a model's files say of it.

    Raises:
        ModelError: There is no such model, or it cannot be used.
    """
    from eomt_core.describe import describe_model

    found = describe_model(location, base)
    return {
        "model": str(found.path),
        "format": found.format,
        "base": found.base.path if found.base else None,
        "parameters": found.parameters,
        "sha256": found.sha256(),
        "card": asdict(found.card),
        "architecture": asdict(found.architecture),
    }


def lines(facts: dict[str, Any], indent: str = "") -> list[str]:
    """Nested facts, a line each."""
    shown = []
    for name, value in facts.items():
        if isinstance(value, dict) and value:
            shown += [f"{indent}{name}:", *lines(value, indent + "  ")]
        elif value not in (None, "", (), [], {}):
            text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
            shown.append(f"{indent}{name}: {text if len(text) <= WIDEST else text[:WIDEST] + ' ... (--json: all)'}")
    return shown
