"""`eomt-batch models`: the models that are here, and how others come here."""

import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from workflows.cli.info import lines, model_facts
from workflows.cli.options import shared

if TYPE_CHECKING:
    from eomt_core.describe import ModelInfo

EXAMPLE = """\b
Examples:
  eomt-batch models
  eomt-batch models pull tue-mps/ade20k_semantic_eomt_large_512 --out ade20k/"""

WIDEST = 60
"""Characters of class names that a line shows."""


@click.group(invoke_without_command=True, epilog=EXAMPLE)
@click.pass_context
def models(ctx: click.Context) -> None:
    """List, show and fetch models.

    Without a command: list.
    """
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_models, as_json=False)


@models.command("list", epilog="\b\nExample:\n  eomt-batch models list --json")
@shared("as_json", "verbose")
def list_models(as_json: bool) -> None:
    """List the models that come with the program, and those in the Hugging Face cache that can be used."""
    own, found = embedded(), cached()
    if as_json:
        click.echo(json.dumps({"embedded": own, "cached": found}))
        return
    click.echo("embedded:")
    for entry in own:
        click.echo(_line(entry))
    click.echo("cached:" if found else "cached: none that can be used")
    for entry in found:
        click.echo(_line(entry))


def _line(entry: dict[str, Any]) -> str:
    kinds, millions = ", ".join(entry["classes"]), entry["parameters"] / 1e6
    shown = kinds if len(kinds) <= WIDEST else f"{len(entry['classes'])} classes"
    return f"  {entry['id']}: {entry['task'] or 'no task stated'}, {shown}, {millions:.1f} M parameters"


def embedded() -> list[dict[str, Any]]:
    """The models that come with the program."""
    from eomt_core import location

    return [entry for name in location.embedded() if (entry := _entry(name, location.EMBEDDED / name))]


@models.command(epilog="\b\nExample:\n  eomt-batch models new")
@shared("as_json", "verbose")
def new(as_json: bool) -> None:
    """List what `finetune --model new:NAME` makes: size, cost, tiles.

    Ours, some of timm's names (others of plain ViTs will do), and those of the extra vit-pytorch.
    """
    from eomt_core.catalogue import NAMES

    entries = [_cost(name) for name in NAMES]
    click.echo(json.dumps(entries) if as_json else "\n".join(map(_cost_line, entries)))


def _cost(name: str) -> dict[str, Any]:
    """What a new model takes, or which extra it needs."""
    from eomt_core.catalogue import cost_of_new
    from eomt_core.errors import ModelError
    from pipeline.finetune.plan import TILE

    try:
        return cost_of_new(name, TILE)._asdict()
    except ModelError as error:
        return {"name": name, "missing": str(error)}


def _cost_line(entry: dict[str, Any]) -> str:
    if "missing" in entry:
        return f"new:{entry['name']}: {entry['missing']}"
    tiles = ", ".join(map(str, entry["sides"])) or f"multiples of {entry['lattice']}"
    return (
        f"new:{entry['name']}: {entry['parameters'] / 1e6:.1f} M parameters, {entry['flops'] / 1e9:.1f} GFLOPs "
        f"per tile of {entry['tile'][0]}x{entry['tile'][1]}, tiles of {tiles}"
    )


@models.command(epilog="\b\nExample:\n  eomt-batch models show ORG/NAME")
@click.argument("model", metavar="MODEL")
@shared("base", "as_json", "verbose")
def show(model: str, base: str | None, as_json: bool) -> None:
    """Show a model's card and architecture."""
    found = model_facts(model, base)
    click.echo(json.dumps(found) if as_json else "\n".join(lines(found)))


@models.command(epilog="\b\nExample:\n  eomt-batch models pull ORG/NAME@REV --out model/")
@click.argument("model", metavar="ID")
@click.option("--out", "-o", "folder", type=click.Path(path_type=Path), required=True, help="A new directory.")
@shared("base", "verbose")
def pull(model: str, folder: Path, base: str | None) -> None:
    """Fetch a model from the Hugging Face hub into a directory, for machines without a network.

    Weights stored as differences are checked against --base, and stay differences.
    """
    from eomt_core.describe import describe_model

    if folder.exists():
        raise click.UsageError(f"--out {folder}: is already there; take another name")
    _copy(describe_model(model, base), folder)
    click.echo(str(folder))


def cached() -> list[dict[str, Any]]:
    """Models of the Hugging Face cache whose files we can read."""
    from huggingface_hub import CacheNotFound, scan_cache_dir

    try:
        repositories = scan_cache_dir().repos
    except CacheNotFound:
        return []
    found = [
        _entry(repository.repo_id, revision.snapshot_path)
        for repository in sorted(repositories, key=lambda repository: str(repository.repo_id))
        if repository.repo_type == "model"
        for revision in repository.revisions
    ]
    return [entry for entry in found if entry]


def _entry(name: str, path: Path) -> dict[str, Any] | None:
    from eomt_core.base import WHOLE
    from eomt_core.describe import describe_model
    from eomt_core.errors import ModelError

    try:
        model = describe_model(path, WHOLE)  # what is listed of differences does not depend on their base
    except ModelError:  # another kind of model
        return None
    card = model.card
    return {
        "id": name,
        "path": str(path),
        "task": card.default_task,
        "classes": list(card.classes),
        "parameters": model.parameters,
    }


def _copy(model: "ModelInfo", folder: Path) -> None:
    """Copy a model's files; the directory appears when it is whole."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    # A new one beside it: no folder is deleted that is not known to be ours.
    with TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as made:
        partial = Path(made) / "model"
        partial.mkdir()
        for file in model.files:
            shutil.copyfile(file, partial / file.name)
        partial.rename(folder)
