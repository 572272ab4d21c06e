"""What a model is, from the headers of its files alone: no torch, no weights in memory."""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from eomt_core.base import WHOLE, Base, choose_base
from eomt_core.card import IMAGENET_MEAN, IMAGENET_STD, Architecture, ModelCard, PaletteArchitecture, default_task
from eomt_core.errors import ModelError
from eomt_core.family import FamilyArchitecture
from eomt_core.formats import SHAPES, Format, detect_format, is_rotary, to_own
from eomt_core.headers import Shape, read_shapes
from eomt_core.json_fields import read_fields, read_object
from eomt_core.labels import labels_for
from eomt_core.location import OWN_CARD, ModelFiles, find_files
from eomt_core.shapes import check_shapes, infer_architecture

Kind = TypeVar("Kind", Architecture, PaletteArchitecture, FamilyArchitecture)

CARD_FORMAT = 1
_PLACEHOLDER = re.compile(r"LABEL_\d+")


@dataclass(frozen=True)
class ModelInfo:
    """What a model is.

    Attributes:
        path: its directory or file.
        format: the spelling of its tensor names.
        files: every file of its own that decides what it computes.
        weights: those that hold tensors.
        parameters: numbers in those tensors.
        architecture: what its tensors are.
        card: what it was trained for; made up from the architecture where the model brings none.
        base: what its weights are differences from, or `WHOLE`, if that had to be said.
    """

    path: Path
    format: Format
    files: tuple[Path, ...]
    weights: tuple[Path, ...]
    parameters: int
    architecture: Architecture | PaletteArchitecture | FamilyArchitecture
    card: ModelCard
    base: Base | None = None

    def sha256(self) -> str:
        """Hash names and contents of all files, and of the base's weights; the same wherever they lie."""
        total = hashlib.sha256()
        for file in (*self.files, *(self.base.weights if self.base else ())):
            with file.open("rb") as stream:
                total.update(f"{file.name}:{hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
        return total.hexdigest()


def describe_model(location: str | Path, base: str | Path | None = None) -> ModelInfo:
    """Read off the files of a model what it is, and check that its weights are complete.

    Args:
        location: a directory (own, Hugging Face, reference), a `.safetensors`, `.bin` or `.ckpt` file, or a hub id
            `ORG/NAME[@REV]`, asked for only if no such path exists.
        base: the weights that a model of differences is relative to, found likewise; `none`: its weights are whole.

    Raises:
        ModelError: no such model; damaged, hostile, incomplete or unsupported weights; one line that says which.
    """
    files = find_files(location)
    try:
        return _describe(files, base)
    except ModelError as error:
        message = str(error)
        raise ModelError(message if message.startswith(str(files.path)) else f"{files.path}: {message}") from error


def card_text(architecture: Architecture | PaletteArchitecture | FamilyArchitecture, card: ModelCard) -> str:
    """Return what the file `eomt_batch.json` of our own format holds."""
    content = {"format": CARD_FORMAT, "card": asdict(card), "architecture": asdict(architecture)}
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _describe(files: ModelFiles, base: str | Path | None) -> ModelInfo:
    shapes = _all_shapes(files)
    config = _read_config(files)
    published = is_rotary(shapes) and OWN_CARD not in files.configs
    if base not in (None, WHOLE) and not published:
        raise ModelError(f"its weights are whole, not differences from --base {base}: leave the base out")
    if set(shapes) == {"colours"}:
        return _describe_palette(files, shapes["colours"])
    if _is_family(files):
        return _describe_family(files, shapes)
    spelling = detect_format(shapes)
    own = {name: shape for name, shape in to_own(shapes, SHAPES).items() if 0 not in shape}
    own_card = _read_own_card(files, Architecture)
    architecture = infer_architecture(own, asdict(own_card[0]) if own_card else _stated(config))
    check_shapes(own, architecture, spelling)
    card = own_card[1] if own_card else _made_up_card(files, architecture, config)
    card.check_fits(architecture)
    added = choose_base(base, files.weights, own) if published else None
    return ModelInfo(files.path, spelling, files.all, files.weights, _count(shapes), architecture, card, added)


def _describe_palette(files: ModelFiles, shape: Shape) -> ModelInfo:
    """Describe the model of `eomt_core.palette`, whose only tensor is its colours."""
    own = _read_own_card(files, PaletteArchitecture)
    if own is None:
        raise ModelError(f"a palette model needs its card; {OWN_CARD} is missing")
    architecture, card = own
    if shape != (architecture.num_classes, architecture.in_channels):
        raise ModelError(f"its colours are {shape}, its card says {architecture.num_classes, architecture.in_channels}")
    card.check_fits(architecture)
    return ModelInfo(files.path, "own", files.all, files.weights, math.prod(shape), architecture, card)


def _is_family(files: ModelFiles) -> bool:
    """Whether the card says that the encoder is not timm's plain ViT."""
    path = files.configs.get(OWN_CARD)
    architecture = _read_object(path).get("architecture") if path else None
    return isinstance(architecture, dict) and "family" in architecture


def _describe_family(files: ModelFiles, shapes: Mapping[str, Shape]) -> ModelInfo:
    """Describe a model of `eomt_core.family`; its tensors are counted here and held against its names when loaded."""
    own = _read_own_card(files, FamilyArchitecture)
    assert own is not None
    architecture, card = own
    if _count(shapes) != architecture.parameters:
        raise ModelError(
            f"its weights hold {_count(shapes)} numbers, its card says {architecture.parameters}; "
            f"the files are not those of one whole model, fetch them again"
        )
    card.check_fits(architecture)
    return ModelInfo(files.path, "own", files.all, files.weights, _count(shapes), architecture, card)


def _count(shapes: Mapping[str, Shape]) -> int:
    return sum(map(math.prod, shapes.values()))


def _all_shapes(files: ModelFiles) -> dict[str, Shape]:
    """Read the shapes in all weight files."""
    shapes: dict[str, Shape] = {}
    for file in files.weights:
        found = read_shapes(file)
        if twice := sorted(found.keys() & shapes.keys()):
            raise ModelError(f"{twice[0]} is in two shards")
        shapes |= found
    return shapes


def _read_config(files: ModelFiles) -> dict[str, Any]:
    path = files.configs.get("config.json")
    return _read_object(path) if path else {}


def _read_object(path: Path) -> dict[str, Any]:
    try:
        return read_object(path.read_text(encoding="utf-8"), path.name)
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{path.name} cannot be read: {error}") from error


def _read_own_card(files: ModelFiles, kind: type[Kind]) -> tuple[Kind, ModelCard] | None:
    """Read `eomt_batch.json`, if there is one."""
    path = files.configs.get(OWN_CARD)
    if path is None:
        return None
    content = _read_object(path)
    if content.get("format") != CARD_FORMAT:
        raise ModelError(f"{OWN_CARD} has format {content.get('format')!r}, this version reads {CARD_FORMAT}")
    if unknown := sorted(content.keys() - {"format", "card", "architecture"}):
        raise ModelError(f"{OWN_CARD} has unknown entries {', '.join(unknown)}")
    parts = [content.get(name) for name in ("architecture", "card")]
    if not all(isinstance(part, dict) for part in parts):
        raise ModelError(f"{OWN_CARD} needs the objects architecture and card")
    architecture, card = (part or {} for part in parts)
    return (
        read_fields(kind, architecture, f"{OWN_CARD}, architecture"),
        read_fields(ModelCard, card, f"{OWN_CARD}, card"),
    )


def _stated(config: Mapping[str, Any]) -> dict[str, Any]:
    """Pick from a Hugging Face or reference configuration what shapes cannot tell."""
    if config.get("hidden_act", "gelu") != "gelu":
        raise ModelError(f"config.json states the activation {config['hidden_act']!r}; only gelu is supported")
    rope = config.get("rope_parameters") or {}
    if not isinstance(rope, dict) or rope.get("rope_type", "default") != "default":
        raise ModelError(f"config.json states rope_parameters {rope}; only those of rope_type default are supported")
    names = {"num_attention_heads": "num_heads", "num_register_tokens": "num_registers", "num_blocks": "num_blocks"}
    stated: dict[str, Any] = {own: _integer(config, name) for name, own in names.items() if name in config}
    if "layer_norm_eps" in config:
        stated["norm_eps"] = _number(config, "layer_norm_eps")
    if "rope_theta" in rope:
        stated["rope_theta"] = _number(rope, "rope_theta", most=1e9)
    if "image_size" in config:
        size = config["image_size"]
        pair = size if isinstance(size, list) and len(size) == 2 else [size, size]
        stated["image_size"] = tuple(_integer({"image_size": length}, "image_size") for length in pair)
    return stated


def _integer(config: Mapping[str, Any], name: str) -> int:
    value = config[name]
    if type(value) is not int or value < 0:
        raise ModelError(f"config.json: {name} cannot be {value!r}")
    return value


def _number(config: Mapping[str, Any], name: str, most: float = 1.0) -> float:
    value = config[name]
    if not isinstance(value, int | float) or not 0 < value < most:
        raise ModelError(f"config.json: {name} cannot be {value!r}")
    return float(value)


def _made_up_card(files: ModelFiles, architecture: Architecture, config: Mapping[str, Any]) -> ModelCard:
    """Make a card for weights that bring none: names by class count, pixels as the field normalises them."""
    count = architecture.num_classes
    labels = labels_for(count, default_task(count))
    names = _names_in(config, count) or (labels.classes if labels else tuple(f"class_{i}" for i in range(count)))
    known = labels is not None and names == labels.classes
    things = labels.things if labels and known else tuple(range(count))
    mean, std = _statistics(files, architecture.in_channels)
    return ModelCard(name=files.name, classes=names, things=things, mean=mean, std=std)


def _names_in(config: Mapping[str, Any], count: int) -> tuple[str, ...] | None:
    """Return the class names of a configuration, unless they are the placeholders that a converter writes."""
    labels = config.get("id2label")
    if not isinstance(labels, dict) or set(labels) != {str(index) for index in range(count)}:
        return None
    names = tuple(str(labels[str(index)]) for index in range(count))
    return None if all(_PLACEHOLDER.fullmatch(name) for name in names) else names


def _statistics(files: ModelFiles, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and std per band: the preprocessor's, else ImageNet's, whose average stands for other bands."""
    path = files.configs.get("preprocessor_config.json")
    config = _read_object(path) if path else {}
    if config.get("do_normalize") is False:
        return (0.0,) * channels, (1.0,) * channels
    found = (config.get("image_mean", IMAGENET_MEAN), config.get("image_std", IMAGENET_STD))
    try:
        mean, std = (tuple(float(value) for value in values) for values in found)
    except (TypeError, ValueError) as error:
        raise ModelError(f"preprocessor_config.json: image_mean and image_std cannot be {found} ({error})") from error
    if len(mean) == len(std) == channels:
        return mean, std
    return (sum(mean) / len(mean),) * channels, (sum(std) / len(std),) * channels
