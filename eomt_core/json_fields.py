"""Frozen dataclasses from JSON objects, checked field by field."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any, TypeVar

from eomt_core.errors import ModelError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    T = TypeVar("T", bound=DataclassInstance)
else:
    T = TypeVar("T")


def read_fields(cls: type[T], values: Mapping[str, Any], what: str) -> T:
    """Make a dataclass of a parsed JSON object; fields with a default may be left out.

    Args:
        cls: the dataclass; its field types must be among those of `_READERS`.
        values: the object.
        what: what this is, for messages.

    Raises:
        ModelError: a field is missing, unknown, or of another kind; the message names it.
    """
    readers = {field.name: _READERS[field.type] for field in fields(cls)}
    required = {field.name for field in fields(cls) if field.default is MISSING}
    if unknown := sorted(values.keys() - readers.keys()):
        raise ModelError(f"{what}: unknown fields {', '.join(unknown)}; the known ones are {', '.join(readers)}")
    if missing := sorted(required - values.keys()):
        raise ModelError(f"{what}: missing fields {', '.join(missing)}")
    return cls(**{name: _read_field(what, name, readers[name], value) for name, value in values.items()})


def read_object(text: str, what: str) -> dict[str, Any]:
    """Parse a JSON object.

    Raises:
        ModelError: it is not one.
    """
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{what}: no JSON ({error})") from error
    if not isinstance(values, dict):
        raise ModelError(f"{what}: a JSON object was expected, got {type(values).__name__}")
    return values


def _read_field(what: str, name: str, reader: Callable[[Any], Any], value: Any) -> Any:
    try:
        return reader(value)
    except (TypeError, ValueError) as error:
        raise ModelError(f"{what}: field {name} cannot be {value!r}: {error}") from error


def _exactly(kind: type) -> Callable[[Any], Any]:
    """Make a reader of one JSON type; true and false are no numbers here."""

    def read(value: Any) -> Any:
        if type(value) is not kind:
            raise TypeError(f"{kind.__name__} was expected")
        return value

    return read


def _number(value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise TypeError("a finite number was expected")
    return float(value)


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise TypeError("a count was expected")
    return value


def _several(reader: Callable[[Any], Any], length: int | None = None) -> Callable[[Any], Any]:
    """Make a reader of a JSON list, of any length or of one."""

    def read(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list) or length not in (None, len(value)):
            raise TypeError("a list was expected" if length is None else f"a list of {length} was expected")
        return tuple(reader(item) for item in value)

    return read


def _pairs(value: Any) -> Any:
    """Read a list of pairs; a single pair may stand without its outer list."""
    if isinstance(value, list) and value and not isinstance(value[0], list):
        value = [value]
    return _several(_several(_number, 2))(value)


def _number_or_none(value: Any) -> float | None:
    return None if value is None else _number(value)


_READERS: dict[Any, Callable[[Any], Any]] = {
    str: _exactly(str),
    bool: _exactly(bool),
    int: _count,
    float: _number,
    float | None: _number_or_none,
    tuple[str, ...]: _several(_exactly(str)),
    tuple[int, ...]: _several(_count),
    tuple[int, int]: _several(_count, 2),
    tuple[float, ...]: _several(_number),
    tuple[tuple[float, float], ...]: _pairs,
}
