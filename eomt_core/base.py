"""The weights of DINOv3 that published EoMTs are stored as differences from.

The licence of DINOv3 lets nobody pass its weights on, so a file of this kind says by how much training has moved each
number of the encoder; what is outside of the encoder is stored as it is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eomt_core.errors import ModelError
from eomt_core.formats import SHAPES, dinov3_to_own
from eomt_core.headers import Shape, read_shapes, read_values
from eomt_core.location import find_files

WHOLE = "none"
"""In place of a base: the model's weights are whole."""

_NEAR_ZERO = 0.05
"""Largest number in a class token that is only a difference; those that were trained go beyond it."""

_SIZES = {384: "vits16", 768: "vitb16", 1024: "vitl16"}


@dataclass(frozen=True)
class Base:
    """Weights of an encoder.

    Attributes:
        path: their directory or file, or `WHOLE` where there is none because none is needed.
        weights: files with tensors.
    """

    path: str
    weights: tuple[Path, ...] = ()


def choose_base(asked: str | Path | None, weights: Sequence[Path], own: Mapping[str, Shape]) -> Base | None:
    """Decide whether weights with rotary positions are differences, and from what.

    Differences are known by their class token: it is nearer to zero than to the base's, or near zero where no base is
    given.

    Args:
        asked: what the user gives: a directory, a file, a hub id, `WHOLE`, or nothing.
        weights: the model's files with tensors.
        own: the model's shapes, by own name.

    Raises:
        ModelError: the weights are differences and there is no base, or not the right one; or they are whole.
    """
    if asked is not None and str(asked) == WHOLE:
        return Base(WHOLE)
    token = _class_token(weights)
    if asked is None:
        if np.abs(token).max() > _NEAR_ZERO:
            return None
        raise ModelError(
            f"its weights are differences from {_repository(own)}: give that directory with --base, "
            f"or --base {WHOLE} if they are whole"
        )
    base = _find(asked, own)
    if np.linalg.norm(token - _class_token(base.weights)) < np.linalg.norm(token):
        raise ModelError(f"its weights are whole, not differences from --base {asked}: leave the base out")
    return base


def _find(asked: str | Path, own: Mapping[str, Shape]) -> Base:
    """Find a base, and check that it has every tensor of the encoder."""
    try:
        found = find_files(asked)
        shapes = {name: shape for file in found.weights for name, shape in read_shapes(file).items()}
        _check(dinov3_to_own(shapes, SHAPES), own)
    except ModelError as error:
        raise ModelError(f"--base {asked}: {str(error).removeprefix(f'model {asked}: ')}") from error
    return Base(str(found.path.absolute()), found.weights)


def _check(theirs: Mapping[str, Shape], own: Mapping[str, Shape]) -> None:
    """Check that a base has what the encoder has."""
    for name, shape in own.items():
        if name.startswith("encoder.backbone.") and theirs.get(name) != shape:
            there = f"is {theirs[name]}" if name in theirs else "is missing"
            raise ModelError(f"{name} {there}, the model has {shape}; give {_repository(own)}")


def _class_token(weights: Sequence[Path]) -> NDArray[np.float32]:
    """Read the class token: (D,)."""
    holders = ((file, name) for file in weights for name in read_shapes(file) if name.endswith("cls_token"))
    return read_values(*next(holders))


def _repository(own: Mapping[str, Shape]) -> str:
    """The hub's name of the base, by the width of a token."""
    dim = own["q.weight"][1]
    return f"facebook/dinov3-{_SIZES[dim]}-pretrain-lvd1689m" if dim in _SIZES else f"a DINOv3 of width {dim}"
